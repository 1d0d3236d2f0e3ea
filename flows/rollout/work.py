"""What the phases after the foundation have in common: a night of their plan, and their drills.

Both look at the ledger first: a night that is done is not repeated, nor a drill that was passed since the terms.
"""

from __future__ import annotations

from flows.coordinator import run_night
from flows.rollout.drilling import played
from ledger.errors import PolicyViolation, Violation
from policies.plan import Plan
from policies.rollout.record import Opened
from policies.rollout.statements import Drill
from tasks.coordinator.party import Coordinator
from tasks.rollout.drilling import drills_to_play, record_drill


async def spend_night(coordinator: Coordinator, opened: Opened, plan: Plan) -> list[str]:
    """The rounds of the night that the plan's edition names; what there is to tell of it. PolicyViolation if the plan
    is not of the terms' study: its rounds would count for nothing."""
    if plan.study != opened.terms.study:
        said = f"the plan is of the study {plan.study}, the terms ask for {opened.terms.study}"
        raise PolicyViolation([Violation("phase.other-study", said)])
    return await run_night(coordinator, plan)


async def spend_night_with_drills(
    coordinator: Coordinator, opened: Opened, plan: Plan, *, sabotage: Drill | None = None
) -> list[str]:
    """The night, and after it every drill that is missing."""
    told = await spend_night(coordinator, opened, plan)
    return [*told, *await pass_drills(coordinator, sabotage=sabotage)]


async def pass_drills(coordinator: Coordinator, *, sabotage: Drill | None = None) -> list[str]:
    """Every drill that is missing. What was not passed is told and not recorded, so that the gate names it."""
    told = []
    missing = drills_to_play(coordinator.state)
    sabotaged = () if sabotage is None else (sabotage,)
    async for report in played(coordinator.home.log, missing, sabotaged=sabotaged):
        try:
            await record_drill(coordinator, report)
        except PolicyViolation as violation:
            told.append(f"The drill {report.drill} was not passed: {violation.public_message}.")
    return told
