"""Publish a plan: its base model on the exchange, the plan itself on the ledger; then judge it.

A plan that is on the ledger already is continued, not published twice: a run is named by its plan's digest.
"""

from __future__ import annotations

from adapters import objects
from ledger import canonical
from ledger.errors import PolicyViolation, Violation
from policies.code import running_code_digest
from policies.events import GateVerdict, InquiryPublished, PlanPublished, Published
from policies.gates import plan_violations
from policies.inquiry import Inquiry
from policies.plan import Plan
from tasks.coordinator.party import Coordinator
from tasks.step import step
from tasks.worker.coordinator_session import CoordinatorSession


@step
async def publish(coordinator: Coordinator, plan: Plan) -> PlanPublished:
    """Return the plan's event, appending it if it is not there yet. Once it is final, sites may see it.

    A draft is refused before it is said: on the ledger it would end every site's part and fix a phase's terms.
    """
    coordinator.tell("publish the plan")
    digest = plan.content_digest()
    known = coordinator.state.plans.get(digest)
    if known is not None:
        return known
    if not plan.code_digests:
        said = (
            "the plan approves no code and was not published: write the code that is installed here into it, "
        )
        raise PolicyViolation([Violation("plan.no-code", f'{said}code_digests: ["{running_code_digest()}"]')])
    await coordinator.worker.call(CoordinatorSession.check_network, plan)
    base_digest = coordinator.state.latest_model(plan.study) if plan.base == "latest" else None
    if base_digest is None:
        fresh = await coordinator.worker.call(CoordinatorSession.initial_model, plan)
        objects.store(coordinator.exchange, fresh)
        base_digest = canonical.digest(fresh)
    published = PlanPublished(plan=plan, plan_digest=digest, base_model_digest=base_digest)
    await coordinator.say(published)
    return published


@step
async def publish_inquiry(coordinator: Coordinator, inquiry: Inquiry) -> InquiryPublished:
    """As `publish`, of what needs no model."""
    coordinator.tell("publish the inquiry")
    digest = inquiry.content_digest()
    known = coordinator.state.inquiries.get(digest)
    if known is not None:
        return known
    published = InquiryPublished(inquiry=inquiry, plan_digest=digest)
    await coordinator.say(published)
    return published


@step
async def judge_plan(coordinator: Coordinator, published: Published) -> None:
    """The entry gate: record its verdict; raise with every violation if the plan may not be run."""
    key = (published.plan_digest, 0)
    violations = plan_violations(coordinator.state, published.plan)
    recorded = coordinator.state.verdicts.get(key)
    if recorded is None:
        await coordinator.say(
            GateVerdict(
                plan_digest=published.plan_digest,
                round=0,
                passed=not violations,
                violations=tuple(violation.code for violation in violations),
            )
        )
    if recorded is not None and not recorded.passed and not violations:
        # What spoke against it may be mended since; this edition stays refused, and no site would come.
        refused = "this edition was refused at its entry gate; run another one"
        violations = [Violation(code, refused) for code in recorded.violations]
    if violations and (recorded is None or not recorded.passed):
        raise PolicyViolation(violations)
