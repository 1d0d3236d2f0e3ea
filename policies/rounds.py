"""Admission of a round's events: the plan, its approval, reports, closing, opened sums, verdicts and registration.

Each function returns every reason why the event may not stand. Budgets live in `policies.budget`, the gates that a
verdict must follow from in `policies.gates`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.errors import Violation
from policies import facts, opening
from policies.cost import mechanisms_of
from policies.drift import PERFORMANCE
from policies.events import (
    AggregateReleased,
    EvaluationRecorded,
    GateVerdict,
    ModelRegistered,
    PlanApproved,
    PlanPublished,
    RosterFixed,
    RoundClosed,
    UpdateRefused,
)
from policies.gates import plan_violations, release_violations
from policies.inquiry import Inquiry
from policies.protection import (
    closing_violations,
    holder_violations,
    is_encrypted,
    is_masked,
    is_masking_key,
    norm_bound_micro,
    opened_groups,
    robust_violations,
    sum_key_digest,
)
from policies.receipt import FIRST_RECEIPT, Predicate, Statement, Step
from policies.rego import installed_rules
from policies.selection import is_early, roster_now

if TYPE_CHECKING:
    from policies.state import FederationState


def plan(state: FederationState, body: PlanPublished) -> list[Violation]:
    found = []
    if body.plan.content_digest() != body.plan_digest:
        found.append(Violation("plan.digest", "the plan does not have the digest it is published under"))
    if body.plan_digest in state.plans:
        found.append(Violation("plan.published-twice", "this plan is on the ledger already"))
    latest = state.latest_model(body.plan.study)
    if body.plan.base == "latest" and latest is not None and latest != body.base_model_digest:
        found.append(Violation("plan.base-model", "the base is not the study's newest registered model"))
    return found


def known_plan(state: FederationState, plan_digest: str) -> list[Violation]:
    if state.published(plan_digest) is None:
        return [Violation("plan.unknown", "the plan is not on the ledger")]
    return []


def _step_of_plan(state: FederationState, plan_digest: str, round_number: int, step: Step) -> list[Violation]:
    plan = state.plan_of(plan_digest)
    if step in (plan.steps_of(round_number) if round_number else plan.steps):
        return []
    return [Violation("plan.step", f"the plan has no step {step}")]


def _trains(state: FederationState, plan_digest: str) -> list[Violation]:
    """What is said of a model is said of a plan that trains one, never of an inquiry."""
    if plan_digest in state.inquiries:
        return [Violation("plan.no-model", "an inquiry has no model")]
    return []


def approval(state: FederationState, institution: str, body: PlanApproved) -> list[Violation]:
    found = known_plan(state, body.plan_digest)
    if not found and body.code_digest not in state.plan_of(body.plan_digest).code_digests:
        found.append(Violation("plan.code", "the code that runs at the site is not approved by the plan"))
    if body.masking_key in state.masking_keys.values():
        found.append(Violation("plan.masking-key", "the masking key was announced before"))
    elif not is_masking_key(body.masking_key):
        found.append(Violation("plan.masking-key", "no secret can be shared with the holder of this key"))
    if institution in state.approvals.get(body.plan_digest, frozenset()):
        found.append(Violation("plan.approved-twice", f"{institution} has approved the plan already"))
    return found


def roster(state: FederationState, body: RosterFixed, *, log_time_s: int) -> list[Violation]:
    """All who approved and are not refused, or those whom the ledger selects of them: nobody is left out but by name,
    and nobody joins a sum half-way."""
    found = known_plan(state, body.plan_digest)
    if found:
        return found
    verdict = state.verdicts.get((body.plan_digest, 0))
    if verdict is None or not verdict.passed:
        found.append(Violation("roster.not-open", "the plan has not passed its entry gate"))
    if body.plan_digest in state.rosters:
        found.append(Violation("roster.fixed-twice", "the plan's roster is fixed already"))
    plan = state.plan_of(body.plan_digest)
    if body.sites != roster_now(state, body.plan_digest):
        if plan.participation.select is None:
            found.append(Violation("roster.sites", "the roster is not that of all sites that approved"))
        else:
            found.append(Violation("roster.selection", "the roster is not the one that the ledger selects"))
    if is_early(state, body.plan_digest, log_time_s=log_time_s):
        found.append(Violation("roster.early", "not every site has answered, and the deadline is not over"))
    if len(body.sites) < plan.participation.minimum_sites:
        found.append(Violation("roster.too-few", "the roster is smaller than the plan allows"))
    if len(body.sites) > plan.maximum_sites:
        found.append(Violation("roster.too-many", "the plan's encoding does not hold so many sites"))
    found += holder_violations(plan, state.founded(), body.sites)
    return found + robust_violations(plan, len(body.sites))


def open_round(state: FederationState, plan_digest: str, round_number: int) -> list[Violation]:
    """The plan is known, passed its entry gate and every round before this one, and has this round.

    A round without an evaluation is passed when its sum is released and nothing speaks against it.
    """
    found = known_plan(state, plan_digest)
    if found:
        return found
    if round_number > state.plan_of(plan_digest).rounds:
        found.append(Violation("round.unknown", f"the plan has no round {round_number}"))
    before = (plan_digest, round_number - 1)
    if not (state.verdicts[before].passed if before in state.verdicts else goes_on(state, *before)):
        found.append(Violation("round.not-open", f"round {round_number} is not open"))
    if (plan_digest, round_number) in state.verdicts or goes_on(state, plan_digest, round_number):
        found.append(Violation("round.over", f"round {round_number} is over"))
    return found


def goes_on(state: FederationState, plan_digest: str, round_number: int) -> bool:
    """Whether a round without an evaluation is over and the next may begin: its sum is released, and the rules find
    nothing against it. Neither changes any more."""
    key = (plan_digest, round_number)
    plan = state.plan_of(plan_digest)
    if key not in state.released or isinstance(plan, Inquiry) or plan.evaluates(round_number):
        return False
    if key not in state.going_on:
        state.going_on[key] = not release_violations(state, plan_digest, round_number)
    return state.going_on[key]


def receipt(state: FederationState, institution: str, statement: Statement) -> list[Violation]:
    about = statement.predicate
    found = open_round(state, about.plan_digest, about.round)
    found = found or _step_of_plan(state, about.plan_digest, about.round, about.step)
    if found:
        return found
    plan = state.plan_of(about.plan_digest)
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
    if about.mechanisms != mechanisms_of(plan, about.step, round_number=about.round):
        found.append(Violation("receipt.mechanisms", "the mechanisms are not those of the plan"))
    if about.policy_digest != state.reserved_under.get(
        (about.plan_digest, about.round, institution), about.policy_digest
    ):
        found.append(Violation("receipt.policy", "the receipt names another policy than its reservation's"))
    settled = state.settled.get((about.plan_digest, about.round, institution))
    if settled is not None and settled.attempt == about.attempt and about.step not in settled.released:
        found.append(Violation("receipt.settled", f"{institution} gave this step's budget back"))
    told = facts.receipt_facts(state, plan, institution, about)
    found.extend(
        Violation(code, _receipt_message(code, institution))
        for code in installed_rules().decide("receipt", told)
    )
    key_digest = sum_key_digest(state, about.plan_digest)
    if about.sum_key_digest != key_digest or (key_digest is None and is_encrypted(plan)):
        found.append(Violation("receipt.sum-key", "the update is not encrypted under the plan's key"))
    if (statement.shares_digest is not None) != is_masked(plan):
        found.append(
            Violation("receipt.shares", "an update under masks comes with shares, and no other does")
        )
    if about.norm_bound_micro != norm_bound_micro(plan, about.step):
        found.append(Violation("receipt.norm-bound", "the signed bound is not the plan's"))
    found.extend(_parent_model(state, about))
    if (about.plan_digest, about.round, about.step) in state.closed:
        found.append(Violation("receipt.late", "the round is closed"))
    return found


def _receipt_message(code: str, site: str) -> str:
    return {
        "receipt.code": "the code that made the update is not approved",
        "receipt.validation": f"the data of {site} failed the contract",
        "receipt.suite": f"{site} held its data against another contract than the plan's",
        "receipt.consent-state": f"{site} names other consents than those it reserved under",
        "site.quarantined": f"{site} is in quarantine",
    }.get(code, f"the rule {code} refuses the receipt")


def _parent_model(state: FederationState, about: Predicate) -> list[Violation]:
    """Training starts from the model before the round; evaluation scores the one that the round released. Statistics
    name their inquiry."""
    after = about.round if about.step == "training" else about.round + 1
    if state.model_before(about.plan_digest, after) != about.parent_model_digest:
        return [Violation("receipt.parent-model", "the receipt names another model than the round's")]
    return []


def refusal(state: FederationState, institution: str, body: UpdateRefused) -> list[Violation]:
    found = known_plan(state, body.plan_digest) or _step_of_plan(
        state, body.plan_digest, body.round, body.step
    )
    federation = state.federation
    if federation is None or body.site not in {site.name for site in federation.sites()}:
        found.append(Violation("refusal.unknown-site", "the refusal names no site of the federation"))
    elif institution != body.site and (body.round == 0 or institution != federation.coordinator().name):
        found.append(Violation("refusal.foreign", "a site refuses only its own contribution"))
    elif body.code == PERFORMANCE and institution != body.site:
        found.append(Violation("refusal.foreign", "that an evaluation drifted only its site can know"))
    if (body.plan_digest, body.round, body.step) in state.closed:
        found.append(Violation("refusal.late", "the round is closed"))
    return found


def closing(state: FederationState, body: RoundClosed) -> list[Violation]:
    found = open_round(state, body.plan_digest, body.round)
    found = found or _step_of_plan(state, body.plan_digest, body.round, body.step)
    if found:
        return found
    if (body.plan_digest, body.round, body.step) in state.closed:
        found.append(Violation("round.closed-twice", "this step is closed already"))
    usable = {
        receipt.entry_digest: receipt.site
        for receipt in state.usable_receipts(body.plan_digest, body.round, body.step)
    }
    if set(body.receipts) != usable.keys() or len(set(body.receipts)) != len(body.receipts):
        found.append(Violation("round.receipts", "the set is not that of all receipts that count"))
    present = frozenset(usable[digest] for digest in body.receipts if digest in usable)
    found += closing_violations(state, body.plan_digest, body.round, body.step, present=present)
    # A site is never dropped silently: everyone is either in the set or named as missing.
    federation = state.federation
    everyone = set() if federation is None else {site.name for site in federation.sites()}
    if {absence.site for absence in body.missing} != everyone - present:
        found.append(Violation("round.missing", "the missing sites are not those named"))
    if body.step == "evaluation" and (body.plan_digest, body.round) not in state.released:
        found.append(Violation("round.order", "evaluation comes after the aggregate"))
    return found


def opened(
    state: FederationState,
    plan_digest: str,
    round_number: int,
    step: Step,
    *,
    sum_digest: str,
    outcome_digest: str | None = None,
    openings: tuple[opening.SignedOpening, ...],
) -> list[Violation]:
    """A sum counts only on the word of enough key holders, whoever publishes it."""
    federation = state.federation
    if federation is not None and opening.agreed(
        openings,
        federation,
        origin=state.origin,
        plan_digest=plan_digest,
        round_number=round_number,
        step=step,
        sum_digest=sum_digest,
        outcome_digest=outcome_digest,
    ):
        return []
    return [
        Violation("opening.not-agreed", "too few key holders signed that this is the sum, and what follows")
    ]


def release(state: FederationState, body: AggregateReleased) -> list[Violation]:
    found = open_round(state, body.plan_digest, body.round) + _trains(state, body.plan_digest)
    if (body.plan_digest, body.round, "training") not in state.closed:
        found.append(Violation("aggregate.not-closed", "nothing is opened before its round is closed"))
    elif not _about_clusters(state, body):
        found.append(Violation("aggregate.clusters", "the figures are not those of the opened clusters"))
    elif (body.server_state_digest is not None) != state.plans[
        body.plan_digest
    ].plan.update.server.keeps_state:
        found.append(
            Violation("aggregate.server-state", "a state of the server is named without reason, or none is")
        )
    if (body.plan_digest, body.round) in state.released:
        found.append(Violation("aggregate.twice", "the sum of this round is released already"))
    outcome = opening.outcome_digest_of(
        model_digest=body.model_digest,
        norm_l2_micro=body.norm_l2_micro,
        cosines_micro=body.cosines_micro,
        outliers=body.outliers,
        server_state_digest=body.server_state_digest,
    )
    return found + opened(
        state,
        body.plan_digest,
        body.round,
        "training",
        sum_digest=body.sum_digest,
        outcome_digest=outcome,
        openings=body.openings,
    )


def _about_clusters(state: FederationState, body: AggregateReleased) -> bool:
    """One cosine a cluster and outliers among them, where the plan sums by cluster: quarantine rests on these. What
    they are the openings confirm."""
    plan = state.plans[body.plan_digest].plan
    groups = () if plan.robust is None else opened_groups(state, body.plan_digest, body.round, "training")
    return (
        len(body.cosines_micro) == len(groups)
        and body.outliers == tuple(sorted(set(body.outliers)))
        and all(number < len(groups) for number in body.outliers)
    )


def evaluation(state: FederationState, body: EvaluationRecorded) -> list[Violation]:
    found = open_round(state, body.plan_digest, body.round) + _trains(state, body.plan_digest)
    if found:
        return found
    if (body.plan_digest, body.round, "evaluation") not in state.closed:
        found.append(Violation("evaluation.not-closed", "nothing is opened before its round is closed"))
    if (body.plan_digest, body.round) in state.evaluated:
        found.append(Violation("evaluation.twice", "this round is evaluated already"))
    found += opened(
        state, body.plan_digest, body.round, "evaluation", sum_digest=body.sum_digest, openings=body.openings
    )
    plan = state.plans[body.plan_digest].plan
    lanes = opening.histogram_lanes(body.histogram)
    if len(lanes) != opening.histogram_lane_count(plan.evaluation):
        return [*found, Violation("evaluation.bins", "the histogram is not one of the plan's bins")]
    if (body.better_off is not None) != plan.compares(body.round):
        answered = "sites say whether they are better off at the last evaluation of a plan that asks it alone"
        return [*found, Violation("evaluation.comparison", answered)]
    if opening.sum_digest_of(opening.evaluation_lanes(body.histogram, body.better_off)) != body.sum_digest:
        found.append(Violation("evaluation.sum", "the histogram is not the opened sum"))
    said = opening.EvaluationFigures(
        body.auc_micro, body.subgroup_auc_micro, body.dice_micro, body.subgroup_dice_micro
    )
    if said != opening.figures_micro_of(lanes, plan):
        found.append(Violation("evaluation.figures", "the recorded figures do not follow from the histogram"))
    return found


def verdict(state: FederationState, body: GateVerdict, *, log_time_s: int) -> list[Violation]:
    """The verdict must be the one that follows from the ledger; a coordinator cannot wave a model through."""
    found = known_plan(state, body.plan_digest)
    if found:
        return found
    if body.round == 0:
        if (body.plan_digest, 0) in state.verdicts:
            found.append(Violation("round.over", "the plan has its verdict already"))
        expected = plan_violations(state, state.plan_of(body.plan_digest), log_time_s=log_time_s)
    else:
        found.extend(open_round(state, body.plan_digest, body.round))
        expected = release_violations(state, body.plan_digest, body.round)
    if body.violations != tuple(violation.code for violation in expected) or body.passed == bool(expected):
        found.append(Violation("verdict.wrong", "the verdict does not follow from the ledger"))
    return found


def registration(state: FederationState, body: ModelRegistered) -> list[Violation]:
    found = []
    verdict = state.verdicts.get((body.plan_digest, body.round))
    if body.round == 0 or verdict is None or not verdict.passed:
        found.append(Violation("model.no-verdict", "a model is registered only after it passed its gate"))
    released = state.released.get((body.plan_digest, body.round))
    if released is None or released.model_digest != body.model_digest:
        found.append(Violation("model.digest", "this is not the model that the round released"))
    if (body.plan_digest, body.round) in state.registered:
        found.append(Violation("model.registered-twice", "the model of this round is registered already"))
    if _is_overtaken(state, (body.plan_digest, body.round)):
        said = "a model of this study that was evaluated later is registered already"
        found.append(Violation("model.order", said))
    return found


def _is_overtaken(state: FederationState, key: tuple[str, int]) -> bool:
    """Whether its study has a registered model that was evaluated later. Who could choose the order would choose, of
    all figures that it has seen, which model is the newest."""
    if key not in state.evaluated:
        return False
    study, after = state.plans[key[0]].plan.study, [*state.evaluated]
    later = after[after.index(key) + 1 :]
    return any(one in state.registered and state.plans[one[0]].plan.study == study for one in later)
