"""Admission of budget events: reservations before anything is drawn, and their settlement afterwards.

The arithmetic is exact and made here: mechanisms, attempts, totals. Whether a site may draw at all is the rules'
(decision `reservation`, over `policies.facts`). A reservation over the cap never becomes part of the log, whoever
operates it. How curves are computed lives in `privacy.accounting`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.errors import Violation
from policies import facts
from policies.cost import mechanisms_of, round_mechanisms
from policies.events import BudgetReserved, BudgetSpent
from policies.gates import member_message
from policies.inquiry import AnyPlan
from policies.receipt import Step
from policies.rego import installed_rules
from policies.rounds import known_plan, open_round
from privacy import accounting
from privacy.accounting import Curve
from privacy.mechanisms import Mechanism

if TYPE_CHECKING:
    from policies.state import FederationState


def reservation(
    state: FederationState, institution: str, body: BudgetReserved, *, log_time_s: int
) -> list[Violation]:
    """The whole cost of the plan's next round, under the cap with everything that was drawn before."""
    found = open_round(state, body.plan_digest, body.round)
    if found:
        return found
    plan = state.plan_of(body.plan_digest)
    if body.mechanisms != round_mechanisms(plan, body.round):
        # Not priced: what is not the plan's could be beyond every price.
        return [Violation("budget.mechanisms", "the mechanisms are not those of the plan")]
    if body.attempt != state.attempts.get((body.plan_digest, body.round, institution), 0) + 1:
        found.append(Violation("budget.attempt", "the reservation is not the next attempt"))
    if institution not in state.rosters.get(body.plan_digest, ()):
        found.append(Violation("roster.absent", f"{institution} is not in the plan's roster"))
    member = state.founded().member(institution)
    if member is None or member.pool is None:
        return [*found, Violation("budget.no-pool", f"{institution} has no data pool")]
    cost = accounting.total(body.mechanisms)
    told = facts.reservation_facts(state, plan, body.plan_digest, member, cost=cost, log_time_s=log_time_s)
    found.extend(
        Violation(code, member_message(code, state, plan, member, cost))
        for code in installed_rules().decide("reservation", told)
    )
    if member.pool.epsilon_micro(state.spent_by(institution) + cost) != body.epsilon_total_micro:
        found.append(Violation("budget.total", "the total is not what the ledger adds up to"))
    return found


def unreleased(plan: AnyPlan, round_number: int, released: tuple[Step, ...]) -> tuple[Mechanism, ...]:
    """The mechanisms of the steps of one round whose `Release` was never built."""
    return tuple(
        mechanism
        for step in plan.steps_of(round_number)
        if step not in released
        for mechanism in mechanisms_of(plan, step, round_number=round_number)
    )


def given_back(plan: AnyPlan, round_number: int, released: tuple[Step, ...]) -> Curve:
    """What those would have cost."""
    return accounting.total(unreleased(plan, round_number, released))


def settlement(state: FederationState, institution: str, body: BudgetSpent) -> list[Violation]:
    """Once for an attempt, by what was released: whatever has a receipt was, and nothing gets one afterwards."""
    found = known_plan(state, body.plan_digest)
    if found:
        return found
    plan = state.plan_of(body.plan_digest)
    key = (body.plan_digest, body.round, institution)
    if body.attempt != state.attempts.get(key, 0):
        return [Violation("budget.no-reservation", f"{institution} reserved no budget for this")]
    if key in state.settled and state.settled[key].attempt == body.attempt:
        found.append(Violation("budget.settled-twice", f"{institution} has settled this attempt already"))
    steps = plan.steps_of(body.round)
    if tuple(step for step in steps if step in body.released) != body.released:
        found.append(Violation("budget.steps", "the plan's steps are listed once each, in their order"))
    reported = {step for step in steps if (body.plan_digest, body.round, step, institution) in state.receipts}
    if not reported <= set(body.released):
        found.append(Violation("budget.released", "a step with a receipt was released and is not given back"))
    if found:
        return found
    back = given_back(plan, body.round, body.released)
    left = state.spent_by(institution) - back
    pool = None if (member := state.founded().member(institution)) is None else member.pool
    if pool is None or pool.epsilon_micro(left) != body.epsilon_total_micro:
        found.append(Violation("budget.total", "the total is not what the ledger adds up to"))
    return found
