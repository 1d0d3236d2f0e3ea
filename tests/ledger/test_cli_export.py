"""`python -m ledger export`: what it writes, into which folder or archive, and what it leaves alone."""

from __future__ import annotations

import shutil
import sqlite3

from ledger.cli import main
from ledger.export import export
from ledger.sqlite import SqliteStorage


def contents(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()
    }


def test_export_is_incremental_and_changes_nothing_but_the_directory(make_federation, tmp_path, capsys):
    (tmp_path / "home").mkdir()
    federation = make_federation(storage=SqliteStorage(tmp_path / "home/ledger.sqlite"))
    federation.grow(20)
    federation.storage.close()
    policy, final = tmp_path / "policy", tmp_path / "checkpoint"
    policy.write_bytes(federation.policy.serialise())
    final.write_bytes(federation.cosign())
    federation.storage.close()
    database = sqlite3.connect(tmp_path / "home/ledger.sqlite")
    database.execute("pragma journal_mode = delete")  # whoever opens it to write makes it WAL again
    database.close()
    before = contents(tmp_path / "home")
    arguments = ["export", str(tmp_path / "home/ledger.sqlite"), str(tmp_path / "x")]
    published = [*arguments, "--checkpoint", str(final), "--policy", str(policy)]
    assert main([*published, "--archive", str(tmp_path / "x.tar.gz")]) == 0
    assert "size 0 -> 20, 2 files" in capsys.readouterr().out
    assert contents(tmp_path / "home") == before
    assert main(published) == 0
    assert "size 20 -> 20, 0 files" in capsys.readouterr().out
    federation.grow(5)
    final.write_bytes(federation.cosign())
    assert main(published) == 0
    assert "size 20 -> 25, 2 files" in capsys.readouterr().out
    for path in ("x", "x.tar.gz"):
        assert main(["verify", str(tmp_path / path), "--policy", str(policy)]) == 0
    assert main([*arguments, "--archive", str(tmp_path / "no/such/folder.tar.gz")]) == 2


def test_export_refuses_what_is_not_its_own(make_federation, tmp_path, capsys):
    federation = make_federation(storage=SqliteStorage(tmp_path / "ledger.sqlite"))
    federation.grow(3)
    database, foreign = str(tmp_path / "ledger.sqlite"), make_federation()
    foreign.grow(2)
    foreign.log.append([b"another history"])
    export(foreign.log, tmp_path / "foreign")
    assert main(["export", database, str(tmp_path / "foreign")]) == 3
    (tmp_path / "note").write_bytes(foreign.log.checkpoint()[:-1])
    assert main(["export", database, str(tmp_path / "x"), "--checkpoint", str(tmp_path / "note")]) == 2
    assert main(["export", str(tmp_path / "nothing"), str(tmp_path / "x")]) == 2
    assert main(["export", database, str(tmp_path / "x"), "--checkpoint", str(tmp_path / "nothing")]) == 2
    (tmp_path / "y").mkdir()
    (tmp_path / "y/readme").touch()
    assert main(["export", database, str(tmp_path / "y")]) == 2
    assert not (tmp_path / "x").exists()


def test_an_archive_replaces_only_an_earlier_one_of_its_log(make_federation, tmp_path, capsys):
    federation = make_federation(storage=SqliteStorage(tmp_path / "ledger.sqlite"))
    federation.grow(3)
    federation.storage.close()
    database, target = tmp_path / "ledger.sqlite", tmp_path / "x.tar.gz"
    arguments = ["export", str(database), str(tmp_path / "x"), "--archive"]
    (tmp_path / "thesis").write_text("the only copy")
    foreign = make_federation()
    foreign.grow(2)
    foreign.log.append([b"another history"])  # under the same key: this archive is evidence
    export(foreign.log, tmp_path / "foreign")
    shutil.make_archive(str(tmp_path / "foreign"), "gztar", tmp_path / "foreign")
    before = database.read_bytes()
    assert main([*arguments, str(target)]) == 0
    first = target.read_bytes()
    assert main([*arguments, str(target)]) == 0 and target.read_bytes() == first
    for kept in (database, tmp_path / "thesis", tmp_path / "x", tmp_path / "foreign.tar.gz"):
        held = kept.read_bytes() if kept.is_file() else None
        assert main([*arguments, str(kept)]) == 2, kept
        assert f"{kept} exists" in capsys.readouterr().err
        assert held is None or kept.read_bytes() == held
    assert database.read_bytes() == before


# -- mistakes --------------------------------------------------------------------------------------------------
