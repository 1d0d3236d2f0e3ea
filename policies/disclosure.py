"""What may leave a site, field by field, and why each is no undeclared statement about patients.

`DISCLOSURES` names the origin of every field of every object that leaves a site. A test walks those objects and fails
on a field that is not listed here: whoever adds one has to say where its value comes from. What depends on patients
is a declared mechanism that draws on the pool (`policies.cost`), a keyed commitment, or a yes; nothing else. What
hides an update in a sum (masking keys, shares of masks, keys of sums) is random, made without a look at patients;
what a site adds up or decrypts for a sum holds the updates of several, each of them declared by its site.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

WITHHELD: Final = "site.withheld"


class Origin(Enum):
    PLAN = "a constant of the plan, the federation or the code"
    LEDGER = "follows from what the ledger holds already"
    INSTITUTION = "about the institution: its names, keys, votes and consent policies"
    CLOCK = "the time at which the institution speaks"
    KEYED = "an HMAC under a secret that stays, salted anew each time"
    DECLARED = "a declared mechanism, drawn on the pool before"
    SUMMED = "sums of what several sites declared, or parts of them that say nothing alone"
    YES = "a yes; where it would be a no, nothing is sent"
    RANDOM = "made of fresh keys and seeds, whatever the patients are"
    CODE = "one of the codes of `public_code`"


DISCLOSURES: Final[dict[str, Origin]] = {
    "PlanApproved.plan_digest": Origin.LEDGER,
    "PlanApproved.code_digest": Origin.PLAN,
    "PlanApproved.masking_key": Origin.RANDOM,
    "PolicyAdopted.policy_digest": Origin.PLAN,
    "SumKeyRotated.purpose": Origin.PLAN,
    "SumKeyRotated.study": Origin.PLAN,
    "SumKeyRotated.public_key_digest": Origin.INSTITUTION,
    "SumKeyRotated.plan_digest": Origin.LEDGER,
    "IdentityRotated.purpose": Origin.PLAN,
    "IdentityRotated.name": Origin.INSTITUTION,
    "IdentityRotated.key.scheme": Origin.INSTITUTION,
    "IdentityRotated.key.public": Origin.INSTITUTION,
    "IdentityRotated.valid_until_s": Origin.INSTITUTION,
    "MemberRetired.name": Origin.INSTITUTION,
    "SiteQuarantined.site": Origin.INSTITUTION,
    "SiteQuarantined.code": Origin.CODE,
    "SiteQuarantined.evidence": Origin.LEDGER,
    "SiteReleased.site": Origin.INSTITUTION,
    "SiteReleased.quarantine": Origin.LEDGER,
    "AgreementRecorded.kind": Origin.INSTITUTION,
    "AgreementRecorded.document_digest": Origin.INSTITUTION,
    "ConformanceRecorded.contract_digest": Origin.YES,
    "ConformanceRecorded.code_digest": Origin.PLAN,
    "IncidentReported.severity": Origin.INSTITUTION,
    "IncidentReported.kind": Origin.INSTITUTION,
    "BudgetReserved.plan_digest": Origin.LEDGER,
    "BudgetReserved.round": Origin.LEDGER,
    "BudgetReserved.attempt": Origin.LEDGER,
    "BudgetReserved.mechanisms": Origin.PLAN,
    "BudgetReserved.epsilon_total_micro": Origin.LEDGER,
    "BudgetSpent.plan_digest": Origin.LEDGER,
    "BudgetSpent.round": Origin.LEDGER,
    "BudgetSpent.attempt": Origin.LEDGER,
    "BudgetSpent.released": Origin.LEDGER,
    "BudgetSpent.epsilon_total_micro": Origin.LEDGER,
    "ConsentPublished.policy_version": Origin.INSTITUTION,
    "ConsentPublished.document_digest": Origin.INSTITUTION,
    "ConsentPublished.purposes": Origin.INSTITUTION,
    "ConsentPublished.valid_from_s": Origin.INSTITUTION,
    "ConsentPublished.valid_until_s": Origin.INSTITUTION,
    "ConsentState.cadence": Origin.CLOCK,
    "ConsentState.root": Origin.KEYED,
    "UpdateRefused.plan_digest": Origin.LEDGER,
    "UpdateRefused.round": Origin.LEDGER,
    "UpdateRefused.step": Origin.LEDGER,
    "UpdateRefused.site": Origin.INSTITUTION,
    "UpdateRefused.code": Origin.CODE,
    "TrainingReceipt.statement._type": Origin.PLAN,
    "TrainingReceipt.statement.subject[].name": Origin.PLAN,
    "TrainingReceipt.statement.subject[].digest.sha256": Origin.DECLARED,
    "TrainingReceipt.statement.predicateType": Origin.PLAN,
    "TrainingReceipt.statement.predicate.origin": Origin.LEDGER,
    "TrainingReceipt.statement.predicate.study": Origin.PLAN,
    "TrainingReceipt.statement.predicate.plan_digest": Origin.LEDGER,
    "TrainingReceipt.statement.predicate.policy_digest": Origin.LEDGER,
    "TrainingReceipt.statement.predicate.round": Origin.LEDGER,
    "TrainingReceipt.statement.predicate.attempt": Origin.LEDGER,
    "TrainingReceipt.statement.predicate.step": Origin.LEDGER,
    "TrainingReceipt.statement.predicate.parent_model_digest": Origin.LEDGER,
    "TrainingReceipt.statement.predicate.code_digest": Origin.PLAN,
    "TrainingReceipt.statement.predicate.dataset_commitment": Origin.KEYED,
    "TrainingReceipt.statement.predicate.consent_root": Origin.LEDGER,
    "TrainingReceipt.statement.predicate.mechanisms": Origin.PLAN,
    "TrainingReceipt.statement.predicate.validation.passed": Origin.YES,
    "TrainingReceipt.statement.predicate.validation.suite_digest": Origin.PLAN,
    "TrainingReceipt.statement.predicate.sum_key_digest": Origin.LEDGER,
    "TrainingReceipt.statement.predicate.norm_bound_micro": Origin.PLAN,
    "TrainingReceipt.statement.predicate.receipt_sequence": Origin.LEDGER,
    "TrainingReceipt.statement.predicate.previous_receipt": Origin.LEDGER,
    "Release.update": Origin.DECLARED,
    "Release.shares": Origin.RANDOM,
    "Release.entry": Origin.LEDGER,
    "Protected.update": Origin.DECLARED,
    "Protected.shares": Origin.RANDOM,
    "Protected.dataset_commitment": Origin.KEYED,
    "Answer.unmask": Origin.RANDOM,
    "Answer.part": Origin.SUMMED,
    "SumAnswer.schema_version": Origin.PLAN,
    "SumAnswer.origin": Origin.LEDGER,
    "SumAnswer.plan_digest": Origin.LEDGER,
    "SumAnswer.round": Origin.LEDGER,
    "SumAnswer.step": Origin.LEDGER,
    "SumAnswer.closed_digest": Origin.LEDGER,
    "SumAnswer.complaints": Origin.LEDGER,
    "SumAnswer.unmask_digest": Origin.RANDOM,
    "SumAnswer.part_digest": Origin.SUMMED,
    "Opening.schema_version": Origin.PLAN,
    "Opening.origin": Origin.LEDGER,
    "Opening.plan_digest": Origin.LEDGER,
    "Opening.round": Origin.LEDGER,
    "Opening.step": Origin.LEDGER,
    "Opening.outcome_digest": Origin.SUMMED,
    "Opening.sum_digest": Origin.SUMMED,
}
"""Field path → where its value comes from. `[]` is every item of a list; what nests keeps its parent's path."""

_PUBLIC_CODES: Final = (
    "aggregate.", "budget.", "consent.state", "drift.performance", "federation.", "ledger.", "member.", "opening.",
    "phase.", "plan.", "policy.", "privacy.resolution", "receipt.", "robust.", "roster.", "round.", "rules.",
    "site.clip-ceiling", "site.comparison", "site.drift-margin", "site.maintenance", "site.model-family",
    "site.no-source", "site.no-table", "site.noise-floor", "site.plan-cap", "site.quarantined", "witness.",
)  # fmt: skip


def public_code(code: str) -> str:
    """The code under which a site may say why it does not report: its own if that follows from the plan, the ledger
    and the code that runs, else one for everything that could tell of patients (data, cohort, training). That an
    evaluation drifted tells of patients too, and is read off noised counts that the pool paid for."""
    return code if code.startswith(_PUBLIC_CODES) else WITHHELD
