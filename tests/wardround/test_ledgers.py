"""`wardround ledger`: every shape of PATH, and that a changed byte anywhere exits 3."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from ledger import proof
from ledger.cli import main as ledger_main
from ledger.export import VKEY
from tests.consortium import Consortium
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


def test_paths_without_a_ledger(wardround: Command, run: Path, tmp_path: Path) -> None:
    (tmp_path / "x.sqlite").write_bytes(b"not a database")
    for command in (("verify",), ("show",)):
        for path in (tmp_path, tmp_path / "nothing"):
            done = wardround("ledger", *command, path)
            assert done.code == 2 and done.error.startswith("[ledger.not-found]")
    assert wardround("ledger", "show", run / "coordinator").code == 2
    assert wardround("ledger", "verify", tmp_path / "x.sqlite").code == 3
    assert wardround("ledger", "verify", run, "--vkey", "x").code == 2
    assert wardround("ledger", "verify", run, "--policy", tmp_path / "no").code == 2
