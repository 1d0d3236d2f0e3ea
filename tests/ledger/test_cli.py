"""`python -m ledger`: exit codes, what it prints, and what it imports."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys

import pytest

from ledger import proof
from ledger.cli import main
from ledger.equivocation import Equivocation
from ledger.event import NO_PREVIOUS
from ledger.export import export
from ledger.log import Log
from ledger.memory import MemoryStorage
from ledger.sqlite import SqliteStorage


@pytest.fixture
def exported(federation, tmp_path):
    federation.grow(12)
    export(federation.log, tmp_path / "x", federation.cosign(), policy=federation.policy)
    return tmp_path / "x"


def test_verify_prints_every_check(exported, capsys):
    assert main(["verify", str(exported)]) == 0
    out = capsys.readouterr().out
    assert " 8. ok      every event is signed" in out and "trust on first use" in out
    assert out.endswith("verified: ledger.example/wards at size 12\n")
    assert main(["verify", str(exported), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["size"] == 12


def test_verify_with_keys_from_outside(exported, federation, tmp_path, capsys):
    (tmp_path / "policy").write_bytes(federation.policy.serialise())
    arguments = ["verify", str(exported), "--vkey", federation.log.vkey, "--policy", str(tmp_path / "policy")]
    assert main(arguments) == 0
    assert "trust on first use" not in capsys.readouterr().out
    assert main([*arguments, "--events", "require"]) == 0


def test_a_failed_verification_names_the_check_and_exits_3(exported, capsys):
    path = exported / "tile/entries/000.p/12"
    data = path.read_bytes()
    path.write_bytes(data[:-5] + b"x" + data[-4:])
    assert main(["verify", str(exported)]) == 3
    captured = capsys.readouterr()
    assert "5. FAILED" in captured.out and "NOT verified" in captured.out
    assert captured.err.startswith("[ledger.verify.entries] check 5") and "index 11" in captured.err
    assert main(["verify", str(exported), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_bad_input_exits_2(exported, tmp_path, capsys):
    for arguments in (
        ["verify", str(tmp_path / "nothing")],
        ["verify", str(exported), "--vkey", "x"],
        ["verify", str(exported), "--policy", str(tmp_path / "nothing")],
        ["show", str(tmp_path)],
        ["prove", str(exported), "12"],
        ["prove", str(exported), "-1"],
    ):
        assert main(arguments) == 2, arguments
        error = capsys.readouterr().err
        assert error.startswith("[ledger.") and error.count("\n") == 1
    with pytest.raises(SystemExit) as caught:
        main(["nonsense"])
    assert caught.value.code == 2


def test_show_filters(exported, capsys):
    assert main(["show", str(exported), "--institution", "site-b"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 1 + 3 and all("site-b" in row for row in rows[1:])
    assert main(["show", str(exported), "--type", "federation", "--json"]) == 0
    (event,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (event["index"], event["type"]) == (0, "federation.founded")
    assert main(["show", str(exported), "--study", "chest"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 11


def test_show_keeps_control_characters_off_the_terminal(federation, tmp_path, capsys, make_author):
    evil = make_author("evil")
    evil.name = "\x1b[2Jsite"
    federation.log.append([evil.event("x.y")])
    export(federation.log, tmp_path / "x")
    assert main(["show", str(tmp_path / "x")]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_prove_writes_a_proof_that_verifies_offline(exported, federation, tmp_path, capsys):
    assert main(["prove", str(exported), "5", "-o", str(tmp_path / "p.tlog-proof")]) == 0
    made = proof.parse((tmp_path / "p.tlog-proof").read_bytes())
    made.verify(federation.log.entry(5), log_vkey=None, policy=federation.policy)
    assert main(["prove", str(exported), "5"]) == 0
    assert capsys.readouterr().out.encode() == made.encode()


def test_check_verifies_such_a_proof(exported, federation, tmp_path, capsys):
    made, entry, policy = tmp_path / "p", tmp_path / "e", tmp_path / "policy"
    assert main(["prove", str(exported), "5", "-o", str(made), "--entry", str(entry)]) == 0
    policy.write_bytes(federation.policy.serialise())
    assert entry.read_bytes() == federation.log.entry(5)
    assert main(["check", str(made), str(entry), "--policy", str(policy)]) == 0
    assert capsys.readouterr().out.startswith(
        "verified: entry 5 of ledger.example/wards at size 12, final by 3 of 4"
    )
    assert main(["check", str(made), str(entry), "--vkey", federation.log.vkey]) == 0
    assert main(["check", str(made), str(entry)]) == 2
    entry.write_bytes(federation.log.entry(6))
    assert main(["check", str(made), str(entry), "--policy", str(policy)]) == 3


def test_verify_reads_evidence_and_databases(federation, tmp_path, capsys):
    storage = SqliteStorage(tmp_path / "ledger.db")
    for log in (
        Log.create(storage, origin=federation.log.origin, signer=federation.log_signer),
        federation.log,
    ):
        log.append([federation.founding()])
        federation.coordinator.sequence, federation.coordinator.previous = 0, NO_PREVIOUS
        federation.now_s += 1
    storage.close()
    assert main(["verify", str(tmp_path / "ledger.db"), "--vkey", federation.log.vkey]) == 0
    other = Log.create(MemoryStorage(), origin=federation.log.origin, signer=federation.log_signer)
    other.append([b"another"])
    (tmp_path / "evidence").write_bytes(
        Equivocation(federation.log.checkpoint(), other.checkpoint()).encode()
    )
    assert main(["verify", str(tmp_path / "evidence")]) == 2
    assert main(["verify", str(tmp_path / "evidence"), "--vkey", federation.log.vkey]) == 0
    assert capsys.readouterr().out.endswith("of sizes 1 and 1\n")
    assert main(["verify", str(tmp_path / "evidence"), "--vkey", federation.log.vkey, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    (tmp_path / "evidence").write_bytes(
        Equivocation(federation.log.checkpoint(), federation.log.checkpoint()).encode()
    )
    assert main(["verify", str(tmp_path / "evidence"), "--vkey", federation.log.vkey]) == 3


# -- wherever the files lie ------------------------------------------------------------------------------------


@pytest.fixture(params=["tar", "gztar", "zip"])
def archive(request, exported, tmp_path):
    return shutil.make_archive(str(tmp_path / "archive"), request.param, exported.parent, exported.name)


def test_archives_are_read_like_folders(archive, exported, tmp_path, capsys):
    assert main(["verify", archive]) == 0
    assert capsys.readouterr().out.endswith("verified: ledger.example/wards at size 12\n")
    said = []
    for path in (archive, str(exported)):
        assert main(["show", path]) == 0
        assert main(["prove", path, "5", "--entry", str(tmp_path / "entry")]) == 0
        (tmp_path / "entry").unlink()
        said.append(capsys.readouterr())
    assert said[0] == said[1]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["x"]  # nothing was unpacked


def test_files_that_are_no_export(exported, tmp_path, capsys):
    (tmp_path / "x.sqlite").write_bytes(b"SQLite format 3\0")
    for command in (["show"], ["prove"]):
        rest = ["0"] if command == ["prove"] else []
        assert main([*command, str(tmp_path / "x.sqlite"), *rest]) == 2
        assert main([*command, str(tmp_path), *rest]) == 2
    assert main(["prove", str(exported), "12"]) == 2
    assert "there is no entry 12" in capsys.readouterr().err


# -- what a failed verification says ---------------------------------------------------------------------------


def _text(path, old, new):
    return lambda exported: (exported / path).write_bytes((exported / path).read_bytes().replace(old, new, 1))


BROKEN = {
    "keys": (_text("log.vkey", b"+", b"-"), 1, None),
    "checkpoint": (_text("checkpoint", b"\n12\n", b"\n012\n"), 2, None),
    "signature": (_text("checkpoint", b"\n12\n", b"\n11\n"), 3, None),
    "quorum": (lambda exported: _strip(exported / "checkpoint", 2), 4, None),
    "entries": (_text("tile/entries/000.p/12", b'"payload"', b'"pAyload"'), 5, 0),
    "tiles": (lambda exported: (exported / "tile/1").mkdir() or (exported / "tile/1/00").touch(), 6, None),
}


def _strip(path, kept):
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join(lines[: lines.index(b"") + 1 + kept]) + b"\n")


@pytest.mark.parametrize("name", BROKEN)
def test_every_failure_names_its_check_title_and_index(exported, capsys, name):
    change, number, index = BROKEN[name]
    change(exported)
    assert main(["verify", str(exported)]) == 3
    captured = capsys.readouterr()
    assert captured.err.startswith(f"[ledger.verify.{name}] check {number} (") and " failed" in captured.err
    assert (f"at index {index}:" in captured.err) is (index is not None)
    assert main(["verify", str(exported), "--json"]) == 3
    report = json.loads(capsys.readouterr().out)
    last = report["checks"][-1]
    assert report["ok"] is False and [check["number"] for check in report["checks"]] == [
        *range(1, number + 1)
    ]
    assert (last["name"], last["number"], last["outcome"], last["index"]) == (name, number, "failed", index)
    assert last["title"] and last["detail"]


def test_failures_of_events_and_the_founding_name_their_index(federation, tmp_path, capsys):
    federation.grow(3)
    author = federation.sites["site-a"]
    federation.log.append([author.event("budget.reserved", sequence=7)])
    export(federation.log, tmp_path / "x")
    assert main(["verify", str(tmp_path / "x")]) == 3
    assert "[ledger.verify.events] check 8" in (err := capsys.readouterr().err) and "at index 3" in err
    other = type(federation)()
    other.log.append([other.coordinator.event("federation.founded", _members(other), also=_signers(other))])
    export(other.log, tmp_path / "y")
    assert main(["verify", str(tmp_path / "y"), "--json"]) == 3
    last = json.loads(capsys.readouterr().out)["checks"][-1]
    assert (last["number"], last["name"], last["index"]) == (9, "founding", 0)


def _members(federation):
    authors = (federation.coordinator, *federation.sites.values())
    members = [{"name": one.name, "key": one.signer.public.to_json()} for one in authors]
    return {"members": members, "log_vkey": "another"}


def _signers(federation):
    return [author.signer for author in federation.sites.values()]


def test_what_cannot_be_written_is_said_with_its_path(make_federation, exported, tmp_path, capsys):
    federation = make_federation(storage=SqliteStorage(tmp_path / "ledger.sqlite"))
    federation.grow(1)
    federation.storage.close()
    (tmp_path / "file").touch()
    missing, inside = tmp_path / "no/such", tmp_path / "file/inside"
    for arguments, named in (
        (["prove", exported, "5", "-o", missing], missing),
        (["prove", exported, "5", "-o", inside], inside),
        (["prove", exported, "5", "--entry", missing], missing),
        (["export", tmp_path / "ledger.sqlite", inside], inside),
        (["export", tmp_path / "ledger.sqlite", tmp_path / "file"], tmp_path / "file"),
    ):
        assert main([str(argument) for argument in arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert error.startswith("[ledger.") and str(named) in error and error.count("\n") == 1


def test_prove_replaces_nothing_and_leaves_nothing_half_written(exported, tmp_path, capsys):
    kept, other = tmp_path / "kept", tmp_path / "other"
    kept.write_text("kept")
    for targets in (
        ["-o", kept, "--entry", other],
        ["-o", other, "--entry", kept],
        ["-o", other, "--entry", other],
    ):
        assert main(["prove", str(exported), "5", *map(str, targets)]) == 2
        assert "[ledger.source.unwritable]" in capsys.readouterr().err
        assert kept.read_text() == "kept" and not other.exists()


def test_files_of_another_kind_are_not_called_damaged(exported, tmp_path, capsys):
    for name, data in (("empty", b""), ("random", bytes(range(7, 99))), ("text", b"root:x:0:0\n")):
        (tmp_path / name).write_bytes(data)
        for command in (["verify"], ["export"]):
            rest = [str(tmp_path / "target")] if command == ["export"] else []
            assert main([*command, str(tmp_path / name), *rest]) == 2
            assert f"[ledger.source.unknown] {tmp_path / name} " in capsys.readouterr().err
    database = sqlite3.connect(tmp_path / "other.sqlite")
    database.execute("create table recipes (name text)")
    database.close()
    assert main(["verify", str(tmp_path / "other.sqlite")]) == 2
    assert "not of a ledger" in capsys.readouterr().err
    (tmp_path / "damaged").write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 8)
    assert main(["verify", str(tmp_path / "damaged")]) == 3
    assert f"NOT verified: {tmp_path / 'damaged'}\n" in capsys.readouterr().out


def test_paths_that_hold_no_export_are_named(tmp_path, capsys):
    assert main(["verify", str(tmp_path)]) == 2
    assert f"{tmp_path} holds no checkpoint. Name a static" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "nothing")]) == 2
    assert f"{tmp_path / 'nothing'} does not exist." in capsys.readouterr().err
    for url in ("https://ledger.example/wards", "postgresql://ledger@db/ledger"):
        assert main(["verify", url]) == 2
        assert "`wardround ledger`" in capsys.readouterr().err


def test_a_pipe_or_a_device_in_place_of_a_tile_is_refused(exported, capsys):
    bundle = exported / "tile/entries/000.p/12"
    bundle.unlink()
    os.mkfifo(bundle)
    assert main(["verify", str(exported)]) == 3
    assert "is not a regular file" in capsys.readouterr().err
    bundle.unlink()
    bundle.symlink_to("/dev/zero")
    assert main(["verify", str(exported)]) == 3
    assert "is not a regular file" in capsys.readouterr().err


def test_an_interrupt_ends_quietly(exported, capsys, monkeypatch):
    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("ledger.commands.show", interrupted)
    assert main(["show", str(exported)]) == 130
    assert capsys.readouterr().err == ""


def test_an_altered_tile_is_not_blamed_on_the_entry_alone(exported, capsys):
    tile = exported / "tile/0/000.p/12"
    data = bytearray(tile.read_bytes())
    data[10 * 32] ^= 1
    tile.write_bytes(data)
    assert main(["verify", str(exported)]) == 3
    assert "entry 10 and its hash in tile/0/000.p/12 do not agree" in capsys.readouterr().err
    tile.unlink()
    assert main(["verify", str(exported)]) == 3
    assert capsys.readouterr().err.count("tile/0/000.p/12") == 1


def test_a_bundle_that_ends_early_names_the_first_entry_that_it_lacks(exported, capsys):
    bundle = exported / "tile/entries/000.p/12"
    bundle.write_bytes(bundle.read_bytes()[:-1])
    assert main(["verify", str(exported)]) == 3
    assert "at index 11" in capsys.readouterr().err


# -- alone -----------------------------------------------------------------------------------------------------


def test_it_runs_alone_and_imports_nothing_else_of_ours(exported):
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['ledger', 'verify', {str(exported)!r}]\n"
        "try:\n    runpy.run_module('ledger', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "names = {name.split('.')[0] for name in sys.modules}\n"
        "unwanted = {'adapters', 'policies', 'privacy', 'tasks', 'flows', 'wardround', 'deployments', 'rich',\n"
        "            'prefect', 'torch', 'pydantic', 'numpy', 'requests', 'httpx', 'mlflow'}\n"
        "assert not names & unwanted, names & unwanted\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "verified" in done.stdout
