"""How far the pools reach: what a plan would leave in each, how many more runs of it they admit, and whether one more
would be admitted now.

A nightly schedule asks here the evening before, and a build asks before anybody publishes. Nothing is decided here:
the gates (`policies.gates`) are asked about what is still to be drawn. Pure readings of the folded state; no clock.
Arithmetic is the filter's (DESIGN.md section 6; Feldman and Zrnic 2021): whole micro-units at each pool's pinned
order, where uses add up exactly, so that the count of further runs is a division and no simulation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ledger.errors import Violation
from policies.cost import plan_cost, round_cost
from policies.federation import Member
from policies.gates import plan_violations
from policies.plan import Plan
from policies.rego import Rules
from policies.selection import that_count
from privacy.accounting import Curve

if TYPE_CHECKING:
    from policies.state import FederationState

PLAN: Final = ""
"""Whom a violation concerns that is not about one site: the plan and its federation."""


@dataclass(frozen=True, slots=True)
class PoolOutlook:
    """One site's pool in micro-epsilon at its `delta`: now, and after what the plan has still to draw."""

    site: str
    spent_micro: int
    with_plan_micro: int
    cap_micro: int
    delta: float
    runs_left: int | None
    """Whole further runs of the plan, beyond what it has still to draw; None if a run draws nothing."""


def remaining_cost(state: FederationState, plan: Plan, site: str) -> Curve:
    """What this very edition of the plan has still to draw from a site's pool: all of it before it is published,
    nothing once it ended. A round counts as drawn from its first reservation on."""
    digest = plan.content_digest()
    if has_ended(state, plan):
        return Curve.zero()
    drawn = [
        round_cost(plan, number)
        for number in range(1, plan.rounds + 1)
        if (digest, number, site) in state.attempts
    ]
    return plan_cost(plan) - sum(drawn, Curve.zero())


def has_ended(state: FederationState, plan: Plan) -> bool:
    """Whether this edition passed its last round or failed a gate: either way nothing more is trained under it."""
    digest = plan.content_digest()
    verdicts = (state.verdicts.get((digest, number)) for number in range(plan.rounds + 1))
    failed = any(verdict is not None and not verdict.passed for verdict in verdicts)
    return failed or (digest, plan.rounds) in state.verdicts


def pool_outlooks(state: FederationState, plan: Plan) -> tuple[PoolOutlook, ...]:
    """Every pool of the federation, in the order of its document; none before it is founded."""
    if state.federation is None:
        return ()
    found = []
    for member in state.federation.sites():
        pool = member.pool
        if pool is None:
            continue
        spent = state.spent_by(member.name)
        after = spent + remaining_cost(state, plan, member.name)
        found.append(
            PoolOutlook(
                site=member.name,
                spent_micro=pool.epsilon_micro(spent),
                with_plan_micro=pool.epsilon_micro(after),
                cap_micro=pool.epsilon_cap_micro,
                delta=pool.delta,
                runs_left=_runs_left(member, after, plan_cost(plan)),
            )
        )
    return tuple(found)


def nights_left(state: FederationState, plan: Plan) -> int | None:
    """How many more runs of the plan, each under an edition of its own, every pool admits.

    What this edition has still to draw, if it is under way, is drawn first; an edition that is not on the ledger
    is the first of the runs that are counted. None if no pool limits it: there is none, or a run draws nothing.
    """
    if state.federation is None:
        return None
    under_way = plan.content_digest() in state.plans
    counts = []
    for member in state.federation.sites():
        spent = state.spent_by(member.name)
        if under_way:
            spent = spent + remaining_cost(state, plan, member.name)
        counts.append(_runs_left(member, spent, plan_cost(plan)))
    return min((count for count in counts if count is not None), default=None)


def next_run_violations(
    state: FederationState, plan: Plan, *, log_time_s: int | None = None, rules: Rules | None = None
) -> list[Violation]:
    """Why one more edition of the plan would not be admitted now; empty if it would be.

    An edition that is under way draws the rest of its cost first. `log_time_s` is the log time of that run, by
    default the log's now: give the evening after to see a consent policy end before it.
    """
    if state.federation is None:
        return plan_violations(state, plan, rules=rules)
    costs = {
        member.name: plan_cost(plan)
        + (remaining_cost(state, plan, member.name) if plan.content_digest() in state.plans else Curve.zero())
        for member in state.federation.sites()
    }
    found = violations_by_site(state, plan, costs, log_time_s=log_time_s, rules=rules)
    return [violation for listed in found.values() for violation in listed]


def violations_by_site(
    state: FederationState,
    plan: Plan,
    costs: dict[str, Curve],
    *,
    log_time_s: int | None = None,
    rules: Rules | None = None,
) -> dict[str, list[Violation]]:
    """`policies.gates.plan_violations` told apart by whom they concern: PLAN first, then every site by its name.

    `costs`: site → what is to be drawn from its pool. FederationState must be founded.
    """
    # No site has the empty name, so that only the plan itself is asked about.
    own = plan_violations(state, plan, site=PLAN, log_time_s=log_time_s, rules=rules)
    found: dict[str, list[Violation]] = {}
    for member in state.founded().sites():
        asked = plan_violations(
            state, plan, site=member.name, cost=costs[member.name], log_time_s=log_time_s, rules=rules
        )
        found[member.name] = asked[len(own) :]
    return {PLAN: own, **that_count(plan, found)}


def _runs_left(member: Member, spent: Curve, cost: Curve) -> int | None:
    """How often `cost` fits under the pool's cap beside `spent`, at the pool's order."""
    if member.pool is None:
        return 0  # without a pool nothing may be drawn
    each = member.pool.rdp_micro(cost)
    if each == 0:
        return None
    return max(0, (member.pool.rdp_cap_micro - member.pool.rdp_micro(spent)) // each)
