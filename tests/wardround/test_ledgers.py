"""`wardround ledger`: every shape of PATH, and that a changed byte anywhere exits 3."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from ledger import checkpoint, note, proof
from ledger.cli import main as ledger_main
from ledger.equivocation import Equivocation
from ledger.export import CHECKPOINT, VKEY
from ledger.keys import FileSigner
from ledger.log import Log
from ledger.postgresql import PostgresqlStorage
from ledger.sqlite import SqliteStorage
from ledger.static_files import Folder
from ledger.verify import verify_static
from tests.adapters.log_server import LogServer, certificates, send
from tests.consortium import SITES, Consortium
from tests.institution import configure
from tests.postgresql_server import PostgresqlServer
from tests.wardround.conftest import Command


@pytest.fixture
def run(run_once: Path) -> Path:
    return run_once


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "copy")
    return tmp_path / "copy"


def test_verify_takes_any_part_of_a_run(wardround: Command, run: Path) -> None:
    both = wardround("ledger", "verify", run)
    assert both.code == 0 and both.out.count("verified: ") == 2
    for path in ("exchange", "exchange/ledger", "coordinator", "coordinator/ledger.sqlite"):
        done = wardround("ledger", "verify", run / path)
        assert done.code == 0 and done.out.count("verified: ") == 1, path
    reports = [json.loads(line) for line in wardround("ledger", "verify", run, "--json").out.splitlines()]
    assert [report["ok"] for report in reports] == [True, True]
    assert reports[0]["root"] == reports[1]["root"] and len(reports[0]["cosigners"]) >= 3
    vkey = (run / "exchange/ledger" / VKEY).read_text().strip()
    assert wardround("ledger", "verify", run, "--vkey", vkey).code == 0


def test_verify_exits_3_where_a_byte_changed(wardround: Command, copy: Path) -> None:
    bundle = max((copy / "exchange/ledger/tile/entries").rglob("*.p/*"), key=lambda path: path.stat().st_size)
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    bundle.write_bytes(data)
    done = wardround("ledger", "verify", copy)
    assert done.code == 3 and "FAILED" in done.out and done.error.startswith("[ledger.verify.")
    assert done.out.count("verified: ") == 2  # the database is checked all the same
    database = sqlite3.connect(copy / "coordinator/ledger.sqlite")
    database.execute("update entries set data = cast(data || 'x' as blob) where idx = 3")
    database.commit()
    database.close()
    assert wardround("ledger", "verify", copy / "coordinator/ledger.sqlite").code == 3


def test_a_database_that_cannot_be_read_hides_no_failure_of_the_export(
    wardround: Command, copy: Path
) -> None:
    bundle = max((copy / "exchange/ledger/tile/entries").rglob("*.p/*"), key=lambda path: path.stat().st_size)
    bundle.write_bytes(bundle.read_bytes()[:-1])
    (copy / "coordinator" / "ledger.sqlite").write_bytes(b"no database")
    assert wardround("ledger", "verify", copy).code == 3


def test_an_export_of_another_ledger_beside_the_database_is_refused(
    wardround: Command, copy: Path, tmp_path: Path
) -> None:
    other = Consortium.found(tmp_path / "other")
    shutil.copy(other.founded.coordinator / "ledger.sqlite", copy / "coordinator/ledger.sqlite")
    for beside in ("ledger.sqlite-wal", "ledger.sqlite-shm"):
        (copy / "coordinator" / beside).unlink(missing_ok=True)
        if (other.founded.coordinator / beside).exists():
            shutil.copy(other.founded.coordinator / beside, copy / "coordinator" / beside)
    done = wardround("ledger", "verify", copy)
    assert done.code == 3 and done.error.startswith("[ledger.verify.two-ledgers]")


def test_show_lists_and_filters(wardround: Command, run: Path) -> None:
    done = wardround("ledger", "show", run)
    assert done.code == 0 and "federation.founded" in done.out and "model.registered" in done.out
    assert "plan.published" not in wardround("ledger", "show", run, "--type", "model").out
    lines = wardround(
        "ledger", "show", run / "exchange", "--institution", "hospital-a", "--json"
    ).out.splitlines()
    assert lines and {json.loads(line)["institution"] for line in lines} == {"hospital-a"}


def test_prove_writes_what_the_ledger_alone_can_check(
    wardround: Command, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = wardround(
        "ledger", "prove", run, "4", "--out", tmp_path / "p.tlog-proof", "--entry", tmp_path / "entry"
    )
    assert done.code == 0, done.err
    made = (tmp_path / "p.tlog-proof").read_bytes()
    assert proof.parse(made).index == 4
    policy = run / "exchange/ledger/policy"
    arguments = ["check", str(tmp_path / "p.tlog-proof"), str(tmp_path / "entry"), "--policy", str(policy)]
    assert ledger_main(arguments) == 0
    capsys.readouterr()
    assert wardround("ledger", "prove", run, "4").out.encode() == made
    again = wardround("ledger", "prove", run, "4", "--out", tmp_path / "p.tlog-proof")
    assert again.code == 2 and (tmp_path / "p.tlog-proof").read_bytes() == made
    assert wardround("ledger", "prove", run, "100000").code == 2


def contents(folder: Path) -> dict[str, tuple[int, str]]:
    """Every file below a folder, by when it was changed and its digest."""
    return {
        str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
        if path.is_file()
    }


def log_signer(run: Path) -> FileSigner:
    keys = run / "coordinator/keys"
    origin = note.parse_vkey((run / "exchange/ledger" / VKEY).read_text().strip()).name
    return FileSigner.load(keys / "log.pem", name=origin, passphrase=(keys / "passphrase").read_bytes())


def forged(run: Path, *, size: int | None = None) -> bytes:
    """A checkpoint of another history under the real log's key."""
    head, _ = checkpoint.parse((run / "exchange/ledger" / CHECKPOINT).read_bytes())
    return checkpoint.sign(checkpoint.Checkpoint(head.origin, size or head.size, bytes(32)), log_signer(run))


def test_show_finds_a_study_wherever_events_name_it(wardround: Command, run: Path) -> None:
    rows = [json.loads(line) for line in wardround("ledger", "show", run, "--json").out.splitlines()]
    [study] = {study for row in rows for study in row["studies"]}
    assert {row["type"] for row in rows if row["studies"] == []} == {
        "federation.founded",
        "consent.state",  # of a hospital, whatever studies it takes part in
    }
    assert {row["round"] for row in rows if row["type"] == "training.receipt"} == {1}
    asked = wardround("ledger", "show", run, "--study", study, "--json").out.splitlines()
    assert [json.loads(line)["index"] for line in asked] == [row["index"] for row in rows if row["studies"]]
    assert study in wardround("ledger", "show", run, "--type", "budget.reserved", "--study", study).out
    assert wardround("ledger", "show", run, "--study", "another", "--json").out == ""


def test_export_publishes_the_final_checkpoint_and_packs_it(
    wardround: Command, run: Path, tmp_path: Path
) -> None:
    before = contents(run)
    done = wardround("ledger", "export", run, tmp_path / "x", "--archive", tmp_path / "x.tar.gz")
    assert done.code == 0 and "size 0 -> " in done.out, done.err
    final = (run / "exchange/ledger" / CHECKPOINT).read_bytes()
    assert (tmp_path / "x" / CHECKPOINT).read_bytes() == final
    again = wardround("ledger", "export", run / "coordinator", tmp_path / "x")
    assert again.code == 0 and ", 0 files" in again.out
    with Folder(tmp_path / "x") as files:
        assert len(verify_static(files).cosigners) >= 3
    for path in (tmp_path / "x", tmp_path / "x.tar.gz"):
        assert wardround("ledger", "verify", path).code == 0
    plain = wardround("ledger", "export", run / "coordinator/ledger.sqlite", tmp_path / "plain")
    assert plain.code == 0 and not (tmp_path / "plain/policy").exists()
    assert contents(run) == before


def test_export_refuses_what_is_not_its_own(
    wardround: Command, run: Path, copy: Path, tmp_path: Path
) -> None:
    assert wardround("ledger", "export", tmp_path, tmp_path / "x").code == 2
    other = Consortium.found(tmp_path / "other").founded
    assert wardround("ledger", "export", run, tmp_path / "x").code == 0
    assert wardround("ledger", "export", other.coordinator / "ledger.sqlite", tmp_path / "x").code == 3
    assert wardround("ledger", "export", other.coordinator, tmp_path / "y").code == 2  # nothing is final yet
    head, _ = checkpoint.parse((copy / "exchange/ledger" / CHECKPOINT).read_bytes())
    for data in (
        forged(copy),
        checkpoint.sign(head, log_signer(copy)),
    ):  # the second: true, but nobody's cosigned
        (copy / "exchange/ledger" / CHECKPOINT).write_bytes(data)
        done = wardround("ledger", "export", copy, tmp_path / "z")
        assert done.code == 3 and not (tmp_path / "z").exists()


def test_archives_and_urls_are_read_like_folders(
    wardround: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    archive = Path(shutil.make_archive(str(tmp_path / "a"), "zip", run / "exchange/ledger"))
    ca, both = certificates(tmp_path)
    with LogServer(run / "exchange/ledger", certificate=both) as server:
        for where in ((archive,), (server.url, "--ca", ca)):
            done = wardround("ledger", "verify", *where)
            assert done.code == 0 and done.out.count("verified: ") == 1, done.err
            shown = wardround("ledger", "show", *where, "--json").out
            assert shown == wardround("ledger", "show", run, "--json").out
            assert (
                wardround("ledger", "prove", where[0], "4", *where[1:]).out
                == wardround("ledger", "prove", run, "4").out
            )
        assert "without partial tiles" in wardround("ledger", "verify", *where).out
        assert wardround("ledger", "verify", server.url).error.startswith("[served.certificate]")
        path = max(
            (run / "exchange/ledger/tile/entries").rglob("*.p/*"), key=lambda path: path.stat().st_size
        )
        data = path.read_bytes()
        served = path.relative_to(run / "exchange/ledger").as_posix()
        server.answers[served] = lambda to: send(to, data[:-1] + b"?")
        flipped = wardround("ledger", "verify", server.url, "--ca", ca, "--json")
        report = json.loads(flipped.out)
        assert flipped.code == 3 and report["checks"][-1]["number"] == 5 and report["checks"][-1]["index"] > 0
    insecure = wardround("ledger", "verify", "http://ledger.example/")
    assert insecure.code == 2 and insecure.error.startswith("[served.insecure]")
    gone = wardround("ledger", "verify", server.url, "--ca", ca)
    assert gone.code == 1 and gone.error.startswith("[served.unreachable]")


def test_check_is_the_other_half_of_prove(wardround: Command, run: Path, tmp_path: Path) -> None:
    made, entry, policy = tmp_path / "p", tmp_path / "e", run / "exchange/ledger/policy"
    done = wardround("ledger", "prove", run, "4", "--out", made, "--entry", entry)
    assert f"wardround ledger check {made} {entry}" in done.err
    checked = wardround("ledger", "check", made, entry, "--policy", policy)
    assert checked.code == 0 and checked.out.startswith("verified: entry 4 of ")
    assert wardround("ledger", "check", made, entry).error.startswith("[ledger.cli.usage]")
    entry.write_bytes(entry.read_bytes() + b" ")
    assert wardround("ledger", "check", made, entry, "--policy", policy).code == 3


def test_witness_status_reads_every_site_and_changes_nothing(wardround: Command, run: Path) -> None:
    before = contents(run)
    done = wardround("ledger", "witness", "status", run, "--json")
    found = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 0 and [one["name"] for one in found] == list(SITES), done.err
    assert {one["export"]["verdict"] for one in found} == {"agrees"} and {
        one["evidence"] for one in found
    } == {0}
    for path in ("sites/hospital-a", "sites/hospital-a/witness.sqlite"):
        shown = wardround("ledger", "witness", "status", run / path)
        assert shown.code == 0 and "export     agrees" in shown.out and "evidence   none" in shown.out
    assert contents(run) == before
    assert wardround("ledger", "witness", "status", run / "exchange").code == 2


def test_witness_status_reports_two_histories_and_writes_the_evidence(
    wardround: Command, copy: Path, tmp_path: Path
) -> None:
    vkey = (copy / "exchange/ledger" / VKEY).read_text().strip()
    (copy / "exchange/ledger" / CHECKPOINT).write_bytes(forged(copy))
    done = wardround("ledger", "witness", "status", copy, "--evidence", tmp_path / "found")
    assert done.code == 3 and done.error.startswith("[ledger.witness.alarm]") and "disagrees" in done.out
    database = sqlite3.connect(copy / "sites/hospital-b/witness.sqlite")
    first = database.execute("select checkpoint from state").fetchone()[0]
    size = checkpoint.parse(first)[0].size
    proven = Equivocation(first, forged(copy, size=size)).encode()
    database.execute("insert into evidence (data) values (?)", (proven,))
    database.commit()
    database.close()
    done = wardround(
        "ledger", "witness", "status", copy / "sites/hospital-b", "--evidence", tmp_path / "held"
    )
    assert done.code == 3 and "evidence   1" in done.out
    written = [path for path in (tmp_path / "held").iterdir() if path.read_bytes() == proven]
    assert len(written) == 1
    assert wardround("ledger", "verify", written[0], "--vkey", vkey).out.startswith(
        "proven: the log key signed two"
    )
    assert wardround("ledger", "verify", written[0]).code == 2
    written[0].write_bytes(Equivocation(first, first).encode())
    assert wardround("ledger", "verify", written[0], "--vkey", vkey).code == 3


@pytest.mark.xdist_group("postgresql")
def test_a_ledger_in_postgresql_is_verified_and_exported(
    wardround: Command, copy: Path, tmp_path: Path, postgresql_server: PostgresqlServer
) -> None:
    url = postgresql_server.url(postgresql_server.database())
    stored = Log.open(SqliteStorage(copy / "coordinator/ledger.sqlite"))
    moved = Log.create(PostgresqlStorage(url), origin=stored.origin, signer=log_signer(copy))
    moved.append(list(stored.entries(0, stored.size)))
    configuration = copy / "coordinator/institution.yaml"
    configure(configuration, ledger=url)
    (copy / "coordinator/ledger.sqlite").unlink()
    for path in (copy, copy / "coordinator", url):
        assert wardround("ledger", "verify", path).code == 0, path
    assert wardround("ledger", "verify", copy).out.count("verified: ") == 2
    assert wardround("ledger", "export", copy, tmp_path / "x").code == 0
    assert wardround("ledger", "verify", tmp_path / "x").code == 0
    assert wardround("ledger", "export", url, tmp_path / "y").code == 0
    refused = wardround("ledger", "verify", "postgresql://ledger:secret@host/ledger")
    assert refused.code == 2 and "secret" not in refused.out + refused.err


@pytest.mark.parametrize("program", ["wardround ledger", "ledger"])
def test_whoever_reads_only_the_first_line_is_no_error(run: Path, program: str) -> None:
    shown = f"{sys.executable} -m {program} show {run / 'exchange/ledger'} --json"
    command = f"for i in 1 2 3; do {shown} | true; echo ${{PIPESTATUS[0]}}; done"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("0\n" * 3, "")


def test_paths_without_a_ledger(wardround: Command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "x.sqlite").write_bytes(b"not a database")
    for command in (("verify",), ("show",)):
        for path in (tmp_path, tmp_path / "nothing"):
            done = wardround("ledger", *command, path)
            assert done.code == 2 and done.error.startswith("[ledger.not-found]")
    assert wardround("ledger", "show", run / "coordinator").code == 2
    done = wardround("ledger", "verify", tmp_path / "x.sqlite")
    assert done.code == 2 and done.error.startswith(f"[ledger.source.unknown] {tmp_path / 'x.sqlite'} ")
    assert wardround("ledger", "verify", run, "--vkey", "x").code == 2
    assert wardround("ledger", "verify", run, "--policy", tmp_path / "no").code == 2


# -- mistakes --------------------------------------------------------------------------------------------------


def test_witness_status_leaves_no_site_out(wardround: Command, copy: Path) -> None:
    """A hospital whose memory is gone would cosign a second history: that is an alarm, not silence."""
    for path in (copy / "sites/hospital-a").glob("witness.sqlite*"):
        path.unlink()
    for path in (copy / "sites/hospital-b").glob("witness.sqlite-*"):
        path.unlink()
    (copy / "sites/hospital-b/witness.sqlite").write_bytes(b"")
    (copy / "sites/hospital-c/institution.yaml").write_text("role: [")
    done = wardround("ledger", "witness", "status", copy)
    assert done.code == 3 and "hospital-a, hospital-b, hospital-c: no state" in done.error
    assert (
        f"hospital-a\n  no state   there is no database {copy / 'sites/hospital-a/witness.sqlite'}"
        in done.out
    )
    assert "hospital-d/witness" in done.out or "hospital-d" in done.out
    rows = [
        json.loads(line) for line in wardround("ledger", "witness", "status", copy, "--json").out.splitlines()
    ]
    assert [row["name"] for row in rows] == list(SITES)
    assert rows[1]["path"] == str(copy / "sites/hospital-b/witness.sqlite") and rows[1]["error"]


def test_an_export_to_compare_with_must_be_one(wardround: Command, run: Path, tmp_path: Path) -> None:
    for path, why in ((tmp_path, "holds no checkpoint"), (tmp_path / "nothing", "does not exist")):
        done = wardround("ledger", "witness", "status", run, "--export", path)
        assert done.code == 2 and f"{path} {why}" in done.error
        arguments = ["witness", "status", str(run / "sites/hospital-a/witness.sqlite"), "--export", str(path)]
        assert ledger_main(arguments) == 2


def test_prove_takes_whole_numbers_alone(wardround: Command, run: Path, tmp_path: Path) -> None:
    for number in ("1.5", "one", "1e1"):
        done = wardround("ledger", "prove", run, number)
        assert done.code == 2 and done.error.startswith("[usage]") and done.out == ""
    both = wardround("ledger", "prove", run, "1", "--out", tmp_path / "p", "--entry", tmp_path / "p")
    assert both.code == 2 and not (tmp_path / "p").exists()


def test_what_cannot_be_written_is_said_with_its_path(wardround: Command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target in (tmp_path / "file", tmp_path / "file/inside"):
        done = wardround("ledger", "export", run, target)
        assert done.code == 2 and str(target) in done.error and "fault" not in done.error
    done = wardround("ledger", "export", run, tmp_path / "x", "--archive", run / "coordinator/ledger.sqlite")
    assert done.code == 2 and not (tmp_path / "x").exists()


def test_names_and_keys_are_not_folded(
    wardround: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    vkey = (run / "exchange/ledger" / VKEY).read_text().strip()
    done = wardround("ledger", "verify", run)
    assert vkey in done.out and done.err == ""
    shown = wardround("ledger", "show", run).out
    assert "federation.founded" in shown and "training.receipt" in shown
