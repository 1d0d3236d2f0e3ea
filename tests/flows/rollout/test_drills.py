"""Drills in real rehearsals: each is passed, and is not when its control is switched off."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from flows.rollout.drilling import played
from flows.rollout.drills import registry
from flows.rollout.drills.minutes import Minutes
from flows.rollout.drills.registry import DRILLS, UnknownDrillError, play
from ledger.errors import CodedError
from policies.rollout.drill_report import STEPS
from policies.rollout.statements import Drill

pytestmark = pytest.mark.xdist_group("rounds-2")

# `.ci/rollout` plays them all.
SLOW = [pytest.param(drill, marks=pytest.mark.slow) for drill in STEPS]
CAUGHT: dict[Drill, set[str]] = {
    "poisoning": {"hostile-cluster-named", "model-survives"},
    "quarantine": {"quarantined-with-the-evidence", "next-step-counts-without-them"},
    "key-rotation": {"new-keys-in-force", "old-key-of-the-site-refused"},
    "consent-withdrawal": {"round-2-trains-on-one-fewer"},
    "restore": {"run-goes-on-with-everybody"},
    "rollback": {"back-to-the-first", "alias-follows", "back-to-none"},
    "drift": {"drifted-site-took-itself-out", "evaluation-counts-without-it"},
}
"""The control is off: these steps at least show it."""


def test_every_drill_has_steps_and_a_flow() -> None:
    assert DRILLS.keys() == STEPS.keys() == CAUGHT.keys()


@pytest.mark.parametrize("drill", SLOW)
async def test_a_drill_is_passed(drill: Drill) -> None:
    report = await play(drill)
    assert report.passed, report.unmet
    assert report.ledger is not None and report.ledger.size > 20


@pytest.mark.parametrize("drill", SLOW)
async def test_a_drill_whose_control_is_switched_off_is_not(drill: Drill) -> None:
    report = await play(drill, sabotaged=True)
    assert report.sabotaged and not report.passed
    assert {step.name for step in report.unmet} >= CAUGHT[drill]


@pytest.mark.parametrize("error", [CodedError("x", code="home.invalid"), ValueError("jane doe")])
async def test_a_drill_that_breaks_off_has_not_passed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    async def breaks(minutes: Minutes) -> None:
        minutes.note("homes-destroyed-and-restored", True, count=2)
        raise error

    monkeypatch.setattr(registry, "DRILLS", {"restore": breaks})
    report = await play("restore")
    assert not report.passed and len(report.unmet) == len(STEPS["restore"]) - 1
    assert report.unmet[0].code in ("home.invalid", "drill.broke-off")
    assert b"jane" not in report.canonical_bytes() and "Traceback" in capsys.readouterr().err


async def test_a_drill_that_is_none_is_refused_before_anything_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "DRILLS", {"key-rotation": DRILLS["key-rotation"]})
    with pytest.raises(UnknownDrillError):
        async for _ in played(tmp_path / "log", ["key-rotation", "rollback"]):
            raise AssertionError("played")


@pytest.mark.slow
def test_a_drill_in_a_process_of_its_own_finds_nothing_of_the_institution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its models are registered nowhere but in the rehearsal's own store, which is gone."""
    store = tmp_path / "real.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    before = {path for path in Path(os.environ.get("TMPDIR", "/tmp")).glob("wardround-*")}  # noqa: S108

    async def one() -> None:
        (report,) = [report async for report in played(tmp_path / "log", ["key-rotation"])]
        assert report.passed, report.unmet

    asyncio.run(one())
    assert not store.exists()
    assert os.environ["MLFLOW_TRACKING_URI"].endswith("real.db")
    assert {path for path in Path(os.environ.get("TMPDIR", "/tmp")).glob("wardround-*")} <= before  # noqa: S108
