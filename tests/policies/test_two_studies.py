"""Two studies draw on one register: each fits alone, both together do not, and who is second is refused."""

from __future__ import annotations

from policies.cost import round_cost
from policies.events import GateVerdict
from tests.policies.assembly import Assembly, at, plan
from tests.policies.founding import COORDINATOR, SITES, pool

FIRST, SECOND = plan(rounds=1, study="one-study"), plan(rounds=1, study="another-study", edition="2")
CAP = next(
    cap / 10
    for cap in range(1, 500)
    if pool(cap / 10).rdp_cap_micro >= pool(cap / 10).rdp_micro(round_cost(FIRST, 1))
)
"""Room for one round of either, not for two."""


def both_passed() -> Assembly:
    """Both plans went through their gates while the pools were still full, and every site approved both."""
    assembly = at("published", plan=FIRST, cap=CAP)
    assembly.plan = SECOND
    assembly.say(COORDINATOR, assembly.published())
    for each in (FIRST, SECOND):
        assembly.plan = each
        assembly.say(COORDINATOR, assembly.verdict(0))
        assert assembly.state.verdicts[assembly.digest, 0] == GateVerdict(
            plan_digest=assembly.digest, round=0, passed=True, violations=()
        )
        for site in SITES:
            assembly.say(site, assembly.approval(site))
        assembly.say(COORDINATOR, assembly.roster())
    for site in SITES:
        assembly.say(site, assembly.consents(site))
    return assembly


def test_two_studies_that_reserve_at_the_same_instant_cannot_overspend() -> None:
    """Both reservations are made against the same pool; the log puts one of them first."""
    assembly = both_passed()
    at_once = []
    for each in (FIRST, SECOND):
        assembly.plan = each
        at_once.append(assembly.reservation(SITES[0]))
    first, second = at_once
    assembly.say(SITES[0], first)
    assert assembly.refusals(assembly.entry(SITES[0], second)) >= {"budget.pool-cap"}
    spent = pool(CAP).epsilon_micro(assembly.state.spent_by(SITES[0]))
    assert 0 < spent <= CAP * 1_000_000
    # Another site's pool is its own.
    assembly.say(SITES[1], assembly.reservation(SITES[1]))
