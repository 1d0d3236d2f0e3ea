"""The evidence of a round that really ran: built from a coordinator's home, audited from the file alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ledger.cli import main
from tests.plans import tiny_plan
from tests.tasks.evidence.witnessed import payload_of
from wardround.evidence import build, verify

pytestmark = pytest.mark.xdist_group("wardround-run")


def test_a_stranger_audits_a_real_round_from_the_file_alone(
    run_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = tiny_plan().content_digest()
    out, again = tmp_path / "evidence.zip", tmp_path / "again.zip"
    build(home=run_once / "coordinator", plan_digest=digest[:12], round_number=1, out=out, tighter=False)
    build(home=run_once / "coordinator", plan_digest=digest, round_number=1, out=again, tighter=False)
    assert payload_of(out.read_bytes()) == payload_of(again.read_bytes())

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.move(out, elsewhere / "evidence.zip")
    assert main(["verify", str(elsewhere / "evidence.zip")]) == 0
    capsys.readouterr()
    verify(elsewhere / "evidence.zip", json=True, tighter=False)
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] and told["passed"] and len(told["checks"]) == 16
    assert {pool["site"] for pool in told["pools"]} >= {"hospital-a", "hospital-b", "hospital-c"}


def test_no_patient_no_path_and_no_host_is_in_it(run_once: Path, tmp_path: Path) -> None:
    digest = tiny_plan().content_digest()
    out = tmp_path / "evidence.zip"
    build(home=run_once / "coordinator", plan_digest=digest, round_number=1, out=out, tighter=False)
    data = out.read_bytes()
    for marker in (b"invented-", str(run_once).encode(), str(Path.home()).encode() + b"/"):
        assert marker not in data
