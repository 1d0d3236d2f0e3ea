"""Joint statistics on the ledger: every rule of an inquiry and its figures broken once, and what it asks checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from ledger.errors import InputError
from policies import inquiries
from policies.cost import StepUnknownError, mechanisms_of, plan_cost, round_mechanisms
from policies.events import (
    InquiryPublished,
    RoundClosed,
    StatisticsReleased,
    TrainingReceipt,
    parse_body,
    type_of,
)
from policies.facts import contract_digest
from policies.gates import plan_violations, release_violations
from policies.inquiry import MAXIMUM_BYTES, MAXIMUM_LANES, Inquiry
from policies.opening import sum_digest_of
from policies.receipt import Statement, Step, Validation
from policies.site_policy import SitePolicy, cohort_violations, site_violations
from policies.state import FederationState
from privacy.mechanisms import DiscreteGaussian
from privacy.statistics import lane_count
from tests.inquiries import heart_inquiry
from tests.policies.assembly import Assembly, at, plan
from tests.policies.founding import BASE, CODE, COORDINATOR, SITES, named
from tests.policies.test_admission import violation_codes

A = SITES[0]


def inquiry(**fields: object) -> Inquiry:
    return heart_inquiry(**fields).with_fields({"code_digests": [CODE]})


@dataclass
class Asking(Assembly):
    """An assembly that asks an inquiry in place of training a plan."""

    plan: Any = field(default_factory=inquiry)
    said: list[bytes] = field(default_factory=list)

    def say(self, institution: str, body: Any) -> str:  # noqa: ANN401
        self.said.append(self.entry(institution, body))
        return super().say(institution, body)

    def published(self) -> Any:  # noqa: ANN401
        return InquiryPublished(inquiry=self.plan, plan_digest=self.digest)

    def receipt(self, site: str, step: Step = "statistics", **changed: Any) -> TrainingReceipt:  # noqa: ANN401
        chain = self.state.receipt_chains.get(site)
        before = {} if chain is None else {"previous_receipt": chain.previous}
        trained = at("founded", plan=plan()).receipt(site)
        about = {
            "plan_digest": self.digest,
            "study": self.plan.study,
            "step": step,
            "parent_model_digest": self.digest,
            "mechanisms": round_mechanisms(self.plan, 1),
            "validation": Validation(passed=True, suite_digest=contract_digest(self.plan)),
            "norm_bound_micro": None,
            "receipt_sequence": 0 if chain is None else chain.sequence,
            **before,
            **changed,
        }
        return TrainingReceipt(
            statement=Statement.of(
                update_digest=named(f"figures {site}"),
                shares_digest=named(f"shares {site}"),
                predicate=trained.statement.predicate.model_copy(update=about),
            )
        )

    def closing(self, step: Step = "statistics", **changed: Any) -> RoundClosed:  # noqa: ANN401
        return super().closing(step, **changed)

    def figures(self, **changed: Any) -> StatisticsReleased:  # noqa: ANN401
        lanes = tuple(range(lane_count(self.plan.queries)))
        digest = sum_digest_of(np.array(changed.get("lanes", lanes), dtype=np.int32))
        fields: dict[str, Any] = {
            "plan_digest": self.digest,
            "sum_digest": digest,
            "lanes": lanes,
            "openings": self.openings("statistics", digest),
            **changed,
        }
        return StatisticsReleased(**fields)


def asking(stage: str, **fields: Any) -> Asking:  # noqa: ANN401
    """Stages are those of a round of training: `released` onwards has no meaning here."""
    assembly = Asking(**fields)
    assembly.reach(stage)
    return assembly


def answered() -> Asking:
    assembly = asking("closed")
    assembly.say(COORDINATOR, assembly.figures())
    return assembly


def refused(assembly: Assembly, institution: str, body: Any) -> set[str]:  # noqa: ANN401
    return assembly.refusals(assembly.entry(institution, body))


# -- a whole inquiry -----------------------------------------------------------------------------------------


def test_an_inquiry_is_one_round_of_one_step_and_ends_with_its_verdict() -> None:
    assembly = answered()
    assert not assembly.state.is_over(assembly.digest)
    assembly.say(COORDINATOR, assembly.verdict(1))
    state = assembly.state
    assert state.verdicts[assembly.digest, 1].passed and state.is_over(assembly.digest)
    assert state.reported(assembly.digest, 1) == frozenset(SITES)
    assert all(state.spent_by(site) == plan_cost(assembly.plan) for site in SITES)
    assert refused(assembly, A, assembly.reservation(A, attempt=2)) == {"round.over"}
    assert "round.over" in refused(assembly, COORDINATOR, assembly.figures())


def test_the_ledger_is_read_back_as_it_was_judged() -> None:
    assembly = answered()
    replayed = FederationState(assembly.state.origin)
    for index, entry in enumerate(assembly.said):
        replayed.replay(index, entry)
    assert replayed.statistics == assembly.state.statistics
    assert replayed.inquiries == assembly.state.inquiries
    assert replayed.published_at == assembly.state.published_at and replayed.spent == assembly.state.spent


def test_plans_and_inquiries_are_found_by_one_digest_in_the_order_of_the_ledger() -> None:
    training = at("published", plan=plan(edition="7"))
    both = Asking(state=training.state)
    both.say(COORDINATOR, both.published())
    state = both.state
    assert list(state.published_at) == [training.digest, both.digest]
    assert state.plan_of(training.digest) == training.plan and state.plan_of(both.digest) == both.plan
    assert state.published(named("neither")) is None
    with pytest.raises(KeyError):
        state.plan_of(named("neither"))


# -- each rule broken once -----------------------------------------------------------------------------------


def test_an_inquiry_is_published_once_by_the_coordinator_under_its_own_digest() -> None:
    assembly = asking("founded")
    assert refused(assembly, A, assembly.published()) == {"event.role"}
    other = InquiryPublished(inquiry=assembly.plan, plan_digest=named("another"))
    assert refused(assembly, COORDINATOR, other) == {"plan.digest"}
    assembly.say(COORDINATOR, assembly.published())
    assert refused(assembly, COORDINATOR, assembly.published()) == {"plan.published-twice"}


def test_an_inquiry_over_its_own_cap_or_the_pools_does_not_pass_its_entry_gate() -> None:
    dear = asking("published", plan=inquiry(budget={"epsilon_cap": 0.5, "delta": 1e-5}))
    assert {one.code for one in plan_violations(dear.state, dear.plan)} == {"budget.plan-cap"}
    poor = asking("published", cap=0.5)
    assert {one.code for one in plan_violations(poor.state, poor.plan)} == {"budget.pool-cap"}
    unasked = inquiry(consent={"policy_version": "2026-1", "purpose": "teaching"})
    strange = asking("published", plan=unasked)
    assert {one.code for one in plan_violations(strange.state, strange.plan)} == {"consent.purpose"}
    assert refused(
        poor, COORDINATOR, poor.verdict(0).model_copy(update={"passed": True, "violations": ()})
    ) == {"verdict.wrong"}


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"step": "training"}, "plan.step"),
        ({"step": "evaluation"}, "plan.step"),
        ({"parent_model_digest": BASE}, "receipt.parent-model"),
        ({"mechanisms": ()}, "receipt.mechanisms"),
        ({"validation": Validation(passed=True, suite_digest=named("easier"))}, "receipt.suite"),
        ({"norm_bound_micro": 1}, "receipt.norm-bound"),
        ({"attempt": 2}, "receipt.no-reservation"),
    ],
)
def test_a_report_that_is_not_the_inquiry_s_is_refused(changed: dict[str, Any], code: str) -> None:
    assembly = asking("reserved")
    assert refused(assembly, A, assembly.receipt(A, **changed)) == {code}
    assert refused(assembly, A, assembly.receipt(A)) == set()


def test_the_reservation_is_that_of_the_queries_and_nothing_else() -> None:
    assembly = asking("consented")
    fewer = round_mechanisms(assembly.plan, 1)[1:]
    assert refused(assembly, A, assembly.reservation(A, mechanisms=fewer)) == {"budget.mechanisms"}
    assert refused(assembly, A, assembly.reservation(A, round=2)) >= {"round.unknown"}
    assembly.say(A, assembly.reservation(A))
    unused = assembly.settlement(A)
    assert refused(assembly, A, unused) == set()
    assembly.say(A, unused)
    assert assembly.state.spent_by(A) == assembly.state.spent_by("nobody")
    assert refused(assembly, A, assembly.receipt(A)) == {"receipt.settled"}


def test_a_refusal_and_a_closing_name_a_step_of_the_inquiry() -> None:
    assembly = asking("reported")
    assert refused(assembly, A, assembly.refusal(A, "training")) == {"plan.step"}
    honest = assembly.closing()
    assert refused(assembly, COORDINATOR, honest.model_copy(update={"step": "evaluation"})) == {"plan.step"}
    assert refused(assembly, COORDINATOR, honest) == set()


def test_a_plan_of_training_takes_no_statistics() -> None:
    training = at("reserved", plan=plan())
    receipt = training.receipt(A)
    told = receipt.statement.predicate.model_copy(update={"step": "statistics"})
    changed = TrainingReceipt(statement=receipt.statement.model_copy(update={"predicate": told}))
    assert refused(training, A, changed) == {"plan.step"}
    released = Asking(state=training.state).figures(plan_digest=training.digest)
    assert refused(training, COORDINATOR, released) == {"plan.unknown"}
    with pytest.raises(StepUnknownError):
        mechanisms_of(training.plan, "statistics", round_number=1)
    with pytest.raises(StepUnknownError):
        mechanisms_of(inquiry(), "training", round_number=1)


def test_an_inquiry_has_no_model_to_release_score_or_register() -> None:
    assembly = asking("closed")
    number = {"plan_digest": assembly.digest}
    lent = Assembly(plan=plan(), state=assembly.state)
    assert "plan.no-model" in refused(assembly, COORDINATOR, lent.release(**number))
    assert refused(assembly, COORDINATOR, lent.evaluation(**number)) == {"plan.no-model"}
    assert "model.no-verdict" in refused(assembly, COORDINATOR, lent.registration(**number))


def test_nothing_is_opened_before_the_set_is_closed_nor_twice() -> None:
    early = asking("reported")
    assert refused(early, COORDINATOR, early.figures()) == {"statistics.not-closed"}
    done = answered()
    assert refused(done, COORDINATOR, done.figures()) == {"statistics.twice"}
    assert refused(done, A, done.figures()) == {"event.role"}


def test_the_lanes_are_the_sum_that_the_key_holders_signed() -> None:
    assembly = asking("closed")
    honest = assembly.figures()
    moved = (honest.lanes[0] + 1, *honest.lanes[1:])
    assert refused(assembly, COORDINATOR, honest.model_copy(update={"lanes": moved})) == {"statistics.sum"}
    few = assembly.figures(lanes=honest.lanes[:-1])
    assert refused(assembly, COORDINATOR, few) == {"statistics.lanes"}
    unsigned = assembly.figures(lanes=moved, openings=honest.openings)
    assert refused(assembly, COORDINATOR, unsigned) == {"opening.not-agreed"}
    alone = assembly.figures(openings=honest.openings[:1])
    assert refused(assembly, COORDINATOR, alone) == {"opening.not-agreed"}
    trained = assembly.figures(openings=assembly.openings("training", honest.sum_digest))
    assert refused(assembly, COORDINATOR, trained) == {"opening.not-agreed"}


def test_the_verdict_follows_from_who_reported_and_what_was_opened() -> None:
    assembly = asking("closed")
    found = release_violations(assembly.state, assembly.digest, 1)
    assert [one.code for one in found] == ["aggregate.missing"] and "not opened" in found[0].message
    waved = assembly.verdict(1).model_copy(update={"passed": True, "violations": ()})
    assert refused(assembly, COORDINATOR, waved) == {"verdict.wrong"}
    wanted = inquiry(participation={"required": [SITES[3]], "minimum_sites": 3, "deadline_s": 30})
    lacking = asking("reserved", plan=wanted)
    for site in SITES[:2]:
        lacking.say(site, lacking.receipt(site))
    found = release_violations(lacking.state, lacking.digest, 1)
    assert {one.code for one in found} == {"participation.too-few", "participation.required-missing"}
    assert f"{SITES[3]}, which the plan requires" in found[0].message + found[1].message


def test_no_rule_of_an_inquiry_is_without_a_test() -> None:
    from pathlib import Path

    text = Path(__file__).read_text()
    assert {
        code for code in violation_codes(Path(str(inquiries.__file__))) if f'"{code}"' not in text
    } == set()


# -- the hospital's own policy -------------------------------------------------------------------------------


def test_a_hospital_s_limits_hold_for_statistics_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policies.site_policy.running_code_digest", lambda: CODE)
    limits = SitePolicy(epsilon_cap=10.0, delta=1e-5, plan_epsilon_cap=2.0, noise_multiplier_floor=10.0)

    def codes(asked: Inquiry, *, approved: bool = True, **changed: float) -> set[str]:
        policy = limits.with_fields(dict(changed))
        return {one.code for one in site_violations(asked, policy, site=A, approved_by_steward=approved)}

    asked = inquiry()
    assert codes(asked) == set()
    assert codes(asked, noise_multiplier_floor=10.1) == {"site.noise-floor"}
    assert codes(asked, plan_epsilon_cap=0.5) == {"site.plan-cap"}
    assert codes(asked, approved=False) == {"plan.not-approved"}
    assert codes(asked.with_fields({"code_digests": [named("other code")]})) == {"plan.code"}
    few = cohort_violations(asked, limits, site=A, pool_delta=1e-5, register_patients=100, cohort_patients=19)
    assert {one.code for one in few} == {"site.cohort"}


# -- what an inquiry may say ---------------------------------------------------------------------------------


def test_an_inquiry_survives_its_own_canonical_form_and_the_ledger_s() -> None:
    asked = inquiry()
    assert Inquiry.from_canonical(asked.canonical_bytes(), what="inquiry") == asked
    published = InquiryPublished(inquiry=asked, plan_digest=asked.content_digest())
    assert type_of(published) == "inquiry.published"
    assert parse_body("inquiry.published", published.to_json()) == published
    assert (
        mechanisms_of(asked, "statistics", round_number=1)
        == (DiscreteGaussian(noise_multiplier=10.0, count=1),) * 6
    )


COUNT = {"kind": "count", "name": "patients", "noise_multiplier": 10.0}
BINS = {"kind": "auc", "score": "risk", "label": "risk", "bins": 64, "noise_multiplier": 10.0}
EDGES = {"kind": "histogram", "column": "risk", "edges": list(range(1, 258)), "noise_multiplier": 10.0}
TABLE = {"minimum_patients": 20, "columns": [{"name": "risk", "kind": "number"}]}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"queries": [COUNT, COUNT], "table": {"minimum_patients": 20}}, "used twice"),
        ({"queries": []}, "queries"),
        ({"queries": [COUNT]}, "no query asks for the columns age-years, disease, risk, sex"),
        ({"table": {"minimum_patients": 20}}, "the column age-years of the query years is not in table.columns"),
        ({"table": {"minimum_patients": 20, "columns": TABLE["columns"] * 2}}, "names a column twice"),
        (
            {
                "queries": [{**COUNT, "kind": "histogram", "column": "risk", "categories": ["high"]}],
                "table": TABLE,
            },
            "needs risk to be a word",
        ),
        ({"lane_bits": 16}, "no room"),
        ({"maximum_sites": 3, "participation": {"minimum_sites": 4, "deadline_s": 9}}, "minimum_sites exceeds"),
        (
            {"queries": [{**BINS, "name": f"auc-{number}"} for number in range(17)], "table": TABLE},
            f"more than {MAXIMUM_LANES} lanes",
        ),
        (
            {"queries": [{**EDGES, "name": f"bins-{number}"} for number in range(7)] , "table": TABLE,
             "code_digests": [named(str(number)) for number in range(600)]},
            f"at most {MAXIMUM_BYTES} bytes",
        ),
        ({"queries": [{**COUNT, "name": "Mrs Doe"}]}, "pattern"),
        ({"queries": [{**EDGES, "name": "e", "column": "born 1970"}], "table": TABLE}, "pattern"),
    ],
)  # fmt: skip
def test_an_inquiry_that_could_not_be_answered_is_refused_with_what_is_wrong(
    changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        heart_inquiry(**changed)
    assert caught.value.code == "inquiry.malformed" and words in caught.value.public_message
