"""Evidence packages: what verifies with the ledger alone, and that nothing else does."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ledger import evidence_manifest, note
from ledger.cli import main
from ledger.errors import InputError
from ledger.evidence_package import (
    Cut,
    NotFinalYetError,
    PackageContentsError,
    PackageForkError,
)
from ledger.evidence_subject import RoundSubject
from ledger.evidence_verify import verify_package
from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.memory import MemoryStorage
from ledger.policy import Policy, PolicyLog
from tests.ledger.packaging import (
    DERIVED,
    PLAN,
    ended,
    entries_of,
    failure,
    packaged,
    with_entries,
    with_manifest,
    written,
)

# -- what verifies -------------------------------------------------------------------------------------


def test_a_package_verifies_on_a_machine_that_has_nothing_but_the_ledger(members, tmp_path):
    path = written(tmp_path, members)
    with verify_package(path) as found:
        assert [check.name for check in found.report.checks] == [
            "package", "manifest", "keys", "checkpoint", "signature", "quorum", "entries", "tiles", "root",
            "events", "consistency", "founding", "end",
        ]  # fmt: skip
        assert all(check.outcome == "passed" for check in found.report.checks)
        assert (found.manifest.size, found.report.size) == (271, 274)
        assert found.payload("accounting.json") == DERIVED["accounting.json"]
        assert len(list(found.entries())) == 271
    blocked = (
        "import sys\n"
        "class No:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in {'policies', 'privacy', 'adapters', 'tasks', 'flows', 'wardround'}:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, No())\n"
        "from ledger.cli import main\n"
        "sys.exit(main(['verify', sys.argv[1]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", blocked, path],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "13. ok" in done.stdout and "verified: ledger.example/wards" in done.stdout


def test_an_ordinary_unzip_reads_it(members, tmp_path):
    with zipfile.ZipFile(written(tmp_path, members)) as packed:
        assert packed.testzip() is None
        assert packed.namelist() == sorted(members)


def test_keys_from_the_members_are_trusted_instead_of_the_package_s(members, make_federation, tmp_path):
    path, federation = written(tmp_path, members), make_federation()
    with verify_package(path, log_vkey=federation.log.vkey, policy=federation.policy) as found:
        assert not found.report.trusted_on_first_use
    with verify_package(path) as found:
        assert found.report.trusted_on_first_use
    other = Log.create(MemoryStorage(), origin=federation.log.origin, signer=MemorySigner("x", seed=b"x"))
    assert failure(path, log_vkey=other.vkey) == "keys"


def test_the_command_says_what_was_checked_and_which_check_failed(members, tmp_path, capsys):
    path = written(tmp_path, members)
    assert main(["verify", str(path)]) == 0
    assert "wardround evidence verify" in capsys.readouterr().out
    tampered = {**members, "payload/accounting.json": b'{"pools":[1]}'}
    assert main(["verify", str(written(tmp_path, tampered)), "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["checks"][-1]["name"] == "manifest"
    assert "ledger.verify.manifest" in err and "payload/accounting.json" in err


# -- stories of attack ---------------------------------------------------------------------------------


def test_the_last_reservation_cannot_be_left_out_even_with_a_fitting_manifest(members, tmp_path):
    """A coordinator hides a use of a pool: it drops the entry, and recomputes tiles, root and manifest."""
    entries = entries_of(written(tmp_path, members))
    hidden = with_entries(members, [*entries[:-2], entries[-1]])
    assert failure(written(tmp_path, hidden)) == "consistency"
    # To end the ledger before the reservation leaves a ledger that ends no round.
    short = with_entries(members, entries[:-2])
    assert failure(written(tmp_path, short)) in ("consistency", "end")


def test_no_entry_can_be_changed_even_with_a_fitting_manifest(members, tmp_path):
    entries = entries_of(written(tmp_path, members))
    swapped = with_entries(members, [*entries[:9], entries[10], entries[9], *entries[11:]])
    assert failure(written(tmp_path, swapped)) == "consistency"  # two sites' events, each sound in itself
    other = bytearray(entries[9])
    other[-9] ^= 1  # within the signature
    forged = with_entries(members, [*entries[:9], bytes(other), *entries[10:]])
    assert failure(written(tmp_path, forged)) == "events"


def test_no_entry_can_be_added(members, make_federation, make_author, tmp_path):
    entries = entries_of(written(tmp_path, members))
    federation = make_federation()
    cut = ended(federation)
    more = federation.coordinator.event("gate.verdict", {"plan_digest": PLAN, "round": 2, "passed": False})
    added = with_manifest(with_entries(members, [*entries, more]), subject=RoundSubject(PLAN, 2))
    assert cut.size == len(entries)
    assert failure(written(tmp_path, added)) == "consistency"


def test_the_checkpoint_of_another_log_proves_nothing(members, make_federation, tmp_path):
    other = make_federation()
    other.log_signer = MemorySigner("log", seed=b"another")
    other.log = Log.create(MemoryStorage(), origin="ledger.example/other", signer=other.log_signer)
    other.log.append([b"x"] * 280)
    swapped = {**members, "detached/checkpoint": other.log.checkpoint()}
    assert failure(written(tmp_path, swapped)) in ("checkpoint", "signature")
    # With the other log's key beside it, it is not cosigned; with its own witnesses, it is not this history.
    swapped["detached/log.vkey"] = f"{other.log.vkey}\n".encode()
    assert failure(written(tmp_path, swapped)) == "keys"


def test_the_same_log_s_other_history_proves_nothing(members, make_federation, tmp_path):
    """A hostile quorum's checkpoint over entries that this ledger never had."""
    forked = make_federation()
    forked.grow(280)
    swapped = {**members, "detached/checkpoint": forked.cosign()}
    assert failure(written(tmp_path, swapped)) == "consistency"


def test_the_same_tree_under_another_log_s_name_proves_nothing(members, tmp_path):
    entries = entries_of(written(tmp_path, members))
    signer = MemorySigner("log", seed=b"another")
    other = Log.create(MemoryStorage(), origin="ledger.example/other", signer=signer)
    other.append(entries)
    lonely = {
        **members,
        "detached/checkpoint": other.checkpoint(),
        "detached/consistency": b"old 271\n",
        "detached/log.vkey": f"{other.vkey}\n".encode(),
    }
    assert failure(written(tmp_path, lonely)) == "keys"
    trust = {"policy": Policy((PolicyLog(note.parse_vkey(other.vkey)),), (), (), "none")}
    assert failure(written(tmp_path, lonely), **trust) == "consistency"


def test_a_proof_from_another_size_is_not_this_package_s(members, tmp_path):
    proof = members["detached/consistency"]
    assert proof.startswith(b"old 271\n")
    for changed in (proof.replace(b"271", b"270", 1), proof + b"\n", proof[:-1], b"", b"old 271\n"):
        assert failure(written(tmp_path, {**members, "detached/consistency": changed})) == "consistency"


def test_a_checkpoint_without_a_quorum_is_refused(members, make_federation, tmp_path):
    federation = make_federation()
    cut = ended(federation)
    lonely = federation.cosign(names=("site-a",))
    with zipfile.ZipFile(io.BytesIO(packaged(federation, cut, final_checkpoint=lonely))) as packed:
        files = {name: packed.read(name) for name in packed.namelist()}
    assert failure(written(tmp_path, files)) == "quorum"


def test_a_weaker_quorum_does_not_travel_with_the_evidence(members, tmp_path):
    policy = members["detached/policy"]
    weaker = policy.replace(b" 3 ", b" 1 ", 1)
    assert weaker != policy
    assert failure(written(tmp_path, {**members, "detached/policy": weaker})) == "keys"


def test_a_package_is_of_the_round_that_it_says(members, tmp_path):
    assert failure(written(tmp_path, with_manifest(members, subject=RoundSubject(PLAN, 2)))) == "end"
    assert failure(written(tmp_path, with_manifest(members, subject=RoundSubject("cd" * 32, 1)))) == "end"
    assert failure(written(tmp_path, with_manifest(members, origin="ledger.example/other"))) == "events"


@pytest.mark.parametrize("passed", [True, "false", 1, None])
def test_a_round_ends_with_a_refusal_or_a_registration(make_federation, tmp_path, passed):
    federation = make_federation()
    federation.grow(5)
    body = {"plan_digest": PLAN, "round": 1, "passed": passed}
    federation.log.append([federation.coordinator.event("gate.verdict", body)])
    cut = Cut(subject=RoundSubject(PLAN, 1), size=6)
    (tmp_path / "package.zip").write_bytes(packaged(federation, cut))
    assert failure(tmp_path / "package.zip") == "end"


def test_no_other_event_ends_a_round(make_federation, tmp_path):
    federation = make_federation()
    federation.grow(5)
    federation.log.append(
        [
            federation.sites["site-a"].event(
                "budget.reserved", {"plan_digest": PLAN, "round": 1, "passed": False}
            )
        ]
    )
    cut = Cut(subject=RoundSubject(PLAN, 1), size=6)
    (tmp_path / "package.zip").write_bytes(packaged(federation, cut))
    assert failure(tmp_path / "package.zip") == "end"


# -- building ------------------------------------------------------------------------------------------


def test_nothing_is_packed_that_is_not_final(make_federation):
    federation = make_federation()
    federation.grow(5)
    early = federation.cosign()
    cut = ended(federation, entries=2)
    with pytest.raises(NotFinalYetError):
        packaged(federation, cut, final_checkpoint=early)


def test_nothing_is_packed_under_another_history_s_checkpoint(make_federation):
    federation, forked = make_federation(), make_federation()
    cut = ended(federation, entries=5)
    forked.grow(6)
    with pytest.raises(PackageForkError):
        packaged(federation, cut, final_checkpoint=forked.cosign())


def test_nothing_takes_the_place_of_the_ledger(make_federation):
    federation = make_federation()
    cut = ended(federation, entries=5)
    for derived in ({"manifest.json": b""}, {"ledger/tile/0/000": b""}):
        with pytest.raises(PackageContentsError):
            packaged(federation, cut, derived=derived)
    with pytest.raises(PackageContentsError):
        packaged(federation, cut, extras={"anything": b""})


def test_a_later_checkpoint_leaves_the_payload_as_it_was(make_federation):
    federation = make_federation()
    cut = ended(federation, entries=20)

    def payload() -> dict[str, bytes]:
        with zipfile.ZipFile(io.BytesIO(packaged(federation, cut))) as packed:
            return {name: packed.read(name) for name in packed.namelist() if name.startswith("payload/")}

    first = payload()
    federation.grow(400)
    assert payload() == first


@pytest.mark.parametrize(
    "changed",
    [
        {"schema_version": 2},
        {"size": -1},
        {"size": "1"},
        {"size": True},
        {"round": 1001},
        {"root": "AB" * 32},
        {"plan_digest": ""},
        {"origin": ""},
        {"files": []},
        {"files": {"x": {"sha256": "ab" * 32}}},
        {"files": {"x": {"sha256": "ab" * 32, "size": True}}},
        {"more": 1},
    ],
)
def test_a_manifest_is_exactly_its_format(members, changed):
    value = json.loads(members["payload/manifest.json"])
    data = json.dumps({**value, **changed}, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(InputError):
        evidence_manifest.parse(data)
