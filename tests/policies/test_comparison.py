"""Who is better off, on the ledger: asked once a plan, priced, counted out of the opened sum, and nobody's in
particular."""

from __future__ import annotations

from typing import Any

import pytest

from policies.comparison import answers_of
from policies.cost import plan_cost, plan_mechanisms, round_cost, round_mechanisms
from policies.gates import release_violations
from policies.plan import Plan
from policies.recount import Recount
from privacy.accounting import Curve, curve, total
from privacy.mechanisms import RandomisedResponse
from tests.policies.assembly import Assembly, at, plan
from tests.policies.founding import COORDINATOR, SITES

A = SITES[0]
ASKING = {"bins": 4, "noise_std": 3.0, "compare": {"epsilon": 3.0}}
ANSWER = RandomisedResponse(epsilon=3.0, count=1)


def asking(**fields: Any) -> Plan:  # noqa: ANN401
    return plan(**{"evaluation": ASKING, "rounds": 1, **fields})


def refused(assembly: Assembly, **changed: Any) -> set[str]:  # noqa: ANN401
    return assembly.refusals(assembly.entry(COORDINATOR, assembly.evaluation(**changed)))


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_one_answer_a_plan_is_paid_for_in_its_last_round(rounds: int, every: int) -> None:
    wanted = asking(rounds=rounds, evaluation={**ASKING, "every": every})
    silent = plan(rounds=rounds, evaluation={**ASKING, "compare": None, "every": every})
    assert [ANSWER in round_mechanisms(wanted, number) for number in range(1, rounds + 1)] == [
        number == rounds for number in range(1, rounds + 1)
    ]
    assert plan_cost(wanted) == plan_cost(silent) + curve(ANSWER)
    assert plan_cost(wanted) == total(plan_mechanisms(wanted))
    for count in range(rounds + 1):
        summed = sum((round_cost(wanted, number) for number in range(1, count + 1)), Curve.zero())
        assert plan_cost(wanted, rounds=count) == summed


def test_a_site_that_would_answer_without_paying_for_it_reserves_nothing() -> None:
    assembly = at("consented", plan=asking())
    cheap = assembly.reservation(A, mechanisms=round_mechanisms(assembly.plan, 1)[:-1])
    assert "budget.mechanisms" in assembly.refusals(assembly.entry(A, cheap))


def test_a_receipt_that_declares_no_answer_or_a_surer_one_does_not_count() -> None:
    assembly = at("released", plan=asking())
    for told in ((), (RandomisedResponse(epsilon=2.0, count=1),), (ANSWER, ANSWER)):
        declared = (*round_mechanisms(assembly.plan, 1)[1:-1], *told)
        receipt = assembly.receipt(A, "evaluation", mechanisms=declared)
        assert assembly.refusals(assembly.entry(A, receipt)) == {"receipt.mechanisms"}
    assert assembly.refusals(assembly.entry(A, assembly.receipt(A, "evaluation"))) == set()


def test_who_has_the_ledger_knows_how_many_said_yes() -> None:
    assembly = at("registered", plan=asking())
    answers = answers_of(assembly.state, assembly.digest, 1)
    assert answers is not None and (answers.yes, answers.asked, answers.epsilon) == (4, 4, 3.0)
    assert answers.estimate.value > 4 and "4 of 4 sites said yes" in answers.text
    assert answers_of(assembly.state, assembly.digest, 2) is None


def test_a_coordinator_that_counts_its_own_answers_is_refused() -> None:
    """The count is the last lane of the sum that the key holders signed."""
    assembly = at("fixed", plan=asking())
    honest = assembly.evaluation(better_off=1)
    flattering = honest.model_copy(update={"better_off": 4})
    assert assembly.refusals(assembly.entry(COORDINATOR, flattering)) == {"evaluation.sum"}
    assert assembly.refusals(assembly.entry(COORDINATOR, honest)) == set()


def test_an_evaluation_that_leaves_the_answers_out_or_makes_some_up_is_refused() -> None:
    assert refused(at("fixed", plan=asking()), better_off=None) == {"evaluation.comparison"}
    assert refused(at("fixed", plan=plan(rounds=1)), better_off=3) == {"evaluation.comparison"}
    # Not the last round: nobody was asked yet.
    assert refused(at("fixed", plan=asking(rounds=2)), better_off=3) == {"evaluation.comparison"}
    assert refused(at("fixed", plan=asking(rounds=2))) == set()


@pytest.mark.parametrize("said", [-1, 5, 2**31 - 1])
def test_a_sum_that_no_answers_add_up_to_is_recorded_and_says_nothing(said: int) -> None:
    """A hostile site can answer with more than a yes. The round goes on; who asks for answers does not get any."""
    assembly = at("fixed", plan=asking())
    assembly.say(COORDINATOR, assembly.evaluation(better_off=said))
    assert answers_of(assembly.state, assembly.digest, 1) is None
    assert release_violations(assembly.state, assembly.digest, 1) == []


def test_the_pools_are_recounted_with_the_answer_in_them() -> None:
    assembly, entries = Assembly(plan=asking()), []
    say = assembly.say

    def noted(institution: str, body: Any) -> str:  # noqa: ANN401
        entries.append(assembly.entry(institution, body))
        return say(institution, body)

    assembly.say = noted  # type: ignore[method-assign]
    assembly.reach("reported")
    assembly.say(A, assembly.settlement(A, "training"))  # nobody has the answer: it is given back
    recount = Recount()
    for entry in entries:
        recount.take(entry)
    accounts = {account.site: account for account in recount.accounts()}
    for site in SITES:
        assert accounts[site].spent == assembly.state.spent_by(site)
        assert (ANSWER in accounts[site].mechanisms) == (site != A)
