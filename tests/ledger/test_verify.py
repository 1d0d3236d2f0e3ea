"""Offline verification: what it checks, in which order, and that nothing altered passes."""

from __future__ import annotations

import hashlib
import shutil
import struct
from pathlib import Path

import pytest

from ledger import checkpoint, note, tree
from ledger.checkpoint import Checkpoint
from ledger.errors import InputError
from ledger.event import NO_PREVIOUS
from ledger.export import export
from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.memory import MemoryStorage
from ledger.policy import parse_policy, quorum_policy
from ledger.report import VerificationFailedError
from ledger.verify import verify_directory

CHECKS = ["keys", "checkpoint", "signature", "quorum", "entries", "tiles", "root", "events", "founding"]


@pytest.fixture(scope="module")
def built(make_federation, tmp_path_factory):
    """An export of 300 entries, cosigned by three of four, that first was one of 20."""
    federation, directory = make_federation(), tmp_path_factory.mktemp("built") / "ledger"
    federation.grow(20)
    export(federation.log, directory, federation.cosign(), policy=federation.policy)
    federation.grow(280)
    export(
        federation.log, directory, federation.cosign(["site-a", "site-b", "site-c"]), policy=federation.policy
    )
    return directory, federation


@pytest.fixture
def large(built, tmp_path):
    return Path(shutil.copytree(built[0], tmp_path / "large"))


@pytest.fixture
def exported(federation, tmp_path):
    """The same, with 8 and 20 entries."""
    directory = tmp_path / "ledger"
    federation.grow(8)
    export(federation.log, directory, federation.cosign(), policy=federation.policy)
    federation.grow(12)
    export(
        federation.log, directory, federation.cosign(["site-a", "site-b", "site-c"]), policy=federation.policy
    )
    return directory


def failure(directory, **options):
    with pytest.raises(VerificationFailedError) as caught:
        verify_directory(directory, **options)
    error = caught.value
    assert not error.report.ok and error.report.checks[-1].outcome == "failed"
    assert error.report.checks[-1].number == error.number == len(error.report.checks)
    return error.code.removeprefix("ledger.verify."), error.index


def flip(path, at=-1):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


# -- what passes ---------------------------------------------------------------------------------------------


def test_a_good_export_passes_every_check(large, built):
    done = []
    federation = built[1]
    report = verify_directory(large, progress=lambda part, whole: done.append((part, whole)))
    assert [check.name for check in report.checks] == CHECKS
    assert {check.outcome for check in report.checks} == {"passed"}
    assert (report.origin, report.size, report.root) == (federation.log.origin, 300, federation.log.root)
    assert report.cosigners == ("site-a/witness", "site-b/witness", "site-c/witness")
    assert report.trusted_on_first_use and "trust on first use" in report.notices[0]
    assert done == [(256, 300), (300, 300)]
    assert report.to_json()["ok"] is True


def test_keys_from_outside_leave_nothing_to_trust_on_first_use(exported, federation):
    report = verify_directory(exported, log_vkey=federation.log.vkey, policy=federation.policy)
    assert not report.trusted_on_first_use and report.notices == []


def test_a_log_of_another_implementation_can_be_read(tmp_path):
    """Written here by hand from the specifications, with entries that are no events."""
    signer = MemorySigner("other", seed=b"other")
    entries = [b"%d" % number for number in range(257)]
    leaves = [hashlib.sha256(b"\0" + entry).digest() for entry in entries]
    for path, data in {
        "tile/entries/000": b"".join(struct.pack(">H", len(entry)) + entry for entry in entries[:256]),
        "tile/entries/001.p/1": struct.pack(">H", 3) + b"256",
        "tile/0/000": b"".join(leaves[:256]),
        "tile/0/001.p/1": leaves[256],
        "tile/1/000.p/1": tree.perfect_root(leaves[:256]),
        "checkpoint": checkpoint.sign(
            Checkpoint("their.example/log", 257, tree.root_of(leaves), ("x",)), signer
        )
        + note.sign(b"", "someone.else", MemorySigner("y")).line(),
        "index.html": b"not ours to judge",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(data)
    report = verify_directory(tmp_path, log_vkey=str(note.vkey_of("their.example/log", signer)))
    outcomes = {check.name: check.outcome for check in report.checks}
    assert [name for name in CHECKS if outcomes[name] == "skipped"] == ["quorum", "events", "founding"]
    assert report.notices == ["1 signatures of unknown keys were ignored"]
    assert failure(tmp_path, log_vkey=str(note.vkey_of("their.example/log", signer)), events="require") == (
        "events",
        0,
    )


def test_tiles_published_ahead_of_the_checkpoint_are_named(exported, federation, tmp_path):
    old = (exported / "checkpoint").read_bytes()
    federation.grow(10)
    export(federation.log, exported, federation.cosign(), policy=federation.policy)
    (exported / "checkpoint").write_bytes(old)
    report = verify_directory(exported)
    assert report.size == 20 and "beyond the checkpoint" in report.notices[-1]


def test_an_empty_log_verifies(federation, tmp_path):
    export(federation.log, tmp_path / "x")
    assert verify_directory(tmp_path / "x").size == 0


# -- what does not -------------------------------------------------------------------------------------------


def test_a_folder_that_is_no_export_is_bad_input(tmp_path, exported):
    with pytest.raises(InputError):
        verify_directory(tmp_path)
    (exported / "log.vkey").unlink()
    (exported / "policy").unlink()
    with pytest.raises(InputError) as caught:
        verify_directory(exported)
    assert caught.value.code == "ledger.verify.no-key"
    with pytest.raises(InputError):
        verify_directory(exported, log_vkey="nonsense")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("policy", ("keys", None)),
        ("log.vkey", ("keys", None)),
        ("checkpoint", ("checkpoint", None)),
        ("tile/entries/000", ("entries", 255)),
        ("tile/entries/001.p/44", ("entries", 299)),
        ("tile/0/000", ("entries", 255)),
        ("tile/1/000.p/1", ("tiles", 0)),
    ],
)
def test_a_changed_file_fails_its_check(large, path, expected):
    flip(large / path, at=-2)
    assert failure(large) == expected


@pytest.mark.parametrize("path", ["tile/entries/000", "tile/0/001.p/44", "tile/1/000.p/1"])
def test_a_missing_or_truncated_file_fails(large, path):
    data = (large / path).read_bytes()
    (large / path).write_bytes(data[:-1])
    assert failure(large)[0] in ("entries", "tiles")
    (large / path).unlink()
    assert failure(large)[0] in ("entries", "tiles")


def test_files_of_older_sizes_are_checked_too(large):
    for path in ("tile/0/000.p/20", "tile/entries/000.p/20"):
        (large / path).parent.mkdir(exist_ok=True)
    (large / "tile/0/000.p/20").write_bytes((large / "tile/0/000").read_bytes()[:640])
    verify_directory(large)
    flip(large / "tile/0/000.p/20")
    assert failure(large) == ("tiles", 0)
    (large / "tile/0/000.p/20").unlink()
    (large / "tile/entries/000.p/20").write_bytes(b"\0\1a" * 20)
    assert failure(large) == ("tiles", 0)


def test_a_stray_file_among_the_tiles_fails(exported):
    (exported / "tile/0/0").write_bytes(b"")
    assert failure(exported) == ("tiles", None)


def test_swapped_tiles_fail(federation, tmp_path):
    log = Log.create(MemoryStorage(), origin=federation.log.origin, signer=federation.log_signer)
    log.append([b"%d" % number for number in range(520)])
    export(log, tmp_path / "x")
    first, second = tmp_path / "x/tile/entries/000", tmp_path / "x/tile/entries/001"
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two)
    second.write_bytes(one)
    assert failure(tmp_path / "x") == ("entries", 0)


def test_the_log_key_must_be_the_right_one(exported, federation):
    other = str(note.vkey_of(federation.log.origin, MemorySigner("x")))
    assert failure(exported, log_vkey=other)[0] == "keys"
    vkeys = [witness.vkey for witness in federation.witnesses.values()]
    assert failure(exported, policy=quorum_policy(other, vkeys))[0] == "keys"
    (exported / "policy").unlink()
    assert failure(exported, log_vkey=other)[0] == "keys"
    (exported / "log.vkey").unlink()
    assert failure(exported, log_vkey=other)[0] == "signature"


def test_the_founding_event_names_the_log_key(federation, tmp_path):
    """The same entries under a key that the members did not agree on."""
    federation.grow(5)
    log = Log.create(MemoryStorage(), origin=federation.log.origin, signer=MemorySigner("usurper"))
    log.append(list(federation.log.entries(0, 5)))
    export(log, tmp_path / "x")
    assert failure(tmp_path / "x") == ("founding", 0)


def test_a_signed_root_that_is_not_the_entries_fails(exported, federation):
    (exported / "policy").unlink()
    head = Checkpoint(federation.log.origin, 20, bytes(32))
    (exported / "checkpoint").write_bytes(checkpoint.sign(head, federation.log_signer))
    assert failure(exported) == ("root", None)


def test_a_full_tile_above_the_leaves_is_compared_too(tmp_path):
    log = Log.create(MemoryStorage(), origin="ledger.example/plain", signer=MemorySigner("log"))
    log.append([b"%d" % number for number in range(65_537)])
    export(log, tmp_path / "x")
    assert verify_directory(tmp_path / "x").size == 65_537
    flip(tmp_path / "x/tile/1/000")
    assert failure(tmp_path / "x") == ("tiles", 0)
    (tmp_path / "x/tile/1/000").write_bytes(bytes(8193))
    assert failure(tmp_path / "x") == ("tiles", 0)
    (tmp_path / "x/tile/1/000").unlink()
    assert failure(tmp_path / "x") == ("tiles", 0)


def test_too_few_cosignatures_fail(exported, federation):
    export(federation.log, exported, federation.log.checkpoint(), policy=federation.policy)
    assert failure(exported)[0] == "quorum"


def test_a_weaker_policy_in_the_folder_fails(exported, federation):
    text = federation.policy.serialise()
    for weaker in (
        text.replace(b"quorum 3 ", b"quorum 2 "),
        text.replace(b"quorum federation-quorum", b"quorum none"),
        text.replace(b"quorum 3 ", b"quorum 4 "),
        b"# a comment hides bytes\n" + text,
    ):
        parse_policy(weaker)
        (exported / "policy").write_bytes(weaker)
        assert failure(exported)[0] == "keys"


def test_a_policy_with_fewer_witnesses_is_not_the_founders(exported, federation):
    vkeys = [witness.vkey for witness in federation.witnesses.values()]
    smaller = quorum_policy(federation.log.vkey, vkeys[:1])
    (exported / "policy").write_bytes(smaller.serialise())
    export(federation.log, exported, federation.cosign(["site-a"]))
    assert failure(exported) == ("founding", 0)
    (exported / "policy").unlink()
    assert failure(exported, policy=smaller) == ("founding", 0)


def test_an_unknown_signature_hides_in_no_export_of_ours(exported, federation):
    path = exported / "checkpoint"
    data = path.read_bytes()
    path.write_bytes(data + note.sign(b"", "someone", MemorySigner("y")).line())
    assert failure(exported)[0] == "quorum"
    report = verify_directory(exported, policy=federation.policy)  # the specification: ignored
    assert "unknown keys" in report.notices[-1]


@pytest.mark.parametrize(
    ("changes", "signer"),
    [
        ({"sequence": 99}, None),
        ({"previous": NO_PREVIOUS}, None),
        ({"institution": "site-b"}, None),
        ({"origin": "another.log"}, None),
        ({}, MemorySigner("site-a")),
    ],
)
def test_an_event_that_may_not_stand_is_found_though_the_log_key_signed_it(
    federation, tmp_path, changes, signer
):
    federation.grow(9)
    author = federation.sites["site-a"]
    author.signer = signer or author.signer
    federation.log.append([author.event("x.y", **changes), federation.sites["site-b"].event("x.y")])
    export(federation.log, tmp_path / "x")
    assert failure(tmp_path / "x") == ("events", 9)
    verify_directory(tmp_path / "x", events="skip")


def test_a_dropped_or_repeated_event_is_found(federation, tmp_path):
    federation.grow(5)
    a = federation.sites["site-a"]
    first, second = a.event("x.y"), a.event("x.y")
    for name, entries, index in (("gap", [second], 5), ("repeat", [first, first], 6)):
        log = Log.create(MemoryStorage(), origin=federation.log.origin, signer=federation.log_signer)
        log.append([*federation.log.entries(0, 5), *entries])
        export(log, tmp_path / name)
        assert failure(tmp_path / name) == ("events", index)
