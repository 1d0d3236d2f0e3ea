"""`python -m ledger witness status`: what it says, what alarms it, and that it changes nothing."""

from __future__ import annotations

import json
import shutil
import sqlite3

import pytest

from ledger import checkpoint
from ledger.chain import EventChain
from ledger.checkpoint import Checkpoint
from ledger.cli import main
from ledger.equivocation import Equivocation
from ledger.export import export
from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.memory import MemoryStorage
from ledger.witness import Witness
from ledger.witness_storage import SqliteWitnessStorage


def contents(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture
def watched(federation, tmp_path):
    """A federation with one more witness, in a file, that cosigned 12 of 20 entries; exported at 20."""
    (tmp_path / "site").mkdir()
    storage = SqliteWitnessStorage(tmp_path / "site/witness.sqlite")
    witness = Witness.create(
        storage,
        log_vkey=federation.log.vkey,
        signer=MemorySigner("site-e/witness"),
        gate=EventChain(federation.log.origin),
        clock=lambda: federation.now_s,
    )
    federation.grow(12)
    witness.add_checkpoint(federation.log.witness_request(0), list(federation.log.entries(0, 12)))
    federation.grow(8)
    export(federation.log, tmp_path / "x")
    storage.close()
    return tmp_path / "site/witness.sqlite"


def status(watched, *options):
    return main(["witness", "status", str(watched), *map(str, options)])


def test_witness_status_says_what_was_cosigned_and_changes_nothing(watched, federation, tmp_path, capsys):
    database = sqlite3.connect(watched)
    database.execute("pragma journal_mode = delete")  # whoever opens it to write makes it WAL again
    database.close()
    before = contents(watched.parent)
    assert status(watched) == 0
    out = capsys.readouterr().out
    assert "site-e/witness" in out and "size 12" in out and "2027-01-15 08:00:00Z" in out
    assert "export" not in out
    assert status(watched, "--export", tmp_path / "x", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["size"], found["origin"], found["evidence"]) == (12, federation.log.origin, 0)
    assert found["root"] == federation.log.root_at(12).hex()
    assert found["export"] == {"verdict": "agrees", "size": 20, "reason": "8 entries behind it"}
    assert contents(watched.parent) == before


def test_witness_status_leaves_a_journal_as_it_is(watched, tmp_path, capsys):
    """As after a crash: SQLite would fold the journal in as soon as it may write."""
    database = sqlite3.connect(watched, isolation_level=None)
    database.execute("pragma journal_mode = wal")
    database.execute("update state set log_time_s = 1800000777")
    crashed = tmp_path / "crashed"
    shutil.copytree(watched.parent, crashed)
    database.close()
    (crashed / "witness.sqlite-shm").unlink()
    assert (crashed / "witness.sqlite-wal").stat().st_size
    before = contents(crashed)
    assert status(crashed / "witness.sqlite", "--json") == 0
    assert json.loads(capsys.readouterr().out)["log_time_s"] == 1_800_000_777
    assert contents(crashed) == before


def test_a_witness_ahead_of_the_export(watched, federation, tmp_path, capsys):
    export(federation.log, tmp_path / "old", _checkpoint_at(federation, 5))
    assert status(watched, "--export", tmp_path / "old", "--json") == 0
    found = json.loads(capsys.readouterr().out)["export"]
    assert found["verdict"] == "unknown" and found["reason"].endswith("tile/0/000.p/12 is missing")
    export(federation.log, tmp_path / "ahead", _checkpoint_at(federation, 12))
    (tmp_path / "ahead/checkpoint").write_bytes(_checkpoint_at(federation, 5))
    assert status(watched, "--export", tmp_path / "ahead", "--json") == 0
    assert json.loads(capsys.readouterr().out)["export"] == {
        "verdict": "agrees",
        "size": 5,
        "reason": "7 entries ahead of it",
    }


def _checkpoint_at(federation, size):
    head = Checkpoint(federation.log.origin, size, federation.log.root_at(size))
    return checkpoint.sign(head, federation.log_signer)


def test_an_export_of_another_history_is_proven_and_of_another_log_is_named(
    watched, federation, tmp_path, capsys
):
    fork = Log.create(MemoryStorage(), origin=federation.log.origin, signer=federation.log_signer)
    for size in (10, 16):  # below and above what was cosigned
        fork.append([b"%d" % number for number in range(fork.size, size)])
        shutil.rmtree(tmp_path / "fork", ignore_errors=True)
        export(fork, tmp_path / "fork")
        assert status(watched, "--export", tmp_path / "fork", "--evidence", tmp_path / f"found-{size}") == 3
        captured = capsys.readouterr()
        assert "disagrees" in captured.out and "[ledger.witness.alarm] site-e/witness" in captured.err
    [evidence] = (tmp_path / "found-16").iterdir()
    assert main(["verify", str(evidence), "--vkey", federation.log.vkey]) == 0
    assert capsys.readouterr().out.endswith("of sizes 12 and 16\n")
    assert list((tmp_path / "found-10").iterdir()) == []
    foreign = Log.create(MemoryStorage(), origin=federation.log.origin, signer=MemorySigner("log", seed=b"?"))
    export(foreign, tmp_path / "foreign")
    assert status(watched, "--export", tmp_path / "foreign", "--json") == 3
    assert "not signed by the log" in json.loads(capsys.readouterr().out)["export"]["reason"]


def test_a_perfect_tree_that_was_rewritten_is_proven_too(federation, tmp_path, capsys):
    storage = SqliteWitnessStorage(tmp_path / "witness.sqlite")
    gate, signer = EventChain(federation.log.origin), MemorySigner("site-e/witness")
    witness = Witness.create(
        storage, log_vkey=federation.log.vkey, signer=signer, gate=gate, clock=lambda: federation.now_s
    )
    federation.grow(8)
    witness.add_checkpoint(federation.log.witness_request(0), list(federation.log.entries(0, 8)))
    storage.close()
    fork = Log.create(MemoryStorage(), origin=federation.log.origin, signer=federation.log_signer)
    fork.append([b"%d" % number for number in range(11)])
    export(fork, tmp_path / "fork")
    options = ("--export", tmp_path / "fork", "--evidence", tmp_path / "found")
    assert status(tmp_path / "witness.sqlite", *options) == 3
    [evidence] = (tmp_path / "found").iterdir()
    assert main(["verify", str(evidence), "--vkey", federation.log.vkey]) == 0


def test_a_witness_that_holds_evidence_alarms_and_writes_it(watched, federation, tmp_path, capsys):
    head = Checkpoint(federation.log.origin, 12, bytes(32))
    forged = checkpoint.sign(head, federation.log_signer)
    proven = Equivocation(_checkpoint_at(federation, 12), forged).encode()
    storage = SqliteWitnessStorage(watched)
    storage.keep_evidence(proven)
    storage.close()
    assert status(watched) == 3
    assert "evidence   1" in capsys.readouterr().out
    for _ in range(2):  # the same file again
        assert status(watched, "--evidence", tmp_path / "found", "--json") == 3
    [evidence] = (tmp_path / "found").iterdir()
    assert evidence.read_bytes() == proven
    evidence.write_bytes(b"something else")
    assert status(watched, "--evidence", tmp_path / "found") == 2
    assert evidence.read_bytes() == b"something else"


def test_a_damaged_witness_database_is_not_believed(watched, federation, tmp_path, capsys):
    def changed(statement, *values):
        path = tmp_path / "changed.sqlite"
        shutil.copy(watched, path)
        database = sqlite3.connect(path)
        database.execute(statement, values)
        database.commit()
        database.close()
        return status(path)

    assert changed("update state set size = 13") == 3
    assert changed("update state set root = zeroblob(32)") == 3
    assert changed("update state set checkpoint = ?", b"?" * 100) in (2, 3)
    same = Equivocation(_checkpoint_at(federation, 12), _checkpoint_at(federation, 12))
    capsys.readouterr()
    assert changed("insert into evidence (data) values (?)", same.encode()) == 3
    assert capsys.readouterr().err.startswith("[ledger.equivocation.none]")
    assert changed("delete from state") == 2
    assert status(tmp_path / "nothing") == 2 and status(tmp_path) == 2
    (tmp_path / "text").write_text("no database")
    assert status(tmp_path / "text") == 2
    assert f"{tmp_path / 'text'} is no database" in capsys.readouterr().err
    (tmp_path / "text").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 8)
    assert status(tmp_path / "text") == 3
    assert f"{tmp_path / 'text'}: " in capsys.readouterr().err
