"""What each type of ledger event says: one frozen body per type, and the table that finds it.

Whether an event is *allowed* is decided in `policies.transitions`; how it is signed and chained, in
`ledger.event`. No body has a field for free text: codes, names, digests and numbers only.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from ledger.canonical import JsonValue
from ledger.errors import InputError
from policies.document import Document
from policies.federation import Federation
from policies.plan import Digest, Name, Plan
from policies.receipt import DeclaredMechanism, Statement, Step

Round = Annotated[int, Field(ge=1, le=1000)]
Code = Annotated[str, Field(pattern=r"^[a-z][a-z0-9.-]{0,63}$")]
Lane = Annotated[int, Field(gt=-(2**53), lt=2**53)]
Openings = Annotated[tuple[Annotated[str, Field(max_length=4096)], ...], Field(max_length=16)]
"""Signed openings (`policies.opening`), each an envelope's canonical JSON."""
Micro = Annotated[int, Field(ge=0, lt=2**53)]


class KeyRotated(Document):
    """The public key of a study's homomorphic sums, made and sealed to the holders by one of them."""

    purpose: Annotated[str, Field(pattern=r"^study-sum$")]
    study: Name
    public_key_digest: Digest
    previous: Digest | None


class PlanPublished(Document):
    plan: Plan
    plan_digest: Digest
    base_model_digest: Digest


class PlanApproved(Document):
    plan_digest: Digest
    code_digest: Digest


class BudgetReserved(Document):
    """Spent from here on, whatever happens next. `epsilon_total_micro` is the pool's total after it."""

    plan_digest: Digest
    round: Round
    attempt: Annotated[int, Field(ge=1, le=1000)]
    mechanisms: Annotated[tuple[DeclaredMechanism, ...], Field(min_length=1)]
    epsilon_total_micro: Micro


class TrainingReceipt(Document):
    statement: Statement


class UpdateRefused(Document):
    """A contribution that does not count: signed by the site that withholds it or the coordinator that refuses it."""

    plan_digest: Digest
    round: Annotated[int, Field(ge=0, le=1000)]
    """0 refuses the plan itself."""
    step: Step
    site: Name
    code: Code


class Absence(Document):
    site: Name
    code: Code


class RoundClosed(Document):
    """Fixes the set of receipts that count. Only this set, once final, is ever opened."""

    plan_digest: Digest
    round: Round
    step: Step
    receipts: Annotated[tuple[Digest, ...], Field(min_length=1)]
    missing: tuple[Absence, ...]


class AggregateReleased(Document):
    """The opened sum, the key holders' word for it, and the model that follows from it. Sites confirm the model:
    one that computes another sends no evaluation of it."""

    plan_digest: Digest
    round: Round
    sum_digest: Digest
    model_digest: Digest
    openings: Openings


class EvaluationRecorded(Document):
    plan_digest: Digest
    round: Round
    sum_digest: Digest
    histogram: Annotated[tuple[Lane, ...], Field(min_length=8, max_length=512)]
    """The opened, noised sum itself, so that everybody recomputes the AUC."""
    auc_micro: Micro | None
    openings: Openings


class GateVerdict(Document):
    plan_digest: Digest
    round: Annotated[int, Field(ge=0, le=1000)]
    """0 is the verdict on the plan before anything is trained."""
    passed: bool
    violations: tuple[Code, ...]


class ModelRegistered(Document):
    plan_digest: Digest
    round: Round
    model_digest: Digest
    run_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    model_name: Name
    version: Annotated[int, Field(ge=1)]


Body = (
    Federation
    | KeyRotated
    | PlanPublished
    | PlanApproved
    | BudgetReserved
    | TrainingReceipt
    | UpdateRefused
    | RoundClosed
    | AggregateReleased
    | EvaluationRecorded
    | GateVerdict
    | ModelRegistered
)

TYPES: dict[str, type[Body]] = {
    "federation.founded": Federation,
    "key.rotated": KeyRotated,
    "plan.published": PlanPublished,
    "plan.approved": PlanApproved,
    "budget.reserved": BudgetReserved,
    "training.receipt": TrainingReceipt,
    "update.refused": UpdateRefused,
    "round.closed": RoundClosed,
    "aggregate.released": AggregateReleased,
    "evaluation.recorded": EvaluationRecorded,
    "gate.verdict": GateVerdict,
    "model.registered": ModelRegistered,
}


class UnknownEventError(InputError):
    code = "event.unknown"


def parse_body(event_type: str, body: dict[str, JsonValue]) -> Body:
    """Read the typed body of an event, or refuse it naming every wrong field."""
    kind = TYPES.get(event_type)
    if kind is None:
        raise UnknownEventError("this event type is not known to this version")
    return kind.from_value(body, what=f"event {event_type}")


def type_of(body: Body) -> str:
    return next(name for name, kind in TYPES.items() if type(body) is kind)
