"""`wardround phase drill`: what was passed is on the ledger and in the evidence's folder, and nothing else is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

import flows.rollout.drilling
from policies.code import running_code_digest, running_policy_digest
from policies.rollout.drill_report import STEPS, DrillReport
from policies.rollout.statements import Drill, PhaseTerms
from tasks.coordinator.party import Coordinator
from tasks.rollout.terms import enter
from tests.consortium import SITES, Consortium
from tests.wardround.conftest import Command

ALL: tuple[Drill, ...] = ("poisoning", "quarantine", "key-rotation", "consent-withdrawal", "restore")
TERMS = PhaseTerms(
    phase="expansion", study="x-rays", minimum_sites=3, minimum_rounds=1, minimum_figure=0.6, drills=ALL
)


def reported(drill: Drill, *, met: bool = True, sabotaged: bool = False) -> DrillReport:
    steps = [{"name": name, "met": met} for name in STEPS[drill]]
    digests = {"code_digest": running_code_digest(), "policy_digest": running_policy_digest()}
    fields = {"schema_version": 1, "passed": met, "sabotaged": sabotaged, "ledger": None, **digests}
    return DrillReport.from_value({**fields, "drill": drill, "steps": steps}, what="report")


class Played:
    """In the place of the processes: what was asked of them, and reports of drills that fail or not."""

    def __init__(self) -> None:
        self.asked: list[Drill] = []
        self.failing: set[Drill] = set()

    async def __call__(
        self, log: Path, drills: Collection[Drill], *, sabotaged: Collection[Drill] = ()
    ) -> AsyncIterator[DrillReport]:
        self.asked += drills
        for drill in reversed(list(drills)):
            bad = drill in self.failing or drill in sabotaged
            yield reported(drill, met=not bad, sabotaged=drill in sabotaged)


@pytest.fixture
def plays(monkeypatch: pytest.MonkeyPatch) -> Played:
    played = Played()
    monkeypatch.setattr(flows.rollout.drilling, "played", played)
    return played


@pytest.fixture
async def consortium(tmp_path: Path) -> Consortium:
    """In its expansion, under terms that ask for all drills."""
    consortium = Consortium.found(tmp_path, sites=SITES[:3], phase="expansion")

    async def opening(coordinator: Coordinator) -> None:
        await enter(coordinator, TERMS)

    await consortium.serve(opening)
    return consortium


def test_what_is_passed_is_recorded_once_and_what_fails_is_named(
    wardround: Command, consortium: Consortium, plays: Played
) -> None:
    home = consortium.founded.coordinator
    plays.failing = {"restore"}
    done = wardround("phase", "drill", "--all", "--home", home)
    assert done.code == 3 and "drill.failed" in done.error and "homes-destroyed-and-restored" in done.error
    assert plays.asked == list(ALL)
    drills = consortium.state().rollout.drills
    assert set(drills) == set(ALL) - {"restore"}
    kept = {path.name.rpartition("-")[0]: path for path in (home / "reports").iterdir()}
    assert set(kept) == set(ALL)
    for drill, recorded in drills.items():
        assert DrillReport.from_canonical(kept[drill].read_bytes(), what="report").content_digest() == (
            recorded.report_digest
        )

    plays.failing, plays.asked = set(), []
    done = wardround("phase", "drill", "--all", "--home", home)
    assert done.code == 0 and plays.asked == ["restore"]  # the others were passed since the terms
    assert set(consortium.state().rollout.drills) == set(ALL)
    size = consortium.state().size
    done = wardround("phase", "drill", "poisoning", "--home", home)
    assert done.code == 0 and plays.asked == ["restore"] and "--again" in done.out
    assert consortium.state().size == size
    wardround("phase", "drill", "poisoning", "--again", "--home", home)
    assert plays.asked == ["restore", "poisoning"]
    assert consortium.state().size == size  # the very same report: it is said already


def test_a_sabotaged_drill_is_never_recorded(
    wardround: Command, consortium: Consortium, plays: Played
) -> None:
    done = wardround("phase", "drill", "quarantine", "--sabotage", "--home", consortium.founded.coordinator)
    assert done.code == 3 and "drill.sabotaged" in done.error
    assert consortium.state().rollout.drills == {}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), "name drills, or give --all"),
        (("poisoning", "--all"), "name drills, or give --all"),
        (("rollback",), "the terms in force ask for no drill rollback"),
        (("tea-break",), "tea-break"),
    ],
)
def test_what_nobody_asked_for_is_refused_before_it_is_played(
    wardround: Command, consortium: Consortium, plays: Played, arguments: tuple[str, ...], code: str
) -> None:
    done = wardround("phase", "drill", *arguments, "--home", consortium.founded.coordinator)
    assert done.code in (2, 3) and code in done.err and plays.asked == []


async def test_a_report_of_other_code_or_of_a_sabotaged_drill_is_not_taken(consortium: Consortium) -> None:
    from ledger.errors import PolicyViolation
    from tasks.rollout.drilling import record_drill

    passed = reported("restore")
    for wrong, code in (
        (passed.with_fields({"code_digest": "0" * 64}), "drill.other-code"),
        (passed.with_fields({"sabotaged": True}), "drill.sabotaged"),
        (reported("restore", met=False), "drill.failed"),
    ):
        async with consortium.opened_coordinator() as coordinator:
            with pytest.raises(PolicyViolation) as refused:
                await record_drill(coordinator, wrong)
        assert {violation.code for violation in refused.value.violations} == {code}
    assert consortium.state().rollout.drills == {}
