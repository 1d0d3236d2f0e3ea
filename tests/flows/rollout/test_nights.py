"""The nights of a phase: counted, fired twice, cut off, and its thresholds touched after the first of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from flows.rollout.phase import run_phase
from flows.rollout.work import spend_night
from ledger.errors import PolicyViolation
from policies.plan import Plan
from policies.rollout.record import Opened
from policies.rollout.standing import Standing
from policies.rollout.statements import IncidentReported, PhaseTerms
from tasks.coordinator.party import Coordinator
from tasks.progress import Progress
from tasks.rollout.founding import await_sites
from tests.consortium import SITES, Consortium, PowerCut
from tests.flows.rollout.founding import TERMS as FOUNDATION
from tests.flows.rollout.founding import dry_round, record, sign

TERMS = FOUNDATION.with_fields({"minimum_rounds": 2})
"""Of the first phase, in which no threshold asks that anything be learned."""


def night(number: int) -> Plan:
    return dry_round().with_fields({"edition": f"night-{number}"})


async def spend(coordinator: Coordinator, number: int, *, terms: PhaseTerms = TERMS) -> Standing:
    async def work(party: Coordinator, opened: Opened) -> None:
        await spend_night(party, opened, night(number))

    return await run_phase(coordinator, terms, work)


async def recorded(coordinator: Coordinator) -> None:
    opened = coordinator.state.rollout.opened
    assert opened is not None
    await await_sites(coordinator, opened, wait_s=20.0)


def new(root: Path) -> Consortium:
    return Consortium.found(root, phase="foundation")


async def test_a_phase_is_measured_after_its_last_night_and_over_once_it_is_signed(tmp_path: Path) -> None:
    consortium = new(tmp_path)
    standing = await consortium.serve(lambda party: spend(party, 1))
    assert standing.measured is None and any("2 registered rounds" in line for line in standing.missing)
    record(consortium)  # once terms are in force
    await consortium.serve(recorded)
    standing = await consortium.serve(lambda party: spend(party, 2))
    assert standing.measured is not None, standing.missing
    sign(consortium)
    assert (await consortium.serve(lambda party: spend(party, 3))).phase == "pilot"
    assert len(consortium.state().registered) == 2  # what is measured is not worked on


async def test_a_scheduler_that_fires_twice_trains_once(tmp_path: Path) -> None:
    consortium = new(tmp_path)
    await consortium.serve(lambda party: spend(party, 1))
    spent = {site: consortium.state().spent_by(site) for site in SITES}
    standing = await consortium.serve(lambda party: spend(party, 1))
    assert standing.measured is None and len(consortium.state().registered) == 1
    assert {site: consortium.state().spent_by(site) for site in SITES} == spent


async def test_thresholds_stand_from_the_first_night_on(tmp_path: Path) -> None:
    consortium = new(tmp_path)
    await consortium.serve(lambda party: spend(party, 1))
    lower = TERMS.with_fields({"minimum_rounds": 1})
    with pytest.raises(PolicyViolation) as caught:
        await consortium.serve(lambda party: spend(party, 1, terms=lower))
    assert {one.code for one in caught.value.violations} == {"phase.terms-fixed"}
    opened = consortium.state().rollout.opened
    assert opened is not None and opened.terms == TERMS


async def test_a_plan_of_another_study_is_refused_before_anything_is_published(tmp_path: Path) -> None:
    consortium = new(tmp_path)
    with pytest.raises(PolicyViolation) as caught:
        other = TERMS.with_fields({"study": "another"})
        await consortium.serve(lambda party: spend(party, 1, terms=other))
    assert {one.code for one in caught.value.violations} == {"phase.other-study"}
    assert not consortium.state().plans


async def test_a_draft_is_refused_before_it_is_published_and_fixes_no_terms(tmp_path: Path) -> None:
    consortium = new(tmp_path)

    async def draft(coordinator: Coordinator) -> Standing:
        async def work(party: Coordinator, opened: Opened) -> None:
            await spend_night(party, opened, night(1).with_fields({"code_digests": []}))

        return await run_phase(coordinator, TERMS, work)

    with pytest.raises(PolicyViolation, match="code_digests") as caught:
        await consortium.serve(draft)
    assert caught.value.code == "plan.no-code" and not consortium.state().plans
    await consortium.serve(lambda party: spend(party, 1, terms=TERMS.with_fields({"minimum_rounds": 3})))


async def test_an_incident_between_two_nights_takes_the_work_on_the_phase_back(tmp_path: Path) -> None:
    consortium = new(tmp_path)
    await consortium.serve(lambda party: spend(party, 1))
    major = IncidentReported(severity="major", kind="wrong-data")

    async def report(coordinator: Coordinator) -> None:
        await coordinator.say(major)

    await consortium.serve(report)
    assert consortium.state().rollout.opened is None
    standing = await consortium.serve(lambda party: spend(party, 2))
    assert standing.measured is None and len(consortium.state().registered) == 2
    assert any("2 registered rounds" in line for line in standing.missing)  # the first counts no more


async def test_nights_that_are_killed_between_any_two_steps_are_continued(tmp_path: Path) -> None:
    """No round is repeated, no budget drawn twice, nothing said twice."""
    consortium = new(tmp_path)
    seen: set[tuple[str, bool]] = set()

    def at_a_new_step(progress: Progress) -> bool:
        first = not consortium.state().registered
        if progress.party != "coordinator" or (progress.step, first) in seen:
            return False
        seen.add((progress.step, first))
        return True

    async def nights(coordinator: Coordinator) -> Standing:
        standing = await spend(coordinator, 1)
        return await spend(coordinator, 2) if standing.phase == "foundation" else standing

    async def until_done() -> None:
        said = False
        for _ in range(80):
            try:
                standing = await consortium.conduct(nights, cut_at=at_a_new_step)
            except PowerCut:
                if not said and consortium.state().rollout.opened is not None:
                    record(consortium)
                    said = True
                continue
            except PolicyViolation as violation:
                # The sites' records are on their way.
                assert {one.code for one in violation.violations} <= {
                    "phase.conformance",
                    "phase.agreements",
                }, violation
                await asyncio.sleep(0.5)
                continue
            if standing.phase == "pilot":
                return
            sign(consortium)
        raise AssertionError(f"never done: {sorted(seen)}")

    async with consortium.serving():
        await until_done()
    assert len(seen) >= 10
    state = consortium.state()
    keys = [(night(number).content_digest(), 1) for number in (1, 2)]
    assert list(state.registered) == keys and len(state.rollout.ended) == 1
    assert {state.attempts[(*key, site)] for key in keys for site in SITES} == {1}
