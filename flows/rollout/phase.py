"""The shape of every phase: enter, work, measure, write the evidence, and end it once officers have signed.

Each step looks at the ledger first and does only what is not there, so that a run that was cut off anywhere is
continued by running it again. Sign-off takes people days: a run that waits for it ends, and the next one (or
`wardround phase advance`) carries the signatures to the ledger. The phases are beside this file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.coordinator import plan_of_night
from policies.plan import Plan
from policies.rollout import gate
from policies.rollout.record import Opened
from policies.rollout.standing import Standing
from policies.rollout.statements import PhaseTerms
from tasks.coordinator.party import Coordinator, opened_coordinator
from tasks.rollout.measurement import measure, record_phase_evidence
from tasks.rollout.promotion import end_phase, settle_champions
from tasks.rollout.signatures import statement_to_sign, unsigned_now
from tasks.rollout.status import coordinator_standing, show_standing
from tasks.rollout.terms import enter, read_terms

Work = Callable[[Coordinator, Opened], Awaitable[None]]
NightWork = Callable[[Coordinator, Opened, Plan], Awaitable[Sequence[str]]]
"""What a phase does with a night's plan; returns what there is to tell of it."""


async def run_phase(coordinator: Coordinator, terms: PhaseTerms, work: Work) -> Standing:
    """Bring the phase as far as it comes. PolicyViolation names everything that keeps it from being measured."""
    try:
        # 1. Its terms, before anything that counts; and, whatever comes of them, what a run that was cut off left of
        # a promotion or a rollback.
        try:
            opened = await enter(coordinator, terms)
        finally:
            await settle_champions(coordinator)
        if opened is not None:
            # 2. What it is for.
            if coordinator.state.rollout.measured is None:
                await work(coordinator, opened)
            # 3. Whether its terms are met, and the evidence; not while nights are still to come.
            if not awaits_rounds(coordinator):
                measured = await measure(coordinator)
                await record_phase_evidence(coordinator, measured)
                # 4. Its end, if those whom it takes have signed.
                statement = statement_to_sign(coordinator.home.root, coordinator.state)
                if statement is not None and not unsigned_now(coordinator, statement):
                    await end_phase(coordinator, statement)
    finally:
        await show_standing(coordinator)
    return coordinator_standing(coordinator.home.root, coordinator.state)


async def run_phase_night(
    home: Path,
    terms: Path,
    plan: Path,
    work: NightWork,
    *,
    edition: str | None,
    cron: str | None,
    time_zone: str,
) -> State[None]:
    """One night of a phase whose work is a plan's rounds; `edition`, `cron` and `time_zone` as of
    `flows.coordinator.federated_round`."""
    told: list[str] = []
    wanted = read_terms(terms)
    night = await plan_of_night(home, plan, edition=edition, cron=cron, time_zone=time_zone)

    async def spend(coordinator: Coordinator, opened: Opened) -> None:
        told.extend(await work(coordinator, opened, night))

    async with opened_coordinator(home) as coordinator:
        standing = await run_phase(coordinator, wanted, spend)
    return ended(wanted, standing, told)


def awaits_rounds(coordinator: Coordinator) -> bool:
    """Whether nights are still to come: a run before the last of them has not failed."""
    opened = coordinator.state.rollout.opened
    if opened is None:
        return False
    return any(one.code == "phase.rounds" for one in gate.exit_violations(coordinator.state, opened))


def ended(terms: PhaseTerms, standing: Standing, told: Sequence[str] = ()) -> State[None]:
    """What Prefect shows of a run that did all it could."""
    if standing.phase != terms.phase:
        said = f"{terms.phase} is over: the federation is in its phase {standing.phase}"
    elif standing.through:
        champions = ", ".join(f"{one.study}: model {one.model_digest}" for one in standing.champions)
        said = f"{terms.phase} is over, with the champion of {champions}"
    else:
        said = f"{terms.phase} waits for: {'; '.join(standing.missing)}"
    return Completed(message=" ".join((*told, said)))
