"""Rounds between two evaluations: only summed, followed at once by the next, judged together with a later one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.errors import PolicyViolation
from policies.cost import plan_cost, plan_mechanisms, round_cost, round_mechanisms
from policies.events import Body
from policies.forecast import has_ended, remaining_cost
from policies.gates import release_violations
from policies.plan import Plan
from policies.recount import Recount
from policies.state import FederationState
from privacy import accounting
from tests.policies.assembly import Assembly, plan
from tests.policies.founding import COORDINATOR, ORIGIN, SITES
from tests.policies.test_admission import verdict

A = SITES[0]


def sparse(*, rounds: int = 3, every: int = 2) -> Plan:
    return plan(rounds=rounds, evaluation={"bins": 4, "noise_std": 3.0, "every": every})


def summed(assembly: Assembly, number: int = 1) -> Assembly:
    """The round's sum is released."""
    for site in SITES:
        assembly.say(site, assembly.reservation(site, round=number))
    for site in SITES:
        assembly.say(site, assembly.receipt(site, round=number))
    assembly.say(COORDINATOR, assembly.closing(round=number))
    assembly.say(COORDINATOR, assembly.release(round=number))
    return assembly


def codes(assembly: Assembly, institution: str, body: Body) -> set[str]:
    with pytest.raises(PolicyViolation) as refused:
        assembly.say(institution, body)
    return {violation.code for violation in refused.value.violations}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 70))
def test_the_last_round_is_always_evaluated_and_a_plan_costs_what_its_rounds_reserve(
    rounds: int, every: int
) -> None:
    wanted = sparse(rounds=rounds, every=every)
    evaluated = [number for number in range(1, rounds + 1) if wanted.evaluates(number)]
    assert evaluated[-1] == rounds and len(evaluated) == wanted.evaluations(rounds)
    assert evaluated == sorted({*range(every, rounds + 1, every), rounds})
    whole = sum((round_cost(wanted, number) for number in range(1, rounds + 1)), accounting.Curve.zero())
    first = rounds // 2 + 1
    some = sum((round_cost(wanted, number) for number in range(1, first + 1)), accounting.Curve.zero())
    assert plan_cost(wanted, rounds=first) == some
    assert plan_cost(wanted) == whole == accounting.total(plan_mechanisms(wanted))
    assert [len(round_mechanisms(wanted, number)) == 2 for number in range(1, rounds + 1)] == [
        number in evaluated for number in range(1, rounds + 1)
    ]


def test_the_next_round_follows_the_released_sum_and_its_verdict_covers_both() -> None:
    assembly = summed(Assembly(plan=sparse()).reach("consented"))
    wanted = assembly.plan
    # 1. Without a verdict the second round is open; the third is not, and the first is over.
    assert (assembly.digest, 1) not in assembly.state.verdicts
    assert codes(assembly, A, assembly.reservation(A, round=3)) == {"round.not-open"}
    assert "round.over" in codes(assembly, A, assembly.reservation(A))
    assert remaining_cost(assembly.state, wanted, A) == plan_cost(wanted) - round_cost(wanted, 1)
    assert not has_ended(assembly.state, wanted)
    # 2. The second is evaluated: it needs its verdict before the third.
    summed(assembly, 2)
    assert codes(assembly, A, assembly.reservation(A, round=3)) == {"round.not-open"}
    for site in SITES:
        assembly.say(site, assembly.receipt(site, "evaluation", round=2))
    assembly.say(COORDINATOR, assembly.closing("evaluation", round=2))
    assembly.say(COORDINATOR, assembly.evaluation(round=2))
    assembly.state.going_on.clear()
    assert codes(assembly, A, assembly.reservation(A, round=3)) == {"round.not-open"}
    assembly.say(COORDINATOR, assembly.verdict(2))
    assembly.say(A, assembly.reservation(A, round=3))
    assert assembly.state.spent_by(A) == plan_cost(wanted)


def test_who_counts_the_pools_over_and_who_replays_the_log_find_the_same() -> None:
    assembly = Assembly(plan=sparse())
    entries: list[bytes] = []
    entry = assembly.entry

    def kept(institution: str, body: Body, /) -> bytes:
        entries.append(entry(institution, body))
        return entries[-1]

    assembly.entry = kept  # type: ignore[method-assign, assignment]
    summed(assembly.reach("consented"))
    assembly.say(A, assembly.settlement(A, "training"))
    summed(assembly, 2)
    assembly.say(A, assembly.settlement(A, "training", round=2))
    recount, replayed = Recount(), FederationState(ORIGIN)
    for index, one in enumerate(entries):
        recount.take(one)
        replayed.replay(index, one)
    assert {account.site: account.spent for account in recount.accounts()} == {
        site: assembly.state.spent_by(site) for site in SITES
    }
    assert replayed.spent == assembly.state.spent and replayed.released == assembly.state.released
    assert assembly.state.spent_by(A) == round_cost(assembly.plan, 1).scaled(2), "the evaluation came back"


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (lambda a: (A, a.receipt(A, "evaluation")), "plan.step"),
        (lambda a: (COORDINATOR, a.closing("evaluation", receipts=("0" * 64,))), "plan.step"),
        (lambda a: (COORDINATOR, a.refusal(A, "evaluation")), "plan.step"),
        (lambda a: (COORDINATOR, a.evaluation()), "evaluation.not-closed"),
        (lambda a: (COORDINATOR, verdict(a, 1)), "verdict.wrong"),
        (lambda a: (COORDINATOR, a.registration()), "model.no-verdict"),
        (lambda a: (A, a.reservation(A, round=2)), "round.not-open"),
    ],
)  # fmt: skip
def test_such_a_round_has_no_evaluation_no_verdict_and_no_model(said: object, code: str) -> None:
    """Before its sum is released; afterwards it is over."""
    assembly = Assembly(plan=sparse()).reach("closed")
    assert code in codes(assembly, *said(assembly))  # type: ignore[operator]


def test_it_costs_no_evaluation() -> None:
    assembly = Assembly(plan=sparse()).reach("consented")
    whole = round_mechanisms(assembly.plan, 2)
    assert codes(assembly, A, assembly.reservation(A, mechanisms=whole)) == {"budget.mechanisms"}
    assembly.say(A, assembly.reservation(A))
    assert codes(assembly, A, assembly.settlement(A, "evaluation")) == {"budget.steps"}
    given = assembly.settlement(A)
    assembly.say(A, given)
    assert assembly.state.spent_by(A) == accounting.Curve.zero()


def test_a_poisoned_sum_is_followed_by_no_round_and_ends_the_plan() -> None:
    assembly = Assembly(plan=sparse()).reach("closed")
    assembly.say(COORDINATOR, assembly.release(norm_l2_micro=len(SITES) * 8_000_000 + 1))
    assert codes(assembly, A, assembly.reservation(A, round=2)) == {"round.not-open"}
    assert [found.code for found in release_violations(assembly.state, assembly.digest, 1)] == ["update.norm"]
    assert codes(assembly, COORDINATOR, verdict(assembly, 1)) == {"verdict.wrong"}
    assembly.say(COORDINATOR, verdict(assembly, 1, "update.norm"))
    assert has_ended(assembly.state, assembly.plan)
    assert codes(assembly, A, assembly.reservation(A, round=2)) == {"round.not-open"}


def test_nobody_ends_a_plan_after_a_sum_that_nothing_speaks_against() -> None:
    assembly = summed(Assembly(plan=sparse()).reach("consented"))
    for said in (verdict(assembly, 1), verdict(assembly, 1, "evaluation.missing")):
        assert "round.over" in codes(assembly, COORDINATOR, said)
