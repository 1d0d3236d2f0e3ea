"""What a build is told of a plan: by itself, and under a federation's state."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from policies.build_gate import OWN_CODES, Judgement, Running, codes_of, judge
from policies.code import running_code_digest, running_policy_digest
from policies.cost import round_cost
from policies.events import PolicyAdopted, SiteQuarantined
from policies.forecast import PLAN
from policies.gates import plan_violations
from policies.plan import Plan
from policies.rego import INSTALLED, Rules, installed_rules
from policies.rego_sources import RulesInvalidError, read_sources
from policies.state import FederationState
from tests.policies.assembly import Assembly, at, plan
from tests.policies.founding import CODE, COORDINATOR, NOW_S, POLICY, SITES, named, pool

A = SITES[0]
HERE = Running(CODE, POLICY, installed_rules())


def told(
    wanted: Plan, state: FederationState | None = None, *, running: Running = HERE, now_s: int = NOW_S
) -> Judgement:
    return judge(wanted, running, state, now_s=now_s)


def codes(judgement: Judgement) -> set[str]:
    return {violation.code for violation in judgement.violations}


def test_a_plan_by_itself_is_refused_only_for_what_no_federation_could_mend() -> None:
    found = told(plan(risk_tier="high", participation={**_part(), "required": ["hospital-z"]}))
    assert found.admitted and found.pools == () and found.runs_left is None
    assert any("judged by itself" in note for note in found.notes)
    dear = told(plan(budget={"epsilon_cap": 1.0, "delta": 1e-5}))
    assert codes(dear) == {"budget.plan-cap"}
    many = [f"site-{number}" for number in range(4)]
    crowded = plan(
        participation={**_part(), "required": many},
        update={**plan().to_json()["update"], "maximum_sites": 3},  # type: ignore[dict-item]
    )
    assert codes(told(crowded)) == {"plan.too-many-members"}


def test_a_draft_and_a_plan_for_other_code_are_told_apart() -> None:
    draft = plan().with_fields({"code_digests": []})
    assert codes(told(draft)) == {"plan.no-code"}
    other = replace(HERE, code_digest=named("other code"))
    found = told(plan(), running=other)
    assert codes(found) == {"plan.code"} and named("other code") in found.violations[0].message


def test_under_a_state_the_gate_refuses_what_the_federation_would() -> None:
    """The very verdict of the entry gate, and beside it what only a build looks at."""
    assembly = at("founded", cap=1.0)
    assembly.say(COORDINATOR, SiteQuarantined(site=A, code="test.reason"))
    wanted = plan(
        risk_tier="high",
        participation={**_part(), "required": ["hospital-z"]},
        consent={"policy_version": "2031-9", "purpose": "research"},
    )
    found = told(wanted, assembly.state)
    assert sorted(item.code for item in found.violations) == sorted(
        item.code for item in plan_violations(assembly.state, wanted)
    )
    assert {
        "phase.risk-tier",
        "plan.unknown-site",
        "budget.pool-cap",
        "consent.version",
        "site.quarantined",
    } == (codes(found))
    assert {item.code for item in found.found[A]} == {
        "site.quarantined",
        "consent.version",
        "budget.pool-cap",
    }
    assert list(found.found) == [PLAN, *SITES]


def test_a_change_of_policy_without_its_adoption_is_caught() -> None:
    assembly = at("founded")
    changed = replace(HERE, policy_digest=named("next policy"))
    found = told(plan(), assembly.state, running=changed)
    assert codes(found) == {"policy.not-adopted"} and "0 of 4 sites" in found.violations[0].message
    for count, site in enumerate(SITES[:3], 1):
        assembly.say(site, PolicyAdopted(policy_digest=named("next policy")))
        again = told(plan(), assembly.state, running=changed)
        assert again.admitted == (count == 3)
    # Once it is in force, a build that still judges by the old one is refused.
    assert codes(told(plan(), assembly.state)) == {"policy.not-adopted"}


def test_the_stricter_of_log_time_and_the_builds_clock_counts() -> None:
    state = at("founded").state
    policy = state.consent_policies[A, "2026-1"]
    state.consent_policies[A, "2026-1"] = policy.with_fields({"valid_until_s": NOW_S + 60})
    assert told(plan(), state, now_s=NOW_S).admitted
    assert codes(told(plan(), state, now_s=NOW_S + 61)) == {"consent.not-in-force"}
    state.consent_policies[A, "2026-1"] = policy.with_fields({"valid_until_s": NOW_S - 60})
    assert codes(told(plan(), state, now_s=0)) == {"consent.not-in-force"}, (
        "a clock that lags is no way round"
    )


def test_an_edition_on_the_ledger_is_continued_but_not_run_twice() -> None:
    wanted = plan(rounds=2)
    published = told(wanted, at("reserved", plan=wanted).state)
    assert published.admitted
    assert any("0 of 2 rounds done" in note for note in published.notes)
    assert any(note.startswith(f"approved by {', '.join(SITES)}") for note in published.notes)
    half = told(wanted, at("registered", plan=wanted).state)
    assert half.admitted and any("1 of 2 rounds done" in note for note in half.notes)
    once = plan(rounds=1)
    over = at("registered", plan=once).state
    assert codes(told(once, over)) == {"plan.published-twice"}
    assert told(plan(rounds=1, edition="2"), over).admitted
    changed = told(plan(rounds=1, seed=7), over)
    assert changed.admitted and any("approved anew" in note for note in changed.notes)


def test_a_run_that_continues_is_asked_for_the_rest_alone() -> None:
    """Its first round is in the pool already. To ask for the whole again would stop a run that fits."""
    wanted, one = plan(rounds=2), round_cost(plan(rounds=2), 1)
    cap = next(
        cap / 100
        for cap in range(100, 2000)
        if 2 <= pool(cap / 100).rdp_cap_micro / pool(cap / 100).rdp_micro(one) < 3
    )
    begun = at("registered", plan=wanted, cap=cap).state
    continued = told(wanted, begun)
    assert continued.admitted
    assert continued.pools[0].spent_micro < continued.pools[0].with_plan_micro <= continued.pools[0].cap_micro
    assert codes(told(plan(rounds=2, edition="2"), begun)) == {"budget.pool-cap"}


def test_what_stewards_approved_is_told_and_not_asked() -> None:
    waiting = told(plan(), at("founded").state)
    assert waiting.admitted and any("not published yet" in note for note in waiting.notes)
    wanted = plan(rounds=2)
    assembly = at("passed", plan=wanted)
    assembly.say(A, assembly.approval())
    found = told(wanted, assembly.state)
    assert found.admitted
    assert any(note == f"approved by {A}; not yet by {', '.join(SITES[1:])}" for note in found.notes)


def test_a_plan_on_top_of_the_latest_model_begins_anew_where_there_is_none() -> None:
    later = plan(base="latest", edition="2", rounds=1)
    assert told(later, at("founded").state).admitted
    assert told(later, at("registered", plan=plan(rounds=1)).state).admitted


def test_rules_of_a_folder_judge_under_the_digest_that_they_would_have_here(tmp_path: Path) -> None:
    same, stricter = tmp_path / "same", tmp_path / "stricter"
    shutil.copytree(INSTALLED, same)
    shutil.copytree(INSTALLED, stricter)
    assert Running.with_rules(same).policy_digest == running_policy_digest()
    rule = (stricter / "phase.rego").read_text()
    assert '"pilot": ["minimal", "limited"]' in rule
    (stricter / "phase.rego").write_text(
        rule.replace('"pilot": ["minimal", "limited"]', '"pilot": ["minimal"]')
    )
    running = Running.with_rules(stricter)
    assert running.policy_digest != running_policy_digest()
    assert running.code_digest == running_code_digest()
    found = told(plan(), at("founded").state, running=replace(running, code_digest=CODE))
    assert codes(found) == {"phase.risk-tier", "policy.not-adopted"}
    (stricter / "phase.rego").write_text(rule + "\nbroken if {")
    with pytest.raises(RulesInvalidError):
        Running.with_rules(stricter)
    with pytest.raises(RulesInvalidError):
        Running.with_rules(tmp_path)


def test_rules_that_decide_nothing_admit_nothing(tmp_path: Path) -> None:
    """The kernel's default is refusal, for a build as for a witness."""

    class Undecided(Rules):
        def __init__(self) -> None:
            pass

        def decide(self, decision: str, facts: object) -> tuple[str, ...]:
            return ("rules.undecided",)

    for state in (None, at("founded").state):
        assert codes(told(plan(), state, running=replace(HERE, rules=Undecided()))) == {"rules.undecided"}


def test_every_rule_that_is_asked_can_be_listed() -> None:
    sources = read_sources(INSTALLED)
    assert {"plan.no-code", "budget.plan-cap", "phase.risk-tier"} <= set(codes_of(sources, "plan"))
    assert {"budget.pool-cap", "consent.version", "site.quarantined"} <= set(codes_of(sources, "member"))
    assert not set(OWN_CODES) & {*codes_of(sources, "plan"), *codes_of(sources, "member")}
    assert codes_of({}, "plan") == ()


def test_the_state_is_left_as_it_was() -> None:
    assembly: Assembly = at("reserved")
    before = assembly.state.fork()
    told(assembly.plan, assembly.state)
    assert assembly.state == before


def _part() -> dict[str, object]:
    value = plan().to_json()["participation"]
    assert isinstance(value, dict)
    return dict(value)
