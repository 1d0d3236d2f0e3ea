"""The shape of every phase: enter, work, measure, write the evidence, and end it once officers have signed.

Each step looks at the ledger first and does only what is not there, so that a run that was cut off anywhere is
continued by running it again. Sign-off takes people days: a run that waits for it ends, and the next one (or
`wardround phase advance`) carries the signatures to the ledger. The phases are beside this file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from prefect.client.schemas.objects import State
from prefect.states import Completed

from policies.rollout.record import Opened
from policies.rollout.standing import Standing
from policies.rollout.statements import PhaseTerms
from tasks.coordinator.party import Coordinator
from tasks.rollout.measurement import measure, record_phase_evidence
from tasks.rollout.signatures import advance, statement_to_sign, unsigned_now
from tasks.rollout.status import coordinator_standing, show_standing
from tasks.rollout.terms import enter

Work = Callable[[Coordinator, Opened], Awaitable[None]]


async def run_phase(coordinator: Coordinator, terms: PhaseTerms, work: Work) -> Standing:
    """Bring the phase as far as it comes. PolicyViolation names everything that keeps it from being measured."""
    try:
        # 1. Its terms, before anything that counts.
        opened = await enter(coordinator, terms)
        if opened is not None:
            # 2. What it is for.
            if coordinator.state.rollout.measured is None:
                await work(coordinator, opened)
            # 3. Whether its terms are met, and the evidence.
            measured = await measure(coordinator)
            await record_phase_evidence(coordinator, measured)
            # 4. Its end, if those whom it takes have signed.
            statement = statement_to_sign(coordinator.home.root, coordinator.state)
            if statement is not None and not unsigned_now(coordinator, statement):
                await advance(coordinator, statement)
    finally:
        await show_standing(coordinator)
    return coordinator_standing(coordinator.home.root, coordinator.state)


def ended(terms: PhaseTerms, standing: Standing) -> State[None]:
    """What Prefect shows of a run that did all it could."""
    if standing.phase != terms.phase:
        return Completed(message=f"{terms.phase} is over: the federation is in its phase {standing.phase}")
    return Completed(message=f"{terms.phase} waits for: {'; '.join(standing.missing)}")
