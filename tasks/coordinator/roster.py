"""Fix a plan's roster: wait for every site's word on the plan, then put on the ledger among whom it sums.

Whoever has not approved by the deadline, or is not selected, takes part in no round of the plan, and is named as
missing in each.
"""

from __future__ import annotations

from contextlib import suppress

from ledger.errors import PolicyViolation
from policies.events import Published, RosterFixed
from policies.selection import roster_now
from policies.state import FederationState
from tasks.background import DeadlineError
from tasks.coordinator.party import Coordinator
from tasks.step import step


@step
async def fix_roster(coordinator: Coordinator, published: Published) -> frozenset[str]:
    """The sites of the roster, by this run or one that was cut off; none if too few approved, which the round's
    gate says with everybody's reason. Raises with the log's reasons if these sites cannot sum as the plan wants."""
    digest = published.plan_digest
    fixed = coordinator.state.rosters.get(digest)
    if fixed is not None:
        return frozenset(fixed)
    coordinator.tell("fix the roster")

    step = published.plan.steps[0]

    def answered(state: FederationState) -> bool | None:
        sites = {site.name for site in state.founded().sites()} - state.quarantined.keys()
        declined = {site for site in sites if (digest, 0, step, site) in state.refusals}
        return sites <= state.approvals.get(digest, frozenset()) | declined or None

    with suppress(DeadlineError):  # who is silent is left out, by name
        await coordinator.until(
            answered, timeout_s=published.plan.participation.deadline_s, waiting_for="the sites' approvals"
        )
    while True:
        sites = roster_now(coordinator.state, digest)
        if len(sites) < published.plan.participation.minimum_sites:
            return frozenset()
        try:
            await coordinator.say(RosterFixed(plan_digest=digest, sites=sites))
        except PolicyViolation as violation:
            codes = {found.code for found in violation.violations}
            if "roster.too-few" in codes:
                return frozenset()
            if codes not in ({"roster.sites"}, {"roster.selection"}):
                raise
            continue  # one more approved or left while this was said
        return frozenset(sites)
