"""A federation that only talks: members with keys in memory who sign events, and one state that folds them.

No exchange, no witnesses, no training: what a statement means and whether it is allowed, nothing else. Each
stage of a round brings the ledger to where the next statement is due.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ledger.envelope import sign
from ledger.errors import PolicyViolation
from ledger.event import Event, entry_digest, sign_event
from policies.budget import given_back
from policies.contract import suite_digest
from policies.cost import mechanisms_of, round_cost, round_mechanisms
from policies.events import (
    AggregateReleased,
    Body,
    BudgetReserved,
    BudgetSpent,
    ConsentState,
    EvaluationRecorded,
    GateVerdict,
    ModelRegistered,
    PlanApproved,
    PlanPublished,
    RosterFixed,
    RoundClosed,
    SumKeyRotated,
    TrainingReceipt,
    UpdateRefused,
    type_of,
)
from policies.federation import Phase
from policies.gates import plan_violations, release_violations
from policies.opening import (
    PAYLOAD_TYPE,
    Opening,
    SignedOpening,
    aucs_micro_of,
    evaluation_lanes,
    histogram_lanes,
    outcome_digest_of,
    sum_digest_of,
)
from policies.plan import Plan
from policies.protection import is_encrypted, is_masked, norm_bound_micro, opened_groups
from policies.receipt import Predicate, Statement, Step, Validation
from policies.receipt_record import ReceiptChain
from policies.state import FederationState
from tests.plans import tiny_plan
from tests.policies.founding import (
    BASE,
    CODE,
    COORDINATOR,
    NOW_S,
    ORIGIN,
    POLICY,
    SIGNERS,
    SITES,
    federation,
    named,
    pool,
)


def plan(**fields: object) -> Plan:
    return tiny_plan(**fields).with_fields({"code_digests": [CODE]})


STAGES = (
    "founded", "published", "passed", "approved", "rostered", "keyed", "consented", "reserved", "reported",
    "closed", "released", "scored", "fixed", "evaluated", "judged", "registered",
)  # fmt: skip


@dataclass
class Assembly:
    plan: Plan = field(default_factory=lambda: plan(rounds=2))
    cap: float = 50.0
    sites: tuple[str, ...] = SITES
    phase: Phase = "pilot"
    state: FederationState = field(default_factory=lambda: FederationState(ORIGIN))
    histogram: tuple[int, ...] = ()
    """What evaluations open, instead of a few patients."""

    # -- saying things -------------------------------------------------------------------------------------

    def entry(self, institution: str, body: Body, /, *, signer: str | None = None, **changed: Any) -> bytes:  # noqa: ANN401
        """The next entry of `institution`'s chain, signed by the keys of these names ("site-a site-b"), with
        fields of the event changed on request."""
        sequence, previous = self.state.chain.position(institution)
        event = {
            "origin": ORIGIN,
            "type": type_of(body),
            "institution": institution,
            "sequence": sequence,
            "previous": previous,
            "time_s": NOW_S,
            "body": body.to_json(),
            **changed,
        }
        signers = [SIGNERS[name] for name in (signer or institution).split()]
        if type_of(body) == "federation.founded" and signer is None:
            signers = [SIGNERS[name] for name in (COORDINATOR, *self.sites)]
        return sign_event(Event(**event), signers)

    def say(self, institution: str, body: Body) -> str:
        entry = self.entry(institution, body)
        self.state.advance(self.state.size, entry)
        return entry_digest(entry)

    def refusals(self, entry: bytes, *, index: int | None = None) -> set[str]:
        """The codes with which the entry is refused; the state must be what it was."""
        before = self.state.fork()
        try:
            self.state.advance(self.state.size if index is None else index, entry)
        except PolicyViolation as refused:
            assert self.state == before, "a refused event changed the state"
            return {violation.code for violation in refused.violations}
        self.state = before
        return set()

    # -- what honest members would say ---------------------------------------------------------------------

    @property
    def digest(self) -> str:
        return self.plan.content_digest()

    def published(self) -> PlanPublished:
        return PlanPublished(plan=self.plan, plan_digest=self.digest, base_model_digest=BASE)

    def verdict(self, round_number: int) -> GateVerdict:
        if round_number == 0:
            found = plan_violations(self.state, self.plan)
        else:
            found = release_violations(self.state, self.digest, round_number)
        codes = tuple(violation.code for violation in found)
        return GateVerdict(plan_digest=self.digest, round=round_number, passed=not codes, violations=codes)

    def approval(self, site: str = SITES[0], **changed: Any) -> PlanApproved:  # noqa: ANN401
        masking_key = named(f"masking key of {site} for {self.digest}")
        fields = {"plan_digest": self.digest, "code_digest": CODE, "masking_key": masking_key}
        return PlanApproved(**{**fields, **changed})

    def roster(self, **changed: Any) -> RosterFixed:  # noqa: ANN401
        return RosterFixed(**{"plan_digest": self.digest, "sites": self.sites, **changed})

    def key(self, **changed: Any) -> SumKeyRotated:  # noqa: ANN401
        return SumKeyRotated(
            **{
                "purpose": "study-sum",
                "study": self.plan.study,
                "plan_digest": self.digest,
                "public_key_digest": named("sum key"),
                **changed,
            }
        )

    def consents(self, site: str, **changed: Any) -> ConsentState:  # noqa: ANN401
        return ConsentState(**{"cadence": NOW_S // 86_400, "root": named(f"consents {site}"), **changed})

    def settlement(self, site: str, *released: Step, **changed: Any) -> BudgetSpent:  # noqa: ANN401
        left = self.state.spent_by(site) - given_back(self.plan, changed.get("round", 1), released)
        fields = {"plan_digest": self.digest, "round": 1, "attempt": 1, "released": released}
        return BudgetSpent(**{**fields, "epsilon_total_micro": pool(self.cap).epsilon_micro(left), **changed})

    def reservation(self, site: str, **changed: Any) -> BudgetReserved:  # noqa: ANN401
        number = changed.get("round", 1)
        total = pool(self.cap).epsilon_micro(self.state.spent_by(site) + round_cost(self.plan, number))
        attempt = self.state.attempts.get((self.digest, number, site), 0) + 1
        return BudgetReserved(
            **{
                "plan_digest": self.digest,
                "round": 1,
                "attempt": attempt,
                "mechanisms": round_mechanisms(self.plan, number),
                "epsilon_total_micro": total,
                **changed,
            }
        )

    def receipt(self, site: str, step: Step = "training", **changed: Any) -> TrainingReceipt:  # noqa: ANN401
        chain, number = self.state.receipt_chains.get(site, ReceiptChain()), changed.get("round", 1)
        after = number - (step == "training")
        predicate = {
            "origin": ORIGIN,
            "study": self.plan.study,
            "plan_digest": self.digest,
            "round": 1,
            "attempt": 1,
            "step": step,
            "parent_model_digest": named(f"model {after}") if after else BASE,
            "policy_digest": self.state.reserved_under.get((self.digest, number, site), POLICY),
            "code_digest": CODE,
            "dataset_commitment": named(f"cohort {site}"),
            "mechanisms": mechanisms_of(self.plan, step, round_number=number),
            "consent_root": named(f"consents {site}"),
            "validation": Validation(passed=True, suite_digest=suite_digest(self.plan.data)),
            "sum_key_digest": named("sum key") if is_encrypted(self.plan) else None,
            "norm_bound_micro": norm_bound_micro(self.plan, step),
            "receipt_sequence": chain.sequence,
            "previous_receipt": chain.previous,
            **changed,
        }
        statement = Statement.of(
            update_digest=named(f"update {site} {step}"),
            shares_digest=named(f"shares {site} {step}") if is_masked(self.plan) else None,
            predicate=Predicate(**predicate),
        )
        return TrainingReceipt(statement=statement)

    def refusal(self, site: str, step: Step = "training", round_number: int = 1) -> UpdateRefused:
        return UpdateRefused(
            plan_digest=self.digest, round=round_number, step=step, site=site, code="test.refused"
        )

    def closing(self, step: Step = "training", **changed: Any) -> RoundClosed:  # noqa: ANN401
        usable = self.state.usable_receipts(self.digest, changed.get("round", 1), step)
        fields = {
            "plan_digest": self.digest,
            "round": 1,
            "step": step,
            "receipts": tuple(receipt.entry_digest for receipt in usable),
            "missing": (),
            **changed,
        }
        return RoundClosed(**fields)

    def openings(
        self,
        step: Step,
        sum_digest: str,
        holders: tuple[str, ...] | None = None,
        round_number: int = 1,
        outcome_digest: str | None = None,
    ) -> tuple[SignedOpening, ...]:
        """What these members, by default as many key holders as it takes, sign that the sum of a round is."""
        required = self.state.founded().openings_required()
        statement = Opening(
            schema_version=1,
            origin=ORIGIN,
            plan_digest=self.digest,
            round=round_number,
            step=step,
            sum_digest=sum_digest,
            outcome_digest=outcome_digest,
        )
        payload = statement.canonical_bytes()
        signed = (
            sign(PAYLOAD_TYPE, payload, [SIGNERS[name]]).encode() for name in holders or self.sites[:required]
        )
        return tuple(SignedOpening.from_canonical(data, what="opening") for data in signed)

    def release(self, **changed: Any) -> AggregateReleased:  # noqa: ANN401
        number = changed.get("round", 1)
        groups: tuple[tuple[int, tuple[str, ...]], ...] = ()
        if self.plan.robust is not None:
            groups = opened_groups(self.state, self.digest, number, "training")
        fields: dict[str, Any] = {
            "plan_digest": self.digest,
            "round": number,
            "sum_digest": named(f"sum {number}"),
            "model_digest": named(f"model {number}"),
            "norm_l2_micro": 1_000_000,
            "cosines_micro": (900_000,) * len(groups),
            "outliers": (),
            "server_state_digest": named(f"state {number}") if self.plan.update.server.keeps_state else None,
            **changed,
        }
        if "openings" not in fields:
            told = ("model_digest", "norm_l2_micro", "cosines_micro", "outliers", "server_state_digest")
            outcome = outcome_digest_of(**{name: fields[name] for name in told})
            fields["openings"] = self.openings(
                "training", fields["sum_digest"], round_number=number, outcome_digest=outcome
            )
        return AggregateReleased(**fields)

    def evaluation(self, **changed: Any) -> EvaluationRecorded:  # noqa: ANN401
        bins = self.plan.evaluation.bins
        histogram = self.histogram or (*range(bins, 0, -1), *range(1, bins + 1))
        lanes = histogram_lanes(histogram)
        said = len(self.sites) if self.plan.compares(changed.get("round", 1)) else None
        opened = evaluation_lanes(histogram, changed.get("better_off", said))
        fields: dict[str, Any] = {
            "plan_digest": self.digest,
            "round": 1,
            "sum_digest": sum_digest_of(opened),
            "better_off": said,
            "histogram": histogram,
            "auc_micro": aucs_micro_of(lanes, self.plan.evaluation)[0],
            "subgroup_auc_micro": aucs_micro_of(lanes, self.plan.evaluation)[1],
            "openings": self.openings(
                "evaluation", sum_digest_of(opened), round_number=changed.get("round", 1)
            ),
            **changed,
        }
        return EvaluationRecorded(**fields)

    def registration(self, **changed: Any) -> ModelRegistered:  # noqa: ANN401
        return ModelRegistered(
            **{
                "plan_digest": self.digest,
                "round": 1,
                "model_digest": named("model 1"),
                "run_id": "0" * 32,
                "model_name": "study",
                "version": 1,
                **changed,
            }
        )

    # -- bringing the ledger to a stage --------------------------------------------------------------------

    def reach(self, stage: str) -> Assembly:
        for name in STAGES[: STAGES.index(stage) + 1]:
            self._take(name)
        return self

    def reach_after_founding(self, stage: str) -> Assembly:
        """As `reach`, of a federation that is founded already."""
        for name in STAGES[1 : STAGES.index(stage) + 1]:
            self._take(name)
        return self

    def _take(self, stage: str) -> None:
        match stage:
            case "founded":
                self.say(COORDINATOR, federation(cap=self.cap, names=self.sites, phase=self.phase))
            case "published":
                self.say(COORDINATOR, self.published())
            case "passed":
                self.say(COORDINATOR, self.verdict(0))
            case "approved":
                for site in self.sites:
                    self.say(site, self.approval(site))
            case "rostered":
                self.say(COORDINATOR, self.roster())
            case "keyed":
                if is_encrypted(self.plan):
                    self.say(self.sites[0], self.key())
            case "consented":
                for site in self.sites:
                    if site not in self.state.consent_states:  # of an earlier plan
                        self.say(site, self.consents(site))
            case "reserved":
                for site in self.sites:
                    self.say(site, self.reservation(site))
            case "reported":
                for site in self.sites:
                    self.say(site, self.receipt(site))
            case "closed":
                self.say(COORDINATOR, self.closing())
            case "released":
                self.say(COORDINATOR, self.release())
            case "scored":
                for site in self.sites:
                    self.say(site, self.receipt(site, "evaluation"))
            case "fixed":
                self.say(COORDINATOR, self.closing("evaluation"))
            case "evaluated":
                self.say(COORDINATOR, self.evaluation())
            case "judged":
                self.say(COORDINATOR, self.verdict(1))
            case "registered":
                self.say(COORDINATOR, self.registration())


def at(stage: str, **fields: Any) -> Assembly:  # noqa: ANN401
    return Assembly(**fields).reach(stage)
