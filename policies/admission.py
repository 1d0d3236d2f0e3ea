"""Admission: may this institution say this now? The typed kernel in front of every append and cosignature.

One function per event type, each a pure reading of the state that returns every violation it finds. Budgets
are enforced here: a reservation over the cap never becomes part of the log, whoever operates it. Signatures
and chains are checked before (`policies.state`); plan and model gates are `policies.gates`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.errors import InputError, Violation
from policies import opening
from policies.cost import epsilon_micro, mechanisms_of, round_mechanisms
from policies.events import (
    AggregateReleased,
    Body,
    BudgetReserved,
    EvaluationRecorded,
    GateVerdict,
    IdentityRotated,
    MemberRetired,
    ModelRegistered,
    PlanApproved,
    PlanPublished,
    PolicyAdopted,
    RoundClosed,
    SumKeyRotated,
    TrainingReceipt,
    UpdateRefused,
)
from policies.federation import Federation
from policies.gates import MICRO, epsilon_text, plan_violations, release_violations
from policies.receipt import FIRST_RECEIPT, Predicate, Step
from privacy import accounting

if TYPE_CHECKING:
    from policies.state import FederationState


_SITES_SAY = SumKeyRotated | PlanApproved | BudgetReserved | TrainingReceipt | PolicyAdopted
_ANYBODY_SAYS = UpdateRefused | IdentityRotated | MemberRetired


def violations_of(state: FederationState, institution: str, body: Body) -> list[Violation]:
    """Every reason why `institution` may not say `body` now; empty when it may."""
    if isinstance(body, Federation):
        return _founding(state, institution, body)
    federation = state.founded()
    role = "coordinator" if institution == federation.coordinator().name else "site"
    by_site = isinstance(body, _SITES_SAY)
    if not isinstance(body, _ANYBODY_SAYS) and by_site != (role == "site"):
        return [Violation("event.role", f"a {role} may not say this")]
    match body:
        case IdentityRotated():
            return _rotation(federation, body)
        case MemberRetired():
            return _retirement(federation, body)
        case PolicyAdopted():
            return _vote(state, institution, body)
        case SumKeyRotated():
            return _sum_key(state, institution, body)
        case PlanPublished():
            return _plan(state, body)
        case PlanApproved():
            return _approval(state, body)
        case BudgetReserved():
            return _reservation(state, institution, body)
        case TrainingReceipt():
            return _receipt(state, institution, body.statement.predicate)
        case UpdateRefused():
            return _refusal(state, institution, body)
        case RoundClosed():
            return _closing(state, body)
        case AggregateReleased():
            return _release(state, body)
        case EvaluationRecorded():
            return _evaluation(state, body)
        case GateVerdict():
            return _verdict(state, body)
        case ModelRegistered():
            return _registration(state, body)


def _founding(state: FederationState, institution: str, body: Federation) -> list[Violation]:
    found = []
    if state.founding_digest not in (None, body.content_digest()):
        found.append(Violation("federation.document", "this is not the document that the members signed"))
    if body.origin != state.origin:
        found.append(Violation("federation.origin", "the document names another log"))
    if body.coordinator().name != institution:
        found.append(Violation("federation.founder", "the coordinator records the founding"))
    return found


def _rotation(federation: Federation, body: IdentityRotated) -> list[Violation]:
    """Who must sign, and that the new key does, is `ledger.chain`'s; a member can sign for its own witness key."""
    try:
        federation.with_key(body.name, body.key, body.valid_until_s)
    except InputError as error:
        return [Violation("member.key", error.public_message)]
    return []


def _retirement(federation: Federation, body: MemberRetired) -> list[Violation]:
    try:
        federation.without(body.name)
    except InputError as error:
        return [
            Violation(
                "member.needed", f"the federation cannot do without {body.name}: {error.public_message}"
            )
        ]
    return []


def _vote(state: FederationState, institution: str, body: PolicyAdopted) -> list[Violation]:
    if body.policy_digest == state.policy_digest:
        return [Violation("policy.in-force", "this policy is in force already")]
    if institution in state.policy_votes.get(body.policy_digest, frozenset()):
        return [Violation("policy.voted-twice", f"{institution} has voted for this policy already")]
    return []


def _sum_key(state: FederationState, institution: str, body: SumKeyRotated) -> list[Violation]:
    found = []
    if state.federation is None or institution not in state.federation.key_holders:
        found.append(Violation("sum-key.not-holder", f"{institution} is not a key holder"))
    current = state.sum_keys.get(body.study)
    if body.previous != (None if current is None else current.public_key_digest):
        found.append(Violation("sum-key.stale", "the key does not follow the one in force"))
    return found


def _plan(state: FederationState, body: PlanPublished) -> list[Violation]:
    found = []
    if body.plan.content_digest() != body.plan_digest:
        found.append(Violation("plan.digest", "the plan does not have the digest it is published under"))
    if body.plan_digest in state.plans:
        found.append(Violation("plan.published-twice", "this plan is on the ledger already"))
    if body.plan.base == "latest" and state.latest_model(body.plan.study) != body.base_model_digest:
        found.append(Violation("plan.base-model", "the base is not the study's newest registered model"))
    return found


def _known_plan(state: FederationState, plan_digest: str) -> list[Violation]:
    return [] if plan_digest in state.plans else [Violation("plan.unknown", "the plan is not on the ledger")]


def _approval(state: FederationState, body: PlanApproved) -> list[Violation]:
    found = _known_plan(state, body.plan_digest)
    if not found and body.code_digest not in state.plans[body.plan_digest].plan.code_digests:
        found.append(Violation("plan.code", "the code that runs at the site is not approved by the plan"))
    return found


def _open_round(state: FederationState, plan_digest: str, round_number: int) -> list[Violation]:
    """The plan is known, passed its entry gate and every round before this one, and has this round."""
    found = _known_plan(state, plan_digest)
    if found:
        return found
    if round_number > state.plans[plan_digest].plan.rounds:
        found.append(Violation("round.unknown", f"the plan has no round {round_number}"))
    verdict = state.verdicts.get((plan_digest, round_number - 1))
    if verdict is None or not verdict.passed:
        found.append(Violation("round.not-open", f"round {round_number} is not open"))
    if (plan_digest, round_number) in state.verdicts:
        found.append(Violation("round.over", f"round {round_number} is over"))
    return found


def _reservation(state: FederationState, institution: str, body: BudgetReserved) -> list[Violation]:
    found = _open_round(state, body.plan_digest, body.round)
    if found:
        return found
    plan = state.plans[body.plan_digest].plan
    if body.mechanisms != round_mechanisms(plan):
        found.append(Violation("budget.mechanisms", "the mechanisms are not those of the plan"))
    if institution not in state.approvals.get(body.plan_digest, frozenset()):
        found.append(Violation("plan.not-approved", f"{institution} has not approved the plan"))
    if body.attempt != state.attempts.get((body.plan_digest, body.round, institution), 0) + 1:
        found.append(Violation("budget.attempt", "the reservation is not the next attempt"))
    federation = state.federation
    member = None if federation is None else federation.member(institution)
    if member is None or member.pool is None:
        return [*found, Violation("budget.no-pool", f"{institution} has no data pool")]
    total = epsilon_micro(state.spent_by(institution) + accounting.total(body.mechanisms), member.pool.delta)
    if total > member.pool.epsilon_cap_micro:
        found.append(
            Violation(
                "budget.pool-cap",
                f"{institution} would have spent ε={epsilon_text(total)}, over its cap of "
                f"{member.pool.epsilon_cap_micro / MICRO:g}",
            )
        )
    if total != body.epsilon_total_micro:
        found.append(Violation("budget.total", "the total is not what the ledger adds up to"))
    return found


def _receipt(state: FederationState, institution: str, about: Predicate) -> list[Violation]:
    found = _open_round(state, about.plan_digest, about.round)
    if found:
        return found
    plan = state.plans[about.plan_digest].plan
    key = (about.plan_digest, about.round, about.step, institution)
    if about.origin != state.origin or about.study != plan.study:
        found.append(Violation("receipt.context", "the receipt was made for another log or study"))
    if key in state.receipts:
        found.append(Violation("receipt.replayed", f"{institution} has reported this step already"))
    chain = state.receipt_chains.get(institution)
    expected = (0, FIRST_RECEIPT) if chain is None else (chain.sequence, chain.previous)
    if (about.receipt_sequence, about.previous_receipt) != expected:
        found.append(Violation("receipt.sequence", "the receipt does not follow the site's last one"))
    if about.attempt != state.attempts.get((about.plan_digest, about.round, institution)):
        found.append(Violation("receipt.no-reservation", f"{institution} reserved no budget for this"))
    if about.mechanisms != mechanisms_of(plan, about.step):
        found.append(Violation("receipt.mechanisms", "the mechanisms are not those of the plan"))
    if about.policy_digest != state.reserved_under.get(
        (about.plan_digest, about.round, institution), about.policy_digest
    ):
        found.append(Violation("receipt.policy", "the receipt names another policy than its reservation's"))
    if about.code_digest not in plan.code_digests:
        found.append(Violation("receipt.code", "the code that made the update is not approved"))
    if not about.validation.passed:
        found.append(Violation("receipt.validation", f"the data of {institution} failed the contract"))
    sum_key = state.sum_keys.get(plan.study)
    if sum_key is None or about.sum_key_digest != sum_key.public_key_digest:
        found.append(Violation("receipt.sum-key", "the update is not encrypted under the key in force"))
    found.extend(_parent_model(state, about))
    if (about.plan_digest, about.round, about.step) in state.closed:
        found.append(Violation("receipt.late", "the round is closed"))
    return found


def _parent_model(state: FederationState, about: Predicate) -> list[Violation]:
    """Training starts from the model before the round; evaluation scores the one that the round released."""
    after = about.round if about.step == "training" else about.round + 1
    if state.model_before(about.plan_digest, after) != about.parent_model_digest:
        return [Violation("receipt.parent-model", "the receipt names another model than the round's")]
    return []


def _refusal(state: FederationState, institution: str, body: UpdateRefused) -> list[Violation]:
    found = _known_plan(state, body.plan_digest)
    federation = state.federation
    if federation is None or body.site not in {site.name for site in federation.sites()}:
        found.append(Violation("refusal.unknown-site", "the refusal names no site of the federation"))
    elif institution not in (body.site, federation.coordinator().name):
        found.append(Violation("refusal.foreign", "a site refuses only its own contribution"))
    if (body.plan_digest, body.round, body.step) in state.closed:
        found.append(Violation("refusal.late", "the round is closed"))
    return found


def _closing(state: FederationState, body: RoundClosed) -> list[Violation]:
    found = _open_round(state, body.plan_digest, body.round)
    if found:
        return found
    plan = state.plans[body.plan_digest].plan
    if (body.plan_digest, body.round, body.step) in state.closed:
        found.append(Violation("round.closed-twice", "this step is closed already"))
    usable = {
        receipt.entry_digest: receipt.site
        for receipt in state.usable_receipts(body.plan_digest, body.round, body.step)
    }
    if set(body.receipts) != usable.keys() or len(set(body.receipts)) != len(body.receipts):
        found.append(Violation("round.receipts", "the set is not that of all receipts that count"))
    if len(set(body.receipts)) < plan.participation.minimum_sites:
        found.append(Violation("round.too-few", "the set is smaller than the plan allows"))
    # A site is never dropped silently: everyone is either in the set or named as missing.
    federation = state.federation
    everyone = set() if federation is None else {site.name for site in federation.sites()}
    reported = {usable[digest] for digest in body.receipts if digest in usable}
    if {absence.site for absence in body.missing} != everyone - reported:
        found.append(Violation("round.missing", "the missing sites are not those named"))
    if body.step == "evaluation" and (body.plan_digest, body.round) not in state.released:
        found.append(Violation("round.order", "evaluation comes after the aggregate"))
    return found


def _opened(
    state: FederationState, body: AggregateReleased | EvaluationRecorded, step: Step
) -> list[Violation]:
    """A sum counts only on the word of enough key holders, whoever publishes it."""
    federation = state.federation
    if federation is not None and opening.agreed(
        body.openings,
        federation,
        origin=state.origin,
        plan_digest=body.plan_digest,
        round_number=body.round,
        step=step,
        sum_digest=body.sum_digest,
    ):
        return []
    return [Violation("opening.not-agreed", "too few key holders signed that this is the sum")]


def _release(state: FederationState, body: AggregateReleased) -> list[Violation]:
    found = _open_round(state, body.plan_digest, body.round)
    if (body.plan_digest, body.round, "training") not in state.closed:
        found.append(Violation("aggregate.not-closed", "nothing is opened before its round is closed"))
    if (body.plan_digest, body.round) in state.released:
        found.append(Violation("aggregate.twice", "the sum of this round is released already"))
    return found + _opened(state, body, "training")


def _evaluation(state: FederationState, body: EvaluationRecorded) -> list[Violation]:
    found = _open_round(state, body.plan_digest, body.round)
    if found:
        return found
    if (body.plan_digest, body.round, "evaluation") not in state.closed:
        found.append(Violation("evaluation.not-closed", "nothing is opened before its round is closed"))
    if (body.plan_digest, body.round) in state.evaluated:
        found.append(Violation("evaluation.twice", "this round is evaluated already"))
    found += _opened(state, body, "evaluation")
    lanes = opening.histogram_lanes(body.histogram)
    if len(lanes) != 2 * state.plans[body.plan_digest].plan.evaluation.bins:
        return [*found, Violation("evaluation.bins", "the histogram is not one of the plan's bins")]
    if opening.sum_digest_of(lanes) != body.sum_digest:
        found.append(Violation("evaluation.sum", "the histogram is not the opened sum"))
    if opening.auc_micro_of(lanes) != body.auc_micro:
        found.append(Violation("evaluation.auc", "the recorded AUC does not follow from the histogram"))
    return found


def _verdict(state: FederationState, body: GateVerdict) -> list[Violation]:
    """The verdict must be the one that follows from the ledger; a coordinator cannot wave a model through."""
    found = _known_plan(state, body.plan_digest)
    if found:
        return found
    if body.round == 0:
        if (body.plan_digest, 0) in state.verdicts:
            found.append(Violation("round.over", "the plan has its verdict already"))
        expected = plan_violations(state, state.plans[body.plan_digest].plan)
    else:
        found.extend(_open_round(state, body.plan_digest, body.round))
        expected = release_violations(state, body.plan_digest, body.round)
    if body.violations != tuple(violation.code for violation in expected) or body.passed == bool(expected):
        found.append(Violation("verdict.wrong", "the verdict does not follow from the ledger"))
    return found


def _registration(state: FederationState, body: ModelRegistered) -> list[Violation]:
    found = []
    verdict = state.verdicts.get((body.plan_digest, body.round))
    if body.round == 0 or verdict is None or not verdict.passed:
        found.append(Violation("model.no-verdict", "a model is registered only after it passed its gate"))
    released = state.released.get((body.plan_digest, body.round))
    if released is None or released.model_digest != body.model_digest:
        found.append(Violation("model.digest", "this is not the model that the round released"))
    if (body.plan_digest, body.round) in state.registered:
        found.append(Violation("model.registered-twice", "the model of this round is registered already"))
    return found
