"""The gates: what a plan must meet before anything is trained, and a model before it is registered.

Pure functions of the folded state, so that every witness recomputes them. They collect every violation.
Messages are written for a data steward and name sites, caps and figures that are on the ledger, nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.errors import Violation
from policies.cost import epsilon_micro, plan_cost
from policies.plan import Plan

if TYPE_CHECKING:
    from policies.state import FederationState

MICRO = 1_000_000


def epsilon_text(micro: int) -> str:
    """Epsilon for people, rounded up to two digits: a budget never looks smaller than it is."""
    return f"{-(-micro // 10_000) / 100:.2f}"


def plan_violations(state: FederationState, plan: Plan, *, site: str | None = None) -> list[Violation]:
    """Round 0: may this plan be trained at all? With `site`, only that site's pool is asked."""
    federation = state.federation
    if federation is None:
        return [Violation("federation.not-founded", "the federation is not founded")]
    found: list[Violation] = []
    if not plan.code_digests:
        found.append(Violation("plan.no-code", "the plan approves no code"))
    sites = federation.sites()
    if len(sites) < plan.participation.minimum_sites:
        found.append(
            Violation(
                "plan.too-few-members",
                f"the plan needs {plan.participation.minimum_sites} sites, the federation has {len(sites)}",
            )
        )
    if len(sites) > plan.update.maximum_sites:
        found.append(
            Violation(
                "plan.too-many-members",
                f"the plan's encoding holds {plan.update.maximum_sites} sites at most",
            )
        )
    known = {site.name for site in sites}
    found.extend(
        Violation("plan.unknown-site", f"the plan requires {name}, which is not a member")
        for name in plan.participation.required
        if name not in known
    )
    cost = plan_cost(plan)
    own = epsilon_micro(cost, plan.budget.delta)
    cap = int(plan.budget.epsilon_cap * MICRO)
    if own > cap:
        found.append(
            Violation(
                "budget.plan-cap",
                f"the plan costs ε={epsilon_text(own)} at δ={plan.budget.delta:g}, over its own cap of "
                f"{plan.budget.epsilon_cap:g}",
            )
        )
    for member in sites:
        if member.pool is None or site not in (None, member.name):
            continue
        before = epsilon_micro(state.spent_by(member.name), member.pool.delta)
        after = epsilon_micro(state.spent_by(member.name) + cost, member.pool.delta)
        if after > member.pool.epsilon_cap_micro:
            found.append(
                Violation(
                    "budget.pool-cap",
                    f"{member.name} has spent ε={epsilon_text(before)} of its cap "
                    f"{member.pool.epsilon_cap_micro / MICRO:g} at δ={member.pool.delta:g}; "
                    f"with this plan it would be {epsilon_text(after)}",
                )
            )
    return found


def release_violations(state: FederationState, plan_digest: str, round_number: int) -> list[Violation]:
    """May the model of this round be registered? Decided in order: a later rule needs the earlier ones."""
    plan = state.plans[plan_digest].plan
    closed = state.closed.get((plan_digest, round_number, "training"))
    receipts = state.usable_receipts(plan_digest, round_number, "training")
    reported = {
        receipt.site for receipt in receipts if closed is None or receipt.entry_digest in closed.receipts
    }
    found = []
    if len(reported) < plan.participation.minimum_sites:
        found.append(
            Violation(
                "participation.too-few",
                f"{len(reported)} sites reported in round {round_number}, "
                f"the plan needs {plan.participation.minimum_sites}"
                f"{_absent(state, plan_digest, round_number, reported)}",
            )
        )
    found.extend(
        Violation("participation.required-missing", f"{name}, which the plan requires, did not report")
        for name in plan.participation.required
        if name not in reported
    )
    if found:
        return found
    if (plan_digest, round_number) not in state.released:
        return [Violation("aggregate.missing", f"the sum of round {round_number} was not opened")]
    evaluated = state.evaluated.get((plan_digest, round_number))
    if evaluated is None or evaluated.auc_micro is None:
        return [Violation("evaluation.missing", f"round {round_number} has no federated evaluation")]
    if evaluated.auc_micro < round(plan.gates.minimum_auc * MICRO):
        return [
            Violation(
                "evaluation.below-floor",
                f"the federated AUC of round {round_number} is {evaluated.auc_micro / MICRO:.3f}, "
                f"under the plan's floor of {plan.gates.minimum_auc:g}",
            )
        ]
    return []


def _absent(state: FederationState, plan_digest: str, round_number: int, reported: set[str]) -> str:
    """ ": <site> (<code>), ..." for every site that did not report, as far as the ledger knows why."""
    federation = state.federation
    gone = (
        [] if federation is None else [site.name for site in federation.sites() if site.name not in reported]
    )
    whole = {site: state.refusals.get((plan_digest, 0, "training", site)) for site in gone}
    codes = {site: state.refusals.get((plan_digest, round_number, "training", site)) for site in gone}
    named = [f"{site} ({codes[site] or whole[site] or 'site.silent'})" for site in gone]
    return f"; missing: {', '.join(named)}" if named else ""
