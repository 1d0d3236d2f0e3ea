"""The clinical phase with real homes, ledger, witnesses and rounds: a champion, the next one, and the way back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient

from adapters.lineage import store_uri
from flows.rollout import work
from flows.rollout.phase import run_phase
from ledger.errors import PolicyViolation
from policies.code import running_code_digest
from policies.rollout.drill_report import DrillReport
from policies.rollout.record import Champion, Opened
from policies.rollout.standing import Standing
from policies.rollout.statements import Drill
from tasks.coordinator.party import Coordinator
from tasks.evidence.audit import audit
from tasks.progress import Progress
from tasks.rollout import promotion
from tasks.rollout.promotion import roll_back
from tasks.rollout.signatures import NotAPhaseError, sign_evidence, statement_to_sign
from tasks.step import StepError
from tests.consortium import SITES, Consortium, PowerCut
from tests.flows.rollout.clinic import OFFICERS, clinical, conform, new, plan, terms
from tests.flows.rollout.founding import package, sign
from tests.policies.rollout.phases import drill_report
from tests.tasks.evidence.witnessed import files_of

pytestmark = pytest.mark.xdist_group("rounds-3")
STUDY = "pneumonia-xray"


def aliases(consortium: Consortium) -> dict[str, str]:
    uri = store_uri(consortium.founded.coordinator)
    found = MlflowClient(tracking_uri=uri, registry_uri=uri).get_registered_model(STUDY).aliases
    return {str(name): str(version) for name, version in found.items()}


async def back(coordinator: Coordinator, *, to: str | None) -> Champion | None:
    return await roll_back(coordinator, study=STUDY, to=to, kind="model-harm")


def test_a_champion_is_promoted_followed_by_another_and_gone_back_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium = new(tmp_path)
    conform(consortium)
    first = partial(clinical, terms=terms(consortium), plan=plan())
    standing = asyncio.run(consortium.serve(first))
    assert standing.measured is not None and not standing.through
    # 1. Evidence verifies whole, with limits and the change plan.
    path = package(consortium)
    found = audit(path)
    assert found.passed and not found.missing_reports
    newest = json.loads(files_of(path.read_bytes())["payload/phase.json"])["newest"]
    assert newest["limits_micro"]["low"] >= 800_000 and newest["decision_curve"]
    # 2. Officers of the pilot do not suffice for the clinic.
    sign(consortium, *OFFICERS[:4])
    assert {line.split("role ")[1] for line in asyncio.run(consortium.serve(first)).missing} == {
        "clinical-lead", "regulatory-officer",
    }  # fmt: skip
    with pytest.raises(PolicyViolation) as caught:
        asyncio.run(consortium.serve(_promote))
    assert {one.code for one in caught.value.violations} == {"phase.sign-off"}
    # 3. Cut off between the ledger and the registry, and continued.
    sign(consortium, *OFFICERS)
    with monkeypatch.context() as cut:
        cut.setattr(promotion, "name_champion", _cut_off)
        with pytest.raises(StepError):
            asyncio.run(consortium.serve(first))
    assert consortium.state().rollout.champion(STUDY) is not None and aliases(consortium) == {
        "candidate": "1"
    }
    standing = asyncio.run(consortium.serve(first))
    assert standing.through and standing.missing == ()
    assert aliases(consortium) == {"candidate": "1", "champion": "1"}
    size = consortium.state().size
    asyncio.run(consortium.serve(first))  # it lies behind: nothing is done
    assert consortium.state().size == size
    # 4. The next model's clinical phase is under terms of its own, against this champion.
    conform(consortium)
    second = partial(
        clinical, terms=terms(consortium, maximum_regression=0.2), plan=plan(edition="2", base="latest")
    )
    asyncio.run(consortium.serve(second))
    sign(consortium, *OFFICERS)
    asyncio.run(consortium.serve(second))
    assert aliases(consortium) == {"candidate": "2", "champion": "2"}
    former, there = consortium.state().rollout.champions[STUDY]
    assert former.body.model_digest != there.body.model_digest
    # 5. And back, in one step and without anybody's signature; what is so already is not said again.
    for _ in range(2):
        now = asyncio.run(consortium.serve(partial(back, to=former.body.model_digest)))
        assert now == former and aliases(consortium) == {"candidate": "2", "champion": "1"}
    assert len(consortium.state().rollout.rolled_back) == 1
    with pytest.raises(PolicyViolation) as caught:
        asyncio.run(consortium.serve(partial(back, to=there.body.model_digest)))
    assert caught.value.code == "model.never-champion"
    assert asyncio.run(consortium.serve(partial(back, to=None))) is None
    assert aliases(consortium) == {"candidate": "2"}


async def test_a_clinic_that_is_killed_between_any_two_steps_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No round is repeated, no budget drawn twice, no drill recorded and no model promoted twice."""
    monkeypatch.setattr(work, "played", _reported)
    consortium = new(tmp_path)
    wanted, night = terms(consortium), plan()
    seen: set[str] = set()

    def at_a_new_step(progress: Progress) -> bool:
        if progress.party != "coordinator" or progress.step in seen:
            return False
        seen.add(progress.step)
        return True

    async def one_night(coordinator: Coordinator) -> Standing:
        async def spend(party: Coordinator, opened: Opened) -> None:
            await work.spend_night_with_drills(party, opened, night)

        return await run_phase(coordinator, wanted, spend)

    async def until_promoted() -> None:
        said = False
        for _ in range(80):
            try:
                standing = await consortium.conduct(one_night, cut_at=at_a_new_step)
            except PowerCut:
                if not said and consortium.state().rollout.opened is not None:
                    conform(consortium)
                    said = True
                continue
            except PolicyViolation as violation:  # the sites' records are on their way
                assert {one.code for one in violation.violations} <= {"phase.conformance", "phase.reported"}
                await asyncio.sleep(0.5)
                continue
            if standing.through:
                return
            sign(consortium, *OFFICERS)
        raise AssertionError(f"never done: {sorted(seen)}")

    async with consortium.serving():
        await until_promoted()
    assert {"record the drill drift", "measure clinical", "promote"} <= seen and len(seen) >= 12, seen
    state, key = consortium.state(), (night.content_digest(), 1)
    assert list(state.registered) == [key] and {state.attempts[(*key, site)] for site in SITES} == {1}
    assert len(state.rollout.drill_reports) == 2 and len(state.rollout.champions[STUDY]) == 1
    assert aliases(consortium) == {"candidate": "1", "champion": "1"}


async def _reported(log: Path, drills: Collection[Drill], **_: object) -> AsyncIterator[DrillReport]:
    """Drills as if they were played and passed: what they do is tried in `test_drills`."""
    for drill in drills:
        found = DrillReport.from_canonical(drill_report(drill), what="report")
        yield found.with_fields({"code_digest": running_code_digest()})


def test_evidence_without_its_change_plan_is_signed_by_nobody(tmp_path: Path) -> None:
    consortium = new(tmp_path)
    conform(consortium)
    wanted = terms(consortium)
    (report,) = (consortium.founded.coordinator / "reports").glob("change-plan-*")
    report.unlink()
    asyncio.run(consortium.serve(partial(clinical, terms=wanted, plan=plan())))
    with pytest.raises(NotAPhaseError, match="change-plan"):
        sign_evidence(
            package(consortium), consortium.founded.officers[OFFICERS[0]], consortium.founded.federation
        )


async def _promote(coordinator: Coordinator) -> Champion:
    statement = statement_to_sign(coordinator.home.root, coordinator.state)
    assert statement is not None
    return await promotion.promote(coordinator, statement)


def _cut_off(*_: object) -> None:
    raise ConnectionError
