"""Admission: may this institution say this now? The typed kernel in front of every append and cosignature.

One function per event type, each a pure reading of the state that returns every violation it finds; they live in
`policies.membership`, `policies.budget`, `policies.rounds`, `policies.inquiries` and `policies.rollout`. Here is who
may say what at all, and the table. Signatures and chains are checked before (`ledger.chain`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.errors import Violation
from policies import budget, inquiries, membership, rounds
from policies.events import (
    AggregateReleased,
    Body,
    BudgetReserved,
    BudgetSpent,
    ConsentPublished,
    ConsentState,
    EvaluationRecorded,
    GateVerdict,
    IdentityRotated,
    InquiryPublished,
    MemberRetired,
    ModelRegistered,
    PlanApproved,
    PlanPublished,
    PolicyAdopted,
    RosterFixed,
    RoundClosed,
    SiteQuarantined,
    SiteReleased,
    StatisticsReleased,
    SumKeyRotated,
    TrainingReceipt,
    UpdateRefused,
)
from policies.federation import Federation
from policies.rollout import gate, promotion
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
)

if TYPE_CHECKING:
    from policies.state import FederationState

_SITES_SAY = (
    SumKeyRotated
    | PlanApproved
    | BudgetReserved
    | BudgetSpent
    | ConsentPublished
    | ConsentState
    | TrainingReceipt
    | PolicyAdopted
    | SiteReleased
    | AgreementRecorded
    | ConformanceRecorded
)
_ANYBODY_SAYS = UpdateRefused | IdentityRotated | MemberRetired | SiteQuarantined | IncidentReported


def violations_of(
    state: FederationState, institution: str, body: Body, *, log_time_s: int | None = None
) -> list[Violation]:
    """Every reason why `institution` may not say `body` now; empty when it may.

    `log_time_s` is the log's time with this event in it, by default the time before.
    """
    now_s = state.log_time_s if log_time_s is None else log_time_s
    if isinstance(body, Federation):
        return membership.founding(state, institution, body)
    federation = state.founded()
    role = "coordinator" if institution == federation.coordinator().name else "site"
    by_site = isinstance(body, _SITES_SAY)
    if not isinstance(body, _ANYBODY_SAYS) and by_site != (role == "site"):
        return [Violation("event.role", f"a {role} may not say this")]
    match body:
        case IdentityRotated():
            return membership.rotation(federation, body)
        case MemberRetired():
            return membership.retirement(federation, body)
        case PolicyAdopted():
            return membership.vote(state, institution, body)
        case SumKeyRotated():
            return membership.sum_key(state, institution, body)
        case ConsentPublished():
            return membership.consent_policy(state, institution, body)
        case ConsentState():
            return membership.consent_state(state, institution, body, log_time_s=now_s)
        case SiteQuarantined():
            return membership.quarantine(state, institution, body)
        case SiteReleased():
            return membership.release(state, institution, body)
        case PhaseOpened():
            return gate.opening(state, body)
        case PhaseMeasured():
            return gate.measuring(state, body)
        case PhaseAdvanced():
            return gate.advance(state, body)
        case AgreementRecorded():
            return gate.agreement(state, institution, body)
        case ConformanceRecorded():
            return gate.conformance(state, institution, body)
        case DrillRecorded():
            return gate.drill(state, body)
        case IncidentReported():
            return []
        case PlanPublished():
            return rounds.plan(state, body)
        case InquiryPublished():
            return inquiries.inquiry(state, body)
        case PlanApproved():
            return rounds.approval(state, institution, body)
        case RosterFixed():
            return rounds.roster(state, body, log_time_s=now_s)
        case BudgetReserved():
            return budget.reservation(state, institution, body, log_time_s=now_s)
        case BudgetSpent():
            return budget.settlement(state, institution, body)
        case TrainingReceipt():
            return rounds.receipt(state, institution, body.statement)
        case UpdateRefused():
            return rounds.refusal(state, institution, body)
        case RoundClosed():
            return rounds.closing(state, body)
        case AggregateReleased():
            return rounds.release(state, body)
        case EvaluationRecorded():
            return rounds.evaluation(state, body)
        case StatisticsReleased():
            return inquiries.release(state, body)
        case GateVerdict():
            return rounds.verdict(state, body, log_time_s=now_s)
        case ModelRegistered():
            return rounds.registration(state, body)
        case ModelPromoted():
            return promotion.promotion(state, body)
        case ModelRolledBack():
            return promotion.rollback(state, body)
