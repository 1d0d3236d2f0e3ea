"""Whom a plan selects: stories of a coordinator that would rather choose its own company."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from ledger.errors import InputError
from policies.cost import plan_cost
from policies.events import SiteQuarantined
from policies.forecast import next_run_violations
from policies.gates import plan_violations
from policies.plan import Plan
from policies.selection import is_left_out, record_of, roster_now
from tests.policies.assembly import Assembly, plan
from tests.policies.founding import COORDINATOR, MANY, NOW_S

SIX = MANY[:6]
A, B, C, D, E, F = SIX


def selecting(count: int = 4, **fields: Any) -> Plan:  # noqa: ANN401
    terms = {"minimum_sites": 3, "deadline_s": 30, "select": count, **fields.pop("participation", {})}
    return plan(**{"rounds": 1, "participation": terms, **fields})


def approved(wanted: Plan, *names: str, order: tuple[str, ...] = SIX) -> Assembly:
    """Everybody, or these alone, has approved the plan."""
    assembly = Assembly(plan=wanted, sites=SIX).reach("passed")
    for site in order:
        if not names or site in names:
            assembly.say(site, assembly.approval(site))
    return assembly


def refused(assembly: Assembly, sites: tuple[str, ...], **changed: Any) -> set[str]:  # noqa: ANN401
    return assembly.refusals(assembly.entry(COORDINATOR, assembly.roster(sites=sites), **changed))


def after_a_plan(*reporting: str, refuse: tuple[str, ...] = ()) -> Assembly:
    """A plan of all six was trained, in which these sites reported; then another one is published and approved."""
    assembly = Assembly(plan=plan(rounds=1), sites=SIX).reach("reserved")
    for site in reporting:
        assembly.say(site, assembly.receipt(site))
    for site in refuse:
        assembly.say(COORDINATOR, assembly.refusal(site))
    gone = {*SIX} - {*reporting} | {*refuse}
    missing = tuple({"site": site, "code": "test.refused"} for site in sorted(gone))
    assembly.say(COORDINATOR, assembly.closing(missing=missing))
    assembly.plan = selecting(edition="2")
    assembly.say(COORDINATOR, assembly.published())
    assembly.say(COORDINATOR, assembly.verdict(0))
    for site in SIX:
        assembly.say(site, assembly.approval(site))
    return assembly


def test_a_coordinator_that_picks_its_friends_is_refused() -> None:
    assembly = approved(selecting())
    picked = roster_now(assembly.state, assembly.digest)
    assert len(picked) == 4 and picked == tuple(sorted(picked)) and {*picked} <= {*SIX}
    friends = next(
        tuple(sorted({*SIX} - {left, other}))
        for left, other in combinations((C, D, E, F), 2)
        if {*SIX} - {left, other} != {*picked}
    )
    assert refused(assembly, friends) == {"roster.selection"}
    assert refused(assembly, SIX) == {"roster.selection"}
    assert refused(assembly, picked) == set()


def test_a_coordinator_that_does_not_wait_for_those_it_dislikes_is_refused() -> None:
    """Its four friends have approved: fixed now, the roster would be theirs. The log's time decides, not a clock."""
    assembly = approved(selecting(), A, B, C, D)
    friends = (A, B, C, D)
    assert refused(assembly, friends) == {"roster.early"}
    assert refused(assembly, friends, time_s=NOW_S + 29) == {"roster.early"}
    assert refused(assembly, friends, time_s=NOW_S + 30) == set(), "who is silent that long is not waited for"
    assembly.say(E, assembly.refusal(E, round_number=0))
    assert refused(assembly, friends) == {"roster.early"}
    assembly.say(COORDINATOR, SiteQuarantined(site=F, code="test.drill"))
    assert refused(assembly, friends) == set(), "everybody has answered who is asked"


def test_who_is_selected_hangs_on_no_order_and_on_more_than_the_coordinator_writes() -> None:
    one, other = approved(selecting()), approved(selecting(), order=SIX[::-1])
    assert roster_now(one.state, one.digest) == roster_now(other.state, other.digest)
    # Every site's masking key, announced after the plan was published, is in the lot.
    drawn = set()
    for number in range(12):
        keyed = Assembly(plan=selecting(), sites=SIX).reach("passed")
        keys = {site: keyed.approval(site).masking_key for site in SIX}
        keys[F] = f"{number + 9:02x}" * 32
        for site in SIX:
            keyed.say(site, keyed.approval(site, masking_key=keys[site]))
        drawn.add(roster_now(keyed.state, keyed.digest))
    assert len(drawn) > 1


@pytest.mark.parametrize("reporting", [(A, C, E, F), (A, B, C, D), (B, C, D, E), (A, B, E, F)])
def test_who_did_not_report_in_the_last_plan_comes_last(reporting: tuple[str, ...]) -> None:
    assembly = after_a_plan(*reporting)
    records = {site: record_of(assembly.state, assembly.digest, site) for site in SIX}
    assert records == {site: int(site in reporting) for site in SIX}
    assert roster_now(assembly.state, assembly.digest) == reporting
    # Of the earlier plan itself nothing was known yet.
    earlier = next(digest for digest in assembly.state.rosters)
    assert {record_of(assembly.state, earlier, site) for site in SIX} == {1}


def test_a_coordinator_cannot_spoil_a_record_by_refusing_reports() -> None:
    assembly = after_a_plan(*SIX, refuse=(E, F))
    assert {record_of(assembly.state, assembly.digest, site) for site in SIX} == {1}


def test_a_pool_that_is_nearly_empty_stops_no_plan_and_is_spared() -> None:
    assembly = Assembly(plan=selecting(), sites=SIX, cap=6.0).reach("published")
    for site in (B, E):
        assembly.state.spent[site] = plan_cost(assembly.plan).scaled(50)
    assert plan_violations(assembly.state, assembly.plan) == []
    assert next_run_violations(assembly.state, assembly.plan.with_fields({"edition": "2"})) == []
    strict = plan(rounds=1)
    assert {one.code for one in plan_violations(assembly.state, strict)} == {"budget.pool-cap"}
    assembly.say(COORDINATOR, assembly.verdict(0))
    for site in SIX:
        assembly.say(site, assembly.approval(site))
    assert roster_now(assembly.state, assembly.digest) == (A, C, D, F)


def test_pools_that_leave_too_few_sites_stop_the_plan() -> None:
    assembly = Assembly(plan=selecting(), sites=SIX, cap=6.0).reach("published")
    for site in (B, C, E):
        assembly.state.spent[site] = plan_cost(assembly.plan).scaled(50)
    found = plan_violations(assembly.state, assembly.plan)
    assert [one.code for one in found] == ["budget.pool-cap"] * 3
    named = selecting(participation={"required": [B]})
    assembly.state.spent.pop(C)
    found = plan_violations(assembly.state, named)
    assert [one.code for one in found] == ["budget.pool-cap"] and B in found[0].message


def test_required_sites_and_the_key_holders_that_a_scheme_needs_are_always_there() -> None:
    for edition in range(8):  # whatever the lot would have
        wanted = selecting(
            edition=str(edition),
            participation={"required": [F]},
            protection={"scheme": "shared", "aggregators": 3},
        )
        assembly = approved(wanted)
        holders = assembly.state.founded().key_holders
        assert F not in holders
        picked = roster_now(assembly.state, assembly.digest)
        assert F in picked and len({*picked} & {*holders}) == 3 and refused(assembly, picked) == set()


def test_whatever_the_lot_enough_key_holders_are_there_to_open_the_sums() -> None:
    """Of masked sums too: f + 1 of them have to find the same before an aggregate counts."""
    seen = set()
    for edition in range(12):
        assembly = approved(selecting(edition=str(edition)))
        federation = assembly.state.founded()
        picked = roster_now(assembly.state, assembly.digest)
        assert len({*picked} & {*federation.key_holders}) >= federation.openings_required() >= 2
        seen.add(picked)
    assert len(seen) > 1


def test_a_roster_whose_sums_too_few_could_open_is_refused() -> None:
    """Where nobody selects: two of three key holders did not approve."""
    assembly = approved(plan(rounds=1, participation={"minimum_sites": 3, "deadline_s": 30}), C, D, E, F)
    assert {*assembly.state.founded().key_holders} == {A, B, C}
    assert refused(assembly, (C, D, E, F)) == {"roster.holders"}


def test_a_plan_whose_required_sites_crowd_out_the_key_holders_is_refused_at_its_gate() -> None:
    """Everybody would approve it, and no roster that the ledger allows could open its sums."""
    assembly = Assembly(plan=selecting(), sites=SIX).reach("founded")
    for required, select, refused_at_gate in (
        ((D, E, F), 3, True),
        ((D, E, F), 5, False),
        ((A, B, F), 3, False),
    ):
        wanted = selecting(select, participation={"required": [*required], "minimum_sites": 3})
        found = {violation.code for violation in plan_violations(assembly.state, wanted)}
        assert ("roster.holders" in found) == refused_at_gate, (required, select)


def test_a_site_that_is_left_out_knows_it_and_draws_nothing() -> None:
    assembly = approved(selecting())
    picked = roster_now(assembly.state, assembly.digest)
    assembly.say(COORDINATOR, assembly.roster(sites=picked))
    left = [site for site in SIX if is_left_out(assembly.state, assembly.digest, site)]
    assert sorted([*picked, *left]) == [*SIX]
    assembly.say(left[0], assembly.consents(left[0]))
    drawn = assembly.entry(left[0], assembly.reservation(left[0]))
    assert "roster.absent" in assembly.refusals(drawn)


def test_without_more_sites_than_it_selects_a_plan_takes_all() -> None:
    assembly = approved(selecting(6))
    assert roster_now(assembly.state, assembly.digest) == SIX
    assert not any(is_left_out(assembly.state, assembly.digest, site) for site in SIX)


@pytest.mark.parametrize(
    "fields",
    [
        {"participation": {"select": 3, "minimum_sites": 4}},
        {"participation": {"select": 3, "required": [A, B, C, D]}},
        {"participation": {"select": 51}},
        {"robust": {"hostile": 1}, "participation": {"select": 11}},
    ],
)
def test_a_plan_that_selects_too_few_or_too_many_is_none(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="select"):
        selecting(**fields)
