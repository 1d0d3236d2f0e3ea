"""Who sums together where a plan wants fewer than have approved it: a pure function of the ledger.

Every witness works it out for itself and refuses another roster, so that a coordinator cannot choose its company
(docs/operations.md). In this order, until the plan has as many sites as it selects:

    1. sites that the plan requires by name
    2. key holders, as many as the plan's sums cannot be opened without
    3. all others

and within each: first those whose pool can still pay for the whole plan, then by their record of reporting, then by
SHA-256 over what no single party chooses: the plan's digest and the masking keys that all of these sites announced
after it was published.

A record is the share of closed steps in which a site reported, of the last `RECENT` plans whose roster it was in and
that were published before this one. A report counts by its receipt on the ledger, whatever the coordinator made of
it, so that refusing a site's reports does not spoil its record. Who has no record counts as reliable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from ledger import canonical
from ledger.errors import Violation
from policies.cost import plan_cost
from policies.inquiry import AnyPlan
from policies.protection import candidates, holders_needed

if TYPE_CHECKING:
    from policies.federation import Federation
    from policies.state import FederationState

RECENT: Final = 10
NOT_SELECTED: Final = "roster.not-selected"
"""Why a site that approved a plan is missing from its rounds."""


def roster_now(state: FederationState, plan_digest: str) -> tuple[str, ...]:
    """Whom the roster of the plan must name now: all candidates, or those of them that are selected; by name."""
    able, plan = candidates(state, plan_digest), state.plan_of(plan_digest)
    wanted = plan.participation.select
    if wanted is None or len(able) <= wanted:
        return able
    ranked = _ranked(state, plan_digest, able)
    holders = [name for name in ranked if name in state.founded().key_holders]
    first = [name for name in ranked if name in plan.participation.required]
    order = [*first, *holders[: holders_needed(plan, state.founded())], *ranked]
    return tuple(sorted([*dict.fromkeys(order)][:wanted]))


def selection_violations(plan: AnyPlan, federation: Federation) -> list[Violation]:
    """A plan whose selection would hold too few key holders: the sites that it requires come first."""
    wanted, required = plan.participation.select, set(plan.participation.required)
    holders = len(required & set(federation.key_holders))
    if wanted is None or wanted >= len(required) + max(0, holders_needed(plan, federation) - holders):
        return []
    message = (
        "the plan selects too few sites for those that it requires and the key holders that open its sums"
    )
    return [Violation("roster.holders", message)]


def is_early(state: FederationState, plan_digest: str, *, log_time_s: int) -> bool:
    """Whether the roster of a plan that selects may not be fixed yet: somebody has not answered, and the plan's
    deadline, by the log's time, is not over. Else a coordinator could fix it as soon as its friends approved."""
    plan = state.plan_of(plan_digest)
    if plan.participation.select is None:
        return False
    approved, step = state.approvals.get(plan_digest, frozenset()), plan.steps[0]
    waiting = any(
        site.name not in approved
        and site.name not in state.quarantined
        and (plan_digest, 0, step, site.name) not in state.refusals
        for site in state.founded().sites()
    )
    return waiting and log_time_s < state.published_time_s[plan_digest] + plan.participation.deadline_s


def is_left_out(state: FederationState, plan_digest: str, site: str) -> bool:
    """Whether a site could have taken part and was not selected."""
    roster = state.rosters.get(plan_digest)
    selects = state.plan_of(plan_digest).participation.select is not None
    return selects and roster is not None and site not in roster and site in candidates(state, plan_digest)


def record_of(state: FederationState, plan_digest: str, site: str) -> Fraction:
    """The site's record of reporting before this plan was published, between 0 and 1; 1 of a new site."""
    before = state.published_at[plan_digest]
    rostered = sorted(
        (state.published_at[digest], digest)
        for digest, roster in state.rosters.items()
        if site in roster and state.published_at[digest] < before
    )
    recent = {digest for _, digest in rostered[-RECENT:]}
    steps = [key for key in state.closed if key[0] in recent]
    if not steps:
        return Fraction(1)
    return Fraction(sum((*key, site) in state.receipts for key in steps), len(steps))


def that_count(plan: AnyPlan, by_site: Mapping[str, Sequence[Violation]]) -> dict[str, list[Violation]]:
    """Of what the rules have against each site, all that refuses the plan. Where a plan selects, sites that it does
    not need cannot stop it, as long as enough others have nothing against them."""
    wanted = plan.participation.select
    free = sum(not found for found in by_site.values())
    return {
        site: [*found] if wanted is None or free < wanted or site in plan.participation.required else []
        for site, found in by_site.items()
    }


def _ranked(state: FederationState, plan_digest: str, able: Sequence[str]) -> list[str]:
    cost = plan_cost(state.plan_of(plan_digest))

    def pays(site: str) -> bool:
        member = state.founded().member(site)
        pool = None if member is None else member.pool
        return pool is not None and pool.rdp_micro(state.spent_by(site) + cost) <= pool.rdp_cap_micro

    keys: canonical.JsonValue = {site: state.masking_keys[plan_digest, site] for site in able}

    def lot(site: str) -> str:
        drawn = {"wardround": "selection/v1", "plan": plan_digest, "keys": keys, "site": site}
        return canonical.digest(canonical.encode(drawn))

    return sorted(able, key=lambda site: (not pays(site), -record_of(state, plan_digest, site), lot(site)))
