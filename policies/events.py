"""What each type of ledger event says: one frozen body per type, and the table that finds it.

Whether an event is *allowed* is decided in `policies.admission`; how it is signed and chained, in
`ledger.event`. No body has a field for free text: codes, names, digests and numbers only, and a test walks them
all (docs/ledger-privacy.md).
"""

from __future__ import annotations

import json
from typing import Annotated, Literal, TypeAlias, get_args

from pydantic import Field

from ledger.canonical import JsonValue
from ledger.errors import InputError
from policies.document import Digest, Document, Name
from policies.federation import ConsentPolicy, Federation, Hex32, PublicKey
from policies.inquiry import MAXIMUM_LANES, Inquiry
from policies.opening import SignedOpening
from policies.plan import Plan
from policies.receipt import DeclaredMechanism, Statement, Step
from policies.rollout.statements import (
    AgreementRecorded,
    ConformanceRecorded,
    DrillRecorded,
    IncidentReported,
    ModelPromoted,
    ModelRolledBack,
    PhaseAdvanced,
    PhaseMeasured,
    PhaseOpened,
    Round,
)

Code = Annotated[str, Field(pattern=r"^[a-z][a-z0-9.-]{0,63}$")]
Lane = Annotated[int, Field(gt=-(2**31), lt=2**31)]
Openings = Annotated[tuple[SignedOpening, ...], Field(max_length=16)]
Cosine = Annotated[int, Field(ge=-1_000_000, le=1_000_000)]
Micro = Annotated[int, Field(ge=0, lt=2**53)]
Seconds = Annotated[int, Field(ge=0, lt=2**53)]
"""Log time, in seconds since 1970."""


class IdentityRotated(Document):
    """A member's new signing key, which signs too. The old key signs as well or, if it is lost, a quorum of the
    members does; `ledger.chain` counts them, and reads `name`, `key` and `valid_until_s` by these names."""

    purpose: Literal["identity"]
    name: Name
    key: PublicKey
    valid_until_s: Seconds | None = None


class MemberRetired(Document):
    """A site leaves: by its own word, or that of a quorum of the members (`ledger.chain`)."""

    name: Name


class PolicyAdopted(Document):
    """A site's vote for a policy. It is in force from the index at which a quorum of the sites voted for it."""

    policy_digest: Digest


class SumKeyRotated(Document):
    """The public key of a study's homomorphic sums, made and sealed to the holders by one of them. A new one for
    every plan, so that a key opens no other plan's sums."""

    purpose: Literal["study-sum"]
    study: Name
    plan_digest: Digest
    public_key_digest: Digest


class PlanPublished(Document):
    plan: Plan
    plan_digest: Digest
    base_model_digest: Digest


class InquiryPublished(Document):
    inquiry: Inquiry
    plan_digest: Digest

    @property
    def plan(self) -> Inquiry:
        """As every other plan is asked for."""
        return self.inquiry


Published: TypeAlias = PlanPublished | InquiryPublished


class PlanApproved(Document):
    plan_digest: Digest
    code_digest: Digest
    masking_key: Hex32
    """X25519 public key (raw) that the site made for this plan alone; pair keys of its sums follow from it
    (`privacy.masking`)."""


class RosterFixed(Document):
    """Among whom the plan's sums are protected: every site that approved, from here to the plan's end. A site that is
    not in it takes part in no round."""

    plan_digest: Digest
    sites: Annotated[tuple[Name, ...], Field(min_length=3, max_length=50)]


class BudgetReserved(Document):
    """Spent from here on, whatever happens next. `epsilon_total_micro` is the pool's total after it."""

    plan_digest: Digest
    round: Round
    attempt: Annotated[int, Field(ge=1, le=1000)]
    mechanisms: Annotated[tuple[DeclaredMechanism, ...], Field(min_length=1)]
    epsilon_total_micro: Micro


class BudgetSpent(Document):
    """Settles a reservation. The mechanisms of steps that are not `released` are given back: their `Release` was
    never built, and the ledger takes none any more. `epsilon_total_micro` is the pool's total after it."""

    plan_digest: Digest
    round: Round
    attempt: Annotated[int, Field(ge=1, le=1000)]
    released: Annotated[tuple[Step, ...], Field(max_length=2)]
    epsilon_total_micro: Micro


class ConsentPublished(ConsentPolicy):
    """A new version of the site's consent policy, or one that replaces what it published under that version."""


class ConsentState(Document):
    """The keyed root of a site's consents, once a cadence whether anything changed or not
    (docs/ledger-privacy.md)."""

    cadence: Annotated[int, Field(ge=0, lt=2**53)]
    """Number of the cadence since 1970."""
    root: Digest


class SiteQuarantined(Document):
    """Nothing of the site counts from here on, by its own word or the coordinator's."""

    site: Name
    code: Code
    evidence: Digest | None = None
    """Digest of the `aggregate.released` entry in which the site's cluster is an outlier, if that is why."""


class SiteReleased(Document):
    """A site's vote to take another one back. It is back from the index at which a quorum of the sites voted so."""

    site: Name
    quarantine: Digest
    """Entry digest of the `site.quarantined` that the vote is about: it counts for no later one."""


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
    norm_l2_micro: Micro
    """L2 norm of the decoded sum, which sites confirm with the model."""
    cosines_micro: Annotated[tuple[Cosine, ...], Field(max_length=50)] = ()
    """Of a robust plan: how each cluster's sum points along the others' (`privacy.robust_aggregation`); the
    openings confirm them with the model."""
    outliers: Annotated[tuple[Annotated[int, Field(ge=0, lt=50)], ...], Field(max_length=50)] = ()
    """Which of the opened clusters, counted from 0, point against the others or are longer than their clip allows."""
    server_state_digest: Digest | None = None
    """Of the plan's server optimiser after the round, if it keeps a state; the openings confirm it too."""
    openings: Openings


class EvaluationRecorded(Document):
    plan_digest: Digest
    round: Round
    sum_digest: Digest
    histogram: Annotated[tuple[Lane, ...], Field(min_length=8, max_length=1536)]
    """The opened, noised sum itself, so that everybody recomputes the AUC; less its last lane where there is a
    `better_off`."""
    auc_micro: Micro | None
    subgroup_auc_micro: Annotated[tuple[Micro | None, ...], Field(max_length=8)]
    """Of the plan's subgroups, in their order; none where it has none."""
    dice_micro: Micro | None = None
    """The mean Dice of patients' masks, where masks are learned; there is no AUC then."""
    subgroup_dice_micro: Annotated[tuple[Micro | None, ...], Field(max_length=8)] = ()
    better_off: Lane | None = None
    """The last lane of the opened sum of a plan that compares: how many sites answered yes (`policies.comparison`).
    What is under zero or above their number shows a hostile site, and is recorded all the same."""
    openings: Openings

    @property
    def figure_micro(self) -> int | None:
        """What the gates judge."""
        return self.auc_micro if self.dice_micro is None else self.dice_micro

    @property
    def subgroup_figures_micro(self) -> tuple[int | None, ...]:
        return self.subgroup_dice_micro or self.subgroup_auc_micro


class StatisticsReleased(Document):
    plan_digest: Digest
    sum_digest: Digest
    lanes: Annotated[tuple[Lane, ...], Field(min_length=1, max_length=MAXIMUM_LANES)]
    """The opened sum of all sites' noised lanes itself, so that everybody reads the same figures off it
    (`privacy.statistics_reading`)."""
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
    | IdentityRotated
    | MemberRetired
    | PolicyAdopted
    | SumKeyRotated
    | PlanPublished
    | InquiryPublished
    | PlanApproved
    | RosterFixed
    | BudgetReserved
    | BudgetSpent
    | ConsentPublished
    | ConsentState
    | SiteQuarantined
    | SiteReleased
    | PhaseOpened
    | PhaseMeasured
    | PhaseAdvanced
    | AgreementRecorded
    | ConformanceRecorded
    | DrillRecorded
    | IncidentReported
    | TrainingReceipt
    | UpdateRefused
    | RoundClosed
    | AggregateReleased
    | EvaluationRecorded
    | StatisticsReleased
    | GateVerdict
    | ModelRegistered
    | ModelPromoted
    | ModelRolledBack
)

TYPES: dict[str, tuple[type[Body], ...]] = {
    "federation.founded": (Federation,),
    "member.retired": (MemberRetired,),
    "key.rotated": (IdentityRotated, SumKeyRotated),
    "policy.adopted": (PolicyAdopted,),
    "plan.published": (PlanPublished,),
    "inquiry.published": (InquiryPublished,),
    "plan.approved": (PlanApproved,),
    "roster.fixed": (RosterFixed,),
    "budget.reserved": (BudgetReserved,),
    "budget.spent": (BudgetSpent,),
    "consent.published": (ConsentPublished,),
    "consent.state": (ConsentState,),
    "site.quarantined": (SiteQuarantined,),
    "site.released": (SiteReleased,),
    "phase.opened": (PhaseOpened,),
    "phase.measured": (PhaseMeasured,),
    "phase.advanced": (PhaseAdvanced,),
    "agreement.recorded": (AgreementRecorded,),
    "conformance.recorded": (ConformanceRecorded,),
    "drill.recorded": (DrillRecorded,),
    "incident.reported": (IncidentReported,),
    "training.receipt": (TrainingReceipt,),
    "update.refused": (UpdateRefused,),
    "round.closed": (RoundClosed,),
    "aggregate.released": (AggregateReleased,),
    "evaluation.recorded": (EvaluationRecorded,),
    "statistics.released": (StatisticsReleased,),
    "gate.verdict": (GateVerdict,),
    "model.registered": (ModelRegistered,),
    "model.promoted": (ModelPromoted,),
    "model.rolled-back": (ModelRolledBack,),
}
"""What an event of a type may say; where there are several, `purpose` tells them apart."""


class UnknownEventError(InputError):
    code = "event.unknown"


def parse_body(event_type: str, body: dict[str, JsonValue]) -> Body:
    """Read the typed body of an event, or refuse it naming every wrong field."""
    if event_type not in TYPES:
        raise UnknownEventError("this event type is not known to this version")
    return _kind(event_type, body).from_value(body, what=f"event {event_type}")


def read_body(event_type: str, body_json: bytes) -> Body:
    """As `parse_body`, of an event that was parsed before, from its own bytes. Raises KeyError and ValueError."""
    kinds = TYPES[event_type]
    kind = kinds[0] if len(kinds) == 1 else _kind(event_type, json.loads(body_json))
    return kind.model_validate_json(body_json)


def _kind(event_type: str, body: dict[str, JsonValue]) -> type[Body]:
    kinds = TYPES[event_type]
    if len(kinds) == 1:
        return kinds[0]
    return next((kind for kind in kinds if _purpose(kind) == body.get("purpose")), kinds[0])


def type_of(body: Body) -> str:
    return next(name for name, kinds in TYPES.items() if type(body) in kinds)


def _purpose(kind: type[Body]) -> str:
    purpose: str = get_args(kind.model_fields["purpose"].annotation)[0]
    return purpose
