"""Every rule of admission, by a statement that breaks it and nothing else."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.errors import Violation
from policies import budget, membership, protection, rounds, state
from policies.contract import suite_digest
from policies.cost import round_cost, round_mechanisms
from policies.events import (
    Absence,
    Body,
    ConsentPublished,
    GateVerdict,
    MemberRetired,
    PolicyAdopted,
    SiteQuarantined,
    SiteReleased,
)
from policies.receipt import Validation
from policies.rollout import gate, sign_off
from privacy.accounting import CostTooLargeError
from privacy.mechanisms import SubsampledGaussian
from tests.policies.assembly import Assembly, at, plan
from tests.policies.founding import CONSENT, COORDINATOR, NOW_S, POLICY, SITES, federation, named, pool

Statement = Callable[[Assembly], Body]
A, B, C, D = SITES

# (stage, who, what, codes). Names of the parts are those of the events.
RULES: list[tuple[str, str, Statement, set[str]]] = [
    # founding
    ("founded", COORDINATOR, lambda a: federation(), {"ledger.chain.founding"}),
    # roles
    ("founded", A, lambda a: a.published(), {"event.role"}),
    ("published", A, lambda a: a.verdict(0), {"event.role"}),
    ("passed", COORDINATOR, lambda a: a.approval(), {"event.role"}),
    ("keyed", COORDINATOR, lambda a: a.reservation(A), {"event.role"}),
    ("reserved", COORDINATOR, lambda a: a.receipt(A), {"event.role"}),
    ("reported", A, lambda a: a.closing(), {"event.role"}),
    ("judged", A, lambda a: a.registration(), {"event.role"}),
    # members and policies
    ("founded", COORDINATOR, lambda a: MemberRetired(name=COORDINATOR), {"member.needed"}),
    ("founded", A, lambda a: PolicyAdopted(policy_digest=POLICY), {"policy.in-force"}),
    ("founded", COORDINATOR, lambda a: PolicyAdopted(policy_digest=named("next")), {"event.role"}),
    # plans
    (
        "founded",
        COORDINATOR,
        lambda a: a.published().model_copy(update={"plan_digest": named("other")}),
        {"plan.digest"},
    ),
    ("published", COORDINATOR, lambda a: a.published(), {"plan.published-twice"}),
    ("founded", A, lambda a: a.approval(), {"plan.unknown"}),
    ("passed", A, lambda a: a.approval(code_digest=named("other code")), {"plan.code"}),
    # reservations
    ("founded", A, lambda a: a.reservation(A), {"plan.unknown"}),
    ("published", A, lambda a: a.reservation(A), {"round.not-open"}),
    ("passed", A, lambda a: a.reservation(A), {"plan.not-approved", "roster.absent", "consent.state-missing"}),
    ("keyed", A, lambda a: a.reservation(A, round=2), {"round.not-open"}),
    ("keyed", A, lambda a: a.reservation(A, round=3), {"round.unknown", "round.not-open"}),
    ("judged", A, lambda a: a.reservation(A), {"round.over"}),
    ("consented", A, lambda a: a.reservation(A, mechanisms=round_mechanisms(a.plan, 1)[:1]),
     {"budget.mechanisms"}),
    ("consented", A, lambda a: a.reservation(A, attempt=2), {"budget.attempt"}),
    ("reserved", A, lambda a: a.reservation(A, attempt=1), {"budget.attempt"}),
    ("consented", A, lambda a: a.reservation(A, epsilon_total_micro=1), {"budget.total"}),
    ("keyed", A, lambda a: a.reservation(A), {"consent.state-missing"}),
    # settlements
    ("reserved", A, lambda a: a.settlement(A, plan_digest=named("other")), {"plan.unknown"}),
    ("consented", A, lambda a: a.settlement(A, "training", "evaluation"), {"budget.no-reservation"}),
    ("reserved", A, lambda a: a.settlement(A, attempt=2), {"budget.no-reservation"}),
    ("reserved", A, lambda a: a.settlement(A, "training", epsilon_total_micro=0), {"budget.total"}),
    ("reserved", A, lambda a: a.settlement(A, "evaluation", "training"), {"budget.steps"}),
    ("reserved", A, lambda a: a.settlement(A, "training", "training"), {"budget.steps"}),
    ("reported", A, lambda a: a.settlement(A), {"budget.released"}),
    ("reported", A, lambda a: a.settlement(A, "evaluation"), {"budget.released"}),
    ("reserved", COORDINATOR, lambda a: a.settlement(A), {"event.role"}),
    # consents
    ("founded", A, lambda a: ConsentPublished.from_value(CONSENT.to_json(), what="x"), {"consent.published-twice"}),
    ("consented", A, lambda a: a.consents(A), {"consent.cadence"}),
    ("keyed", A, lambda a: a.consents(A, cadence=NOW_S // 86_400 + 1), {"consent.cadence"}),
    ("keyed", A, lambda a: a.consents(A, cadence=NOW_S // 86_400 - 1), {"consent.cadence"}),
    ("founded", COORDINATOR, lambda a: a.consents(A), {"event.role"}),
    # quarantine
    ("founded", A, lambda a: SiteQuarantined(site=B, code="test.drill"), {"quarantine.foreign"}),
    ("founded", A, lambda a: SiteQuarantined(site="site-z", code="test.drill"), {"quarantine.unknown-site"}),
    # receipts
    ("consented", A, lambda a: a.receipt(A), {"receipt.no-reservation", "receipt.consent-state"}),
    ("reserved", A, lambda a: a.receipt(A, attempt=2), {"receipt.no-reservation"}),
    ("reserved", A, lambda a: a.receipt(A, plan_digest=named("other")), {"plan.unknown"}),
    ("reserved", A, lambda a: a.receipt(A, origin="another/log"), {"receipt.context"}),
    ("reserved", A, lambda a: a.receipt(A, study="another-study"), {"receipt.context"}),
    ("reported", A, lambda a: a.receipt(A), {"receipt.replayed"}),
    ("reserved", A, lambda a: a.receipt(A, receipt_sequence=1), {"receipt.sequence"}),
    ("reserved", A, lambda a: a.receipt(A, previous_receipt=named("other")), {"receipt.sequence"}),
    (
        "reserved",
        A,
        lambda a: a.receipt(A, mechanisms=round_mechanisms(a.plan, 1)),
        {"receipt.mechanisms"},
    ),
    ("reserved", A, lambda a: a.receipt(A, code_digest=named("other")), {"receipt.code"}),
    ("reserved", A, lambda a: a.receipt(A, policy_digest=named("other")), {"receipt.policy"}),
    (
        "reserved",
        A,
        lambda a: a.receipt(A, validation=Validation(passed=False, suite_digest=suite_digest(a.plan.data))),
        {"receipt.validation"},
    ),
    (
        "reserved",
        A,
        lambda a: a.receipt(A, validation=Validation(passed=True, suite_digest=named("an easier suite"))),
        {"receipt.suite"},
    ),
    ("reserved", A, lambda a: a.receipt(A, consent_root=named("other")), {"receipt.consent-state"}),
    ("reserved", A, lambda a: a.receipt(A, sum_key_digest=named("other")), {"receipt.sum-key"}),
    ("reserved", A, lambda a: a.receipt(A, parent_model_digest=named("other")), {"receipt.parent-model"}),
    ("closed", A, lambda a: a.receipt(A, "evaluation"), {"receipt.parent-model"}),
    ("released", A, lambda a: a.receipt(A, "evaluation", parent_model_digest=named("base model")),
     {"receipt.parent-model"}),
    ("judged", A, lambda a: a.receipt(A), {"round.over"}),
    # refusals
    ("published", A, lambda a: a.refusal("site-z"), {"refusal.unknown-site"}),
    ("published", A, lambda a: a.refusal(B), {"refusal.foreign"}),
    ("closed", A, lambda a: a.refusal(A), {"refusal.late"}),
    ("founded", A, lambda a: a.refusal(A), {"plan.unknown"}),
    # closing
    ("closed", COORDINATOR, lambda a: a.closing(), {"round.closed-twice"}),
    ("passed", COORDINATOR, lambda a: a.closing(receipts=(named("x"),)),
     {"round.receipts", "round.too-few", "round.missing"}),
    ("reported", COORDINATOR, lambda a: a.closing(receipts=a.closing().receipts[:3]),
     {"round.missing", "round.receipts"}),
    (
        "reported",
        COORDINATOR,
        lambda a: a.closing(missing=(Absence(site=A, code="site.silent"),)),
        {"round.missing"},
    ),
    (
        "reported",
        COORDINATOR,
        lambda a: a.closing(receipts=(*a.closing().receipts, a.closing().receipts[0])),
        {"round.receipts"},
    ),
    (
        "reported",
        COORDINATOR,
        lambda a: a.closing(
            receipts=a.closing().receipts[:2],
            missing=tuple(Absence(site=site, code="site.silent") for site in SITES[2:]),
        ),
        {"round.too-few", "round.receipts"},
    ),
    (
        "closed",
        COORDINATOR,
        lambda a: a.closing("evaluation", receipts=(named("x"),)),
        {"round.receipts", "round.too-few", "round.missing", "round.order"},
    ),
    # releases, evaluations
    ("reported", COORDINATOR, lambda a: a.release(), {"aggregate.not-closed"}),
    ("released", COORDINATOR, lambda a: a.release(), {"aggregate.twice"}),
    ("scored", COORDINATOR, lambda a: a.evaluation(), {"evaluation.not-closed"}),
    ("evaluated", COORDINATOR, lambda a: a.evaluation(), {"evaluation.twice"}),
    ("closed", COORDINATOR, lambda a: a.release(openings=()), {"opening.not-agreed"}),
    ("closed", COORDINATOR, lambda a: a.release(openings=a.release().openings[:1] * 2), {"opening.not-agreed"}),
    *(("closed", COORDINATOR, lambda a, told=told: a.release(openings=a.release().openings, **told),
       {"opening.not-agreed"})
      for told in ({"model_digest": named("another")}, {"norm_l2_micro": 1}, {"sum_digest": named("another")})),
    ("closed", COORDINATOR, lambda a: a.release(openings=a.openings("evaluation", named("sum 1"))),
     {"opening.not-agreed"}),
    ("fixed", COORDINATOR, lambda a: a.evaluation(openings=()), {"opening.not-agreed"}),
    ("fixed", COORDINATOR, lambda a: a.evaluation(auc_micro=999_000), {"evaluation.figures"}),
    ("fixed", COORDINATOR, lambda a: a.evaluation(histogram=tuple(range(2 * a.plan.evaluation.bins))),
     {"evaluation.sum", "evaluation.figures"}),
    ("fixed", COORDINATOR, lambda a: a.evaluation(histogram=tuple(range(10))), {"evaluation.bins"}),
    (
        "reported",
        COORDINATOR,
        lambda a: a.closing(
            receipts=a.closing().receipts[:3], missing=(Absence(site=SITES[3], code="site.silent"),)
        ),
        {"round.receipts"},
    ),
    # verdicts
    ("passed", COORDINATOR, lambda a: a.verdict(0), {"round.over"}),
    ("published", COORDINATOR, lambda a: verdict(a, 0, "budget.plan-cap"), {"verdict.wrong"}),
    ("evaluated", COORDINATOR, lambda a: verdict(a, 1, "evaluation.below-floor"), {"verdict.wrong"}),
    ("closed", COORDINATOR, lambda a: verdict(a, 1), {"verdict.wrong"}),
    ("reserved", COORDINATOR, lambda a: verdict(a, 1), {"verdict.wrong"}),
    # models
    ("evaluated", COORDINATOR, lambda a: a.registration(), {"model.no-verdict"}),
    ("judged", COORDINATOR, lambda a: a.registration(model_digest=named("other")), {"model.digest"}),
    ("registered", COORDINATOR, lambda a: a.registration(), {"model.registered-twice"}),
]  # fmt: skip


def verdict(a: Assembly, round_number: int, *codes: str) -> GateVerdict:
    return GateVerdict(plan_digest=a.digest, round=round_number, passed=not codes, violations=codes)


@pytest.mark.parametrize(
    ("stage", "who", "what", "codes"),
    RULES,
    ids=[f"{'+'.join(sorted(codes))}-{stage}" for stage, _, _, codes in RULES],
)
def test_a_statement_that_breaks_one_rule_is_refused_by_that_rule_and_changes_nothing(
    stage: str, who: str, what: Statement, codes: set[str]
) -> None:
    assembly = at(stage)
    assert assembly.refusals(assembly.entry(who, what(assembly))) == codes


def test_a_late_receipt_of_a_site_that_was_named_missing_does_not_count() -> None:
    assembly = at("reserved")
    for site in SITES[:3]:
        assembly.say(site, assembly.receipt(site))
    assembly.say(COORDINATOR, assembly.closing(missing=(Absence(site="site-d", code="site.silent"),)))
    assert assembly.refusals(assembly.entry("site-d", assembly.receipt("site-d"))) == {"receipt.late"}


def test_a_refused_update_may_not_be_in_the_set() -> None:
    assembly = at("reported")
    all_four = assembly.closing()
    assembly.say(COORDINATOR, assembly.refusal(A))
    assert assembly.refusals(assembly.entry(COORDINATOR, all_four)) == {"round.receipts", "round.missing"}
    without = assembly.closing(missing=(Absence(site=A, code="test.refused"),))
    assert assembly.refusals(assembly.entry(COORDINATOR, without)) == set()


def test_the_caps_are_the_sites_own_and_hold_over_all_plans() -> None:
    first = plan(rounds=1)
    assembly = at("approved", plan=first, cap=1.0)
    # The verdict on a plan over the cap is "no", and nothing but "no" is admitted.
    assert not assembly.state.verdicts[first.content_digest(), 0].passed
    assert assembly.refusals(assembly.entry(COORDINATOR, assembly.roster())) == {"roster.not-open"}
    assert assembly.refusals(assembly.entry(A, assembly.reservation(A))) == {"round.not-open"}


def test_a_second_attempt_over_the_cap_is_refused_though_the_plan_passed() -> None:
    assembly = at("reserved", plan=plan(), cap=CAP_FOR_ONE_ROUND)
    spent = assembly.state.spent_by(A)
    assert assembly.refusals(assembly.entry(A, assembly.reservation(A))) == {"budget.pool-cap"}
    assert assembly.state.spent_by(A) == spent == round_cost(assembly.plan, 1)


def test_a_plan_that_continues_names_the_newest_registered_model() -> None:
    assembly = at("registered")
    follower = plan(base="latest", edition="2")
    assembly.plan = follower
    assert assembly.refusals(assembly.entry(COORDINATOR, assembly.published())) == {"plan.base-model"}
    right = assembly.published().model_copy(update={"base_model_digest": named("model 1")})
    assert assembly.refusals(assembly.entry(COORDINATOR, right)) == set()


def test_the_founding_names_this_log() -> None:
    empty = Assembly()
    other = federation(origin="wardround/other/term-1")
    assert empty.refusals(empty.entry(COORDINATOR, other)) == {"federation.origin"}


CAP_FOR_ONE_ROUND = next(
    cap / 10
    for cap in range(1, 500)
    if pool(cap / 10).rdp_cap_micro >= pool(cap / 10).rdp_micro(round_cost(plan(), 1))
)
EVERYBODY = f"{COORDINATOR} {' '.join(SITES)}"


def test_what_is_given_back_can_be_drawn_again_and_gets_no_receipt() -> None:
    assembly = at("reserved")
    whole = assembly.state.spent_by(A)
    assembly.say(A, assembly.settlement(A, "training"))
    left = assembly.state.spent_by(A)
    assert left != whole == round_cost(assembly.plan, 1)
    twice = assembly.settlement(A, "training", "evaluation")
    assert assembly.refusals(assembly.entry(A, twice)) == {"budget.settled-twice"}
    assembly.say(A, assembly.receipt(A))
    for stage in ("closed", "released"):
        for site in SITES[1:]:
            if stage == "closed":
                assembly.say(site, assembly.receipt(site))
        assembly._take(stage)
    assert assembly.refusals(assembly.entry(A, assembly.receipt(A, "evaluation"))) == {"receipt.settled"}
    # A new attempt draws anew.
    assembly.say(A, assembly.reservation(A))
    assert assembly.state.spent_by(A) == left + whole


def test_nothing_of_a_site_in_quarantine_counts_until_a_quorum_takes_it_back() -> None:
    assembly = at("reported")
    closing = assembly.closing()
    quarantine = assembly.say(COORDINATOR, SiteQuarantined(site=A, code="test.drill"))
    again = SiteQuarantined(site=A, code="test.drill")
    assert assembly.refusals(assembly.entry(COORDINATOR, again)) == {"quarantine.twice"}
    assert assembly.refusals(assembly.entry(COORDINATOR, closing)) >= {"round.receipts"}
    assert "site.quarantined" in assembly.refusals(assembly.entry(A, assembly.reservation(A)))
    assembly.say(COORDINATOR, assembly.closing(missing=(Absence(site=A, code="test.drill"),)))
    back = SiteReleased(site=A, quarantine=quarantine)
    for voter in (B, C):
        assembly.say(voter, back)
        assert assembly.state.quarantined == {A: "test.drill"}
    assembly.say(D, back)
    assert not assembly.state.quarantined
    assert assembly.refusals(assembly.entry(B, back)) == {"quarantine.none"}


def test_a_statement_that_breaks_the_arithmetic_is_refused_like_any_other() -> None:
    """A mechanism beyond every price must stop its site alone, not the log that reads it."""
    assembly = at("consented")
    absurd = SubsampledGaussian(noise_multiplier=0.01, sampling_rate=1.0, steps=100_000_000)
    body = assembly.reservation(A, mechanisms=(absurd,))
    assert assembly.refusals(assembly.entry(A, body)) == {"budget.mechanisms"}
    assembly.say(A, assembly.reservation(A))


def test_whatever_a_statement_breaks_while_it_is_judged_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assembly = at("consented")
    entry = assembly.entry(A, assembly.reservation(A))

    def breaks(*arguments: object, **named: object) -> list[Violation]:
        raise CostTooLargeError("the privacy cost is beyond every meaning")

    monkeypatch.setattr(budget, "reservation", breaks)
    assert assembly.refusals(entry) == {"privacy.cost-too-large"}


def test_consents_that_are_old_admit_no_reservation() -> None:
    assembly = at("consented")
    later = NOW_S + 3 * 86_400
    old = assembly.entry(A, assembly.reservation(A), time_s=later)
    assert assembly.refusals(old) == {"consent.state-stale"}
    assert assembly.refusals(assembly.entry(A, assembly.reservation(A), time_s=NOW_S + 86_400)) == set()


UNREACHABLE = {"budget.no-pool"}  # `Member` refuses a site without a pool before


def test_no_rule_is_without_a_test() -> None:
    """Every code that admission and the fold can answer appears in this folder's tests."""
    tests = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    untested = {
        code
        for module in (budget, gate, membership, protection, rounds, sign_off, state)
        for code in violation_codes(Path(str(module.__file__)))
        if f'"{code}"' not in tests and code not in UNREACHABLE
    }
    assert untested == set(), "a rule that no test breaks"


def violation_codes(path: Path) -> set[str]:
    return {
        str(node.args[0].value)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Violation"
        and isinstance(node.args[0], ast.Constant)
    }
