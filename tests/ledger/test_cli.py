"""`python -m ledger`: exit codes, what it prints, and what it imports."""

from __future__ import annotations

import json
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
    (tmp_path / "evidence").write_bytes(
        Equivocation(federation.log.checkpoint(), federation.log.checkpoint()).encode()
    )
    assert main(["verify", str(tmp_path / "evidence"), "--vkey", federation.log.vkey]) == 3


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
