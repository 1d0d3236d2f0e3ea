"""Accept a plan: what a site checks before it lets anything run, and says so on the ledger.

The site pulls; nobody can start anything here. The checks are the site's own, made against its own ledger
state and configuration, whatever the coordinator says it checked.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

from adapters.home import NoSourceError
from ledger import canonical
from ledger.errors import CodedError, PolicyViolation, Violation
from policies.code import running_code_digest, running_policy_digest
from policies.cost import plan_cost
from policies.disclosure import public_code
from policies.events import (
    InquiryPublished,
    PlanApproved,
    PlanPublished,
    PolicyAdopted,
    Published,
    UpdateRefused,
)
from policies.facts import uses_patients
from policies.gates import plan_violations
from policies.site_policy import site_violations
from policies.state import FederationState
from tasks.background import DeadlineError
from tasks.deadline import Deadline
from tasks.site.maintenance import too_long
from tasks.site.party import Site, patience_s
from tasks.site.statements import has_unsaid, say_unsaid
from tasks.step import step
from tasks.worker.site_session import SiteSession

ALREADY = frozenset(("plan.approved-twice", "plan.masking-key"))


def open_plan(state: FederationState, site: str, plan_digest: str | None) -> Published | None:
    """The plan or inquiry to take part in: the one asked for unless it is done, else the newest open to this site.

    A plan that was asked for and failed its gate is returned, so that its verdict is what the site reports.
    """
    for digest in reversed(state.published_at):
        published = state.published(digest)
        if published is None or plan_digest not in (None, digest):
            continue
        entry_gate = state.verdicts.get((digest, 0))
        if plan_digest == digest and entry_gate is not None and not entry_gate.passed:
            return published
        refused = (digest, 0, published.plan.steps[0], site) in state.refusals
        if not refused and not state.is_over(digest):
            return published
    return None


@step
async def find_plan(site: Site, plan_digest: str | None, wait_s: float) -> Published | None:
    """Wait up to `wait_s` for a plan that is final; None if there is none, which is no error. Meanwhile say what the
    site's people leave to be said."""
    deadline = Deadline(wait_s)

    def found(state: FederationState) -> Published | Literal["unsaid"] | None:
        return "unsaid" if has_unsaid(site) else open_plan(state, site.name, plan_digest)

    while True:
        site.tell("wait for a plan")
        try:
            came: Published | Literal["unsaid"] = await site.until(
                found, timeout_s=deadline.left_s(), waiting_for="a plan"
            )
        except DeadlineError:
            return None
        if not isinstance(came, str):
            return came
        await say_unsaid(site)
        if not deadline.left_s():
            return None


@step
async def accept(site: Site, published: Published) -> None:
    """Approve the plan on the ledger, or refuse it there and raise with every reason."""
    site.tell("accept")
    plan, digest = published.plan, published.plan_digest
    approved = site.config.approval == "automatic" or digest in site.config.approved_plans
    # The hospital's own policy may have become stricter since it approved the plan.
    found = site_violations(
        plan,
        site.config.policy,
        site=site.name,
        approved_by_steward=approved,
        approved_bundles=site.config.approved_bundles,
    )
    if site.name in site.state.approvals.get(digest, frozenset()):
        if found:
            raise PolicyViolation(found)
        return
    found = plan_violations(site.state, plan, site=site.name) + found
    found.extend(site.journal.violations(plan_cost(plan)))
    if isinstance(published, InquiryPublished):
        found.extend(_table(site))
    else:
        found.extend(_source(site, published))
        found.extend(await _network(site, published))
        found.extend(await _base_model(site, published))
    found.extend(await _policy(site, published))
    found.extend(too_long(site, plan))
    if found:
        code = public_code(found[0].code)
        refusal = UpdateRefused(plan_digest=digest, round=0, step=plan.steps[0], site=site.name, code=code)
        await site.say(refusal)
        raise PolicyViolation(found)
    masking_key = await site.worker.call(SiteSession.announce, digest)
    try:
        await site.say(
            PlanApproved(plan_digest=digest, code_digest=running_code_digest(), masking_key=masking_key)
        )
    except PolicyViolation as refused:
        if not {violation.code for violation in refused.violations} <= ALREADY:
            raise
        # A run that was cut off has said it, and this site has not seen it on the ledger yet.
        announced = await site.until(
            lambda state: state.masking_keys.get((digest, site.name)),
            timeout_s=patience_s(plan),
            waiting_for="the site's own approval",
        )
        if announced != masking_key:
            raise


@step
async def await_verdict(site: Site, published: Published, round_number: int) -> bool:
    """Wait for a final verdict on the plan (round 0) or on a round's model."""
    key = (published.plan_digest, round_number)

    def found(state: FederationState) -> bool | None:
        verdict = state.verdicts.get(key)
        return None if verdict is None else verdict.passed

    return await site.until(found, timeout_s=patience_s(published.plan), waiting_for="the verdict")


@step
async def witness_registration(site: Site, published: PlanPublished) -> None:
    """Stay until the last model's registration is final: it needs this site's witness like everything else.
    A coordinator that does not come back for it is no fault of the site."""
    key = (published.plan_digest, published.plan.rounds)
    with suppress(DeadlineError):
        await site.until(
            lambda state: state.registered.get(key),
            timeout_s=patience_s(published.plan),
            waiting_for="the registration",
        )


async def _network(site: Site, published: PlanPublished) -> list[Violation]:
    """What the plan's numbers have against its network, found here whatever the coordinator says it found."""
    try:
        await site.worker.call(SiteSession.check_network, published.plan)
    except CodedError as error:
        return [Violation(error.code, error.public_message)]
    return []


async def _base_model(site: Site, published: PlanPublished) -> list[Violation]:
    """Fresh weights must be those of the seed: a coordinator cannot smuggle in others."""
    if published.plan.base == "latest" and _is_registered(site.state, published):
        return []
    made = canonical.digest(await site.worker.call(SiteSession.initial_model, published.plan))
    if made != published.base_model_digest:
        return [Violation("plan.base-model", "the base model is not the one that the plan's seed gives")]
    return []


def _is_registered(state: FederationState, published: PlanPublished) -> bool:
    """Whether the base is a model of the plan's study; that it is the newest one, the log has judged."""
    return any(
        model.model_digest == published.base_model_digest
        and state.plans[digest].plan.study == published.plan.study
        for (digest, _), model in state.registered.items()
    )


def _source(site: Site, published: PlanPublished) -> list[Violation]:
    """That the hospital has no such data is its configuration, and no patient's secret."""
    if uses_patients(published.plan):
        try:
            site.config.source_of(published.plan.study)
        except NoSourceError as none:
            return [Violation(none.code, none.public_message)]
    return []


def _table(site: Site) -> list[Violation]:
    if site.config.statistics is not None:
        return []
    return [Violation("site.no-table", f"{site.name} names no table for statistics in its institution.yaml")]


async def _policy(site: Site, published: Published) -> list[Violation]:
    """Where the policy that runs here is not the one in force, vote for it if the steward lets this site, and wait
    until a quorum of the sites did: after an upgrade every site comes by here before it takes part again."""
    running = running_policy_digest()
    if site.state.policy_digest == running:
        return []
    if site.config.approval == "listed" and running not in site.config.approved_policies:
        reason = (
            f"{site.name} runs policy {running}, which is neither in force nor under its approved_policies"
        )
        return [Violation("policy.not-approved", reason)]
    site.tell("adopt the policy")
    if site.name not in site.latest.policy_votes.get(running, frozenset()):
        try:
            await site.say(PolicyAdopted(policy_digest=running))
        except PolicyViolation as refused:
            if refused.code != "policy.in-force":  # the others' votes were enough meanwhile
                raise
    try:
        await site.until(
            lambda state: state.policy_digest == running or None,
            timeout_s=published.plan.participation.deadline_s,
            waiting_for="the other sites to adopt the policy",
        )
    except DeadlineError:
        reason = f"{site.name} runs policy {running}, for which too few sites have voted"
        return [Violation("policy.not-in-force", reason)]
    return []
