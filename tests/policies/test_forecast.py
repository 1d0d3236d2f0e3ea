"""How far the pools reach: the count of further runs is the one that admitting them one by one comes to."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.cost import plan_cost, round_cost
from policies.events import SiteQuarantined
from policies.forecast import (
    PLAN,
    has_ended,
    next_run_violations,
    nights_left,
    pool_outlooks,
    remaining_cost,
    violations_by_site,
)
from policies.gates import plan_violations
from policies.plan import Plan
from policies.state import FederationState
from privacy.accounting import Curve
from tests.policies.assembly import STAGES, Assembly, at, plan
from tests.policies.founding import COORDINATOR, NOW_S, ORIGIN, SITES

A, B = SITES[:2]


def nightly(**fields: object) -> Plan:
    return plan(budget={"epsilon_cap": 100.0, "delta": 1e-5}, **fields)


def admitted_one_by_one(state: FederationState, wanted: Plan, *, most: int) -> int:
    """Run after run, as the ledger would admit and charge them."""
    trial = state.fork()
    for count in range(most):
        if plan_violations(trial, wanted):
            return count
        for site in SITES:
            trial.spent[site] = trial.spent_by(site) + plan_cost(wanted)
    return most


@settings(max_examples=25, deadline=None)
@given(
    cap=st.floats(1, 60),
    noise=st.floats(0.8, 3),
    rounds=st.integers(1, 5),
    drawn=st.dictionaries(st.sampled_from(SITES), st.integers(0, 4), max_size=4),
)
def test_nights_left_is_what_admitting_them_one_by_one_comes_to(
    cap: float, noise: float, rounds: int, drawn: dict[str, int]
) -> None:
    state = at("founded", cap=cap).state
    training = {**plan().to_json()["training"], "noise_multiplier": noise}  # type: ignore[dict-item]
    wanted = nightly(rounds=rounds, training=training)
    for site, count in drawn.items():
        state.spent[site] = round_cost(plan(rounds=2), 1).scaled(count)
    left = nights_left(state, wanted)
    assert left is not None
    most = 12
    assert min(left, most) == admitted_one_by_one(state, wanted, most=most)
    assert (not next_run_violations(state, wanted)) == (left > 0)


def test_a_schedule_that_would_overspend_stops_the_night_before_with_the_figures() -> None:
    """One night fits, two do not: after the first the second is refused, before anybody trains in it."""
    wanted = nightly()
    assembly = Assembly(plan=wanted, cap=15.0).reach("founded")
    pool = assembly.state.founded().sites()[0].pool
    assert pool is not None
    one = pool.rdp_micro(plan_cost(wanted))
    nights = pool.rdp_cap_micro // one
    assert nights_left(assembly.state, wanted) == nights > 1
    for site in SITES:
        assembly.state.spent[site] = plan_cost(wanted).scaled(nights - 1)
    assert nights_left(assembly.state, wanted) == 1 and not next_run_violations(assembly.state, wanted)

    for stage in STAGES[1:]:  # tonight's run, from its publication to its registered model
        assembly._take(stage)
    assert nights_left(assembly.state, wanted) == 0
    found = next_run_violations(assembly.state, wanted)
    assert [violation.code for violation in found] == ["budget.pool-cap"] * len(SITES)
    assert f"{A} has spent ε=" in found[0].message and "cap 15" in found[0].message


def test_a_night_that_is_under_way_draws_its_rest_before_the_next_is_counted() -> None:
    wanted = nightly(rounds=2)
    state = at("passed", plan=wanted).state
    assert remaining_cost(state, wanted, A) == plan_cost(wanted)
    begun = at("reserved", plan=wanted).state
    assert remaining_cost(begun, wanted, A) == round_cost(wanted, 1)
    # Nothing was drawn yet by the one and a round by the other: it is the same plan and comes to the same.
    assert nights_left(state, wanted) == nights_left(begun, wanted)
    fresh = at("founded").state
    unpublished, under_way = nights_left(fresh, wanted), nights_left(state, wanted)
    assert unpublished is not None and under_way == unpublished - 1
    # Room for exactly one run: tonight's takes it, and the forecast made while it runs knows.
    member = begun.founded().sites()[0]
    assert member.pool is not None
    spare = member.pool.rdp_cap_micro // member.pool.rdp_micro(plan_cost(wanted))
    state.spent[A] = plan_cost(wanted).scaled(spare - 1)
    assert nights_left(state, wanted) == 0
    assert [item.code for item in next_run_violations(state, wanted)] == ["budget.pool-cap"]
    assert not plan_violations(state, wanted), "the run that is under way itself still fits"


def test_what_other_plans_drew_counts_as_the_commonest_bug_forgets() -> None:
    """A fresh accountant for every plan would promise this plan the whole pool."""
    other = at("registered", plan=nightly(rounds=1)).state
    wanted = nightly(study="another-study", rounds=1)
    fresh, after = nights_left(at("founded").state, wanted), nights_left(other, wanted)
    assert fresh is not None and after is not None and after < fresh
    (first, *_) = pool_outlooks(other, wanted)
    assert 0 < first.spent_micro < first.with_plan_micro < first.cap_micro


def test_the_poorest_pool_decides() -> None:
    state = at("founded").state
    wanted = nightly()
    before = nights_left(state, wanted)
    assert before is not None
    state.spent[B] = plan_cost(wanted).scaled(before - 3)
    assert nights_left(state, wanted) == 3
    state.spent[B] = plan_cost(wanted).scaled(before + 3)
    assert nights_left(state, wanted) == 0, "never below zero"
    runs = {outlook.site: outlook.runs_left for outlook in pool_outlooks(state, wanted)}
    assert runs[B] == 0 and runs[A] == before - 1
    found = violations_by_site(state, wanted, {site: plan_cost(wanted) for site in SITES})
    assert {site for site, listed in found.items() if listed} == {B}


def test_a_consent_policy_that_ends_before_the_next_night_is_seen_the_evening_before() -> None:
    state = at("consented").state
    policy = state.consent_policies[A, "2026-1"]
    state.consent_policies[A, "2026-1"] = policy.with_fields({"valid_until_s": NOW_S + 3600})
    wanted = nightly(edition="2")
    assert not next_run_violations(state, wanted)
    found = next_run_violations(state, wanted, log_time_s=NOW_S + 86_400)
    assert [item.code for item in found] == ["consent.not-in-force"]


def test_a_quarantined_site_and_a_draft_stop_the_next_night_too() -> None:
    assembly = at("consented")
    assembly.say(COORDINATOR, SiteQuarantined(site=A, code="test.reason"))
    draft = nightly(edition="2").with_fields({"code_digests": []})
    codes = [item.code for item in next_run_violations(assembly.state, draft)]
    assert codes == ["plan.no-code", "site.quarantined"]


def test_an_edition_ends_with_its_last_verdict_or_its_first_refusal() -> None:
    one, two = nightly(rounds=1), nightly(rounds=2)
    assert not has_ended(at("founded").state, one)
    assert not has_ended(at("evaluated", plan=one).state, one)
    ended = at("judged", plan=one).state
    assert has_ended(ended, one) and remaining_cost(ended, one, A) == Curve.zero()
    assert not has_ended(at("registered", plan=two).state, two)
    hopeless = plan(budget={"epsilon_cap": 0.01, "delta": 1e-5})
    refused = at("passed", plan=hopeless).state
    assert has_ended(refused, hopeless) and remaining_cost(refused, hopeless, A) == Curve.zero()


def test_before_the_founding_there_is_no_pool_and_no_promise() -> None:
    empty = FederationState(ORIGIN)
    assert nights_left(empty, nightly()) is None and pool_outlooks(empty, nightly()) == ()
    assert [item.code for item in next_run_violations(empty, nightly())] == ["federation.not-founded"]


def test_violations_are_told_apart_by_site_and_none_is_lost() -> None:
    state = at("founded", cap=0.01).state
    wanted = plan(risk_tier="high", budget={"epsilon_cap": 0.01, "delta": 1e-5})
    costs = {site: plan_cost(wanted) for site in SITES}
    found = violations_by_site(state, wanted, costs)
    assert list(found) == [PLAN, *SITES]
    assert [item for listed in found.values() for item in listed] == plan_violations(state, wanted)
    assert {item.code for item in found[PLAN]} == {"phase.risk-tier", "budget.plan-cap"}
