"""What the rules are told: for each decision, the facts that it rests on, read from the folded state.

One function a decision of `policies/rules`, each the least that its rules need, in whole numbers, names and yes or
no: privacy in micro-units rounded up, time in seconds of the log. Curves stay here: a pool's cap and a cost are
compared at the pool's pinned order. What the rules say of the facts lives in the rules; in words, in
`policies.gates`.
"""

from __future__ import annotations

import decimal
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from ledger.canonical import JsonValue
from policies.clusters import required_sites
from policies.contract import suite_digest
from policies.cost import epsilon_micro, plan_cost
from policies.federation import Federation, Member
from policies.inquiry import AnyPlan, Inquiry, table_digest
from policies.plan import Plan
from policies.receipt import Predicate
from privacy.accounting import MICRO, Curve

if TYPE_CHECKING:
    from policies.state import FederationState

Facts = dict[str, JsonValue]

NEVER: Final = 2**53 - 1
"""A time that does not come, and a figure that nothing reaches."""
STALE_AFTER_CADENCES: Final = 2


def micro(value: float) -> int:
    """A limit or floor of a plan in millionths, exactly rounded to nearest: the same on every machine."""
    return int((Decimal(value) * MICRO).to_integral_value(decimal.ROUND_HALF_EVEN))


def micro_down(value: float) -> int:
    return int((Decimal(value) * MICRO).to_integral_value(decimal.ROUND_FLOOR))


def micro_up(value: float) -> int:
    return int((Decimal(value) * MICRO).to_integral_value(decimal.ROUND_CEILING))


def pico_up(value: float) -> int:
    """A δ in units of 1e-12, rounded up: never smaller than it is."""
    return int((Decimal(value) * 10**12).to_integral_value(decimal.ROUND_CEILING))


def unknown_sites(plan: AnyPlan, federation: Federation) -> tuple[str, ...]:
    """Of the sites that the plan requires, those that are no members."""
    known = {site.name for site in federation.sites()}
    return tuple(name for name in plan.participation.required if name not in known)


def uses_patients(plan: AnyPlan) -> bool:
    """Whether sites open anything of their patients for it, as far as a plan can say what they do."""
    return isinstance(plan, Inquiry) or plan.data.source == "register"


def plan_facts(plan: AnyPlan, *, sites: int, unknown: tuple[str, ...], phase: str) -> Facts:
    """The plan by itself, and the federation that it is meant for: how many sites it has, which of those that the
    plan requires it has not, and its phase."""
    return {
        "plan": {
            "minimum_sites": plan.participation.minimum_sites,
            "maximum_sites": plan.maximum_sites,
            "risk_tier": plan.risk_tier,
            "patients": uses_patients(plan),
            "scheme": plan.scheme,
            "robust_sites": 0 if plan.robust is None else required_sites(plan.robust.hostile),
            "epsilon_micro": epsilon_micro(plan_cost(plan), plan.budget.delta),
            "epsilon_cap_micro": micro(plan.budget.epsilon_cap),
            "code_digests": list(plan.code_digests),
        },
        # Where a plan selects, no more than so many of them ever sum.
        "federation": {"phase": phase, "sites": min(sites, plan.participation.select or sites)},
        "unknown_sites": list(unknown),
    }


def member_facts(
    state: FederationState, plan: AnyPlan, site: Member, *, cost: Curve, log_time_s: int
) -> Facts:
    """One site, from whose pool `cost` would be drawn."""
    pool = site.pool
    published = state.consent_policies.get((site.name, plan.consent.policy_version))
    until = None if published is None else published.valid_until_s
    return {
        "pool": {
            # Without a pool nothing may be drawn.
            "spent_rdp_micro": 0 if pool is None else pool.rdp_micro(state.spent_by(site.name)),
            "cap_rdp_micro": 0 if pool is None else pool.rdp_cap_micro,
        },
        "cost_rdp_micro": NEVER if pool is None else pool.rdp_micro(cost),
        "consent": {
            "published": published is not None,
            "purposes": [] if published is None else list(published.purposes),
            "valid_from_s": 0 if published is None else published.valid_from_s,
            "valid_until_s": NEVER if until is None else until,
        },
        "purpose": plan.consent.purpose,
        "log_time_s": log_time_s,
        "quarantined": site.name in state.quarantined,
    }


def reservation_facts(
    state: FederationState,
    plan: AnyPlan,
    plan_digest: str,
    site: Member,
    *,
    cost: Curve,
    log_time_s: int,
) -> Facts:
    """A site that is about to draw `cost` for one round."""
    consents = state.consent_states.get(site.name)
    cadence_s = state.founded().consent_cadence_s
    return {
        **member_facts(state, plan, site, cost=cost, log_time_s=log_time_s),
        "approved": site.name in state.approvals.get(plan_digest, frozenset()),
        "consent_state": {
            "published": consents is not None,
            "age_s": 0 if consents is None else max(0, log_time_s - consents.cadence * cadence_s),
            "limit_s": STALE_AFTER_CADENCES * cadence_s,
        },
    }


def contract_digest(plan: AnyPlan) -> str:
    """Names the checks that a site's data must have met before its report counts."""
    return table_digest(plan.table) if isinstance(plan, Inquiry) else suite_digest(plan.data)


def receipt_facts(state: FederationState, plan: AnyPlan, site: str, about: Predicate) -> Facts:
    """A report of a site about one step."""
    reserved = state.consent_reserved.get((about.plan_digest, about.round, site))
    return {
        "code": {"running": about.code_digest, "approved": list(plan.code_digests)},
        "schema": {
            "passed": about.validation.passed,
            "suite": about.validation.suite_digest,
            "expected_suite": contract_digest(plan),
        },
        "consent_root": about.consent_root,
        # Without a reservation there is no root to expect, and nothing equals it.
        "expected_consent_root": reserved or "",
        "quarantined": site in state.quarantined,
    }


def statistics_facts(state: FederationState, plan: Inquiry, plan_digest: str) -> Facts:
    """An inquiry's figures, as far as it has come."""
    reported = state.reported(plan_digest, 1)
    return {
        "reported": len(reported),
        "minimum_sites": plan.participation.minimum_sites,
        "missing_required": [name for name in plan.participation.required if name not in reported],
        "opened": plan_digest in state.statistics,
    }


def continuation_facts(state: FederationState, plan: Plan, plan_digest: str, round_number: int) -> Facts:
    """A round's sum, as far as the round has come."""
    reported = state.reported(plan_digest, round_number)
    released = state.released.get((plan_digest, round_number))
    return {
        "reported": len(reported),
        "minimum_sites": plan.participation.minimum_sites,
        "missing_required": [name for name in plan.participation.required if name not in reported],
        "opened": released is not None,
        "norm_micro": NEVER if released is None else released.norm_l2_micro,
        "norm_limit_micro": len(reported) * micro(plan.update.clip_l2),
    }


def release_facts(state: FederationState, plan: Plan, plan_digest: str, round_number: int) -> Facts:
    """A round's model, as far as the round has come."""
    evaluated = state.evaluated.get((plan_digest, round_number))
    gates = plan.gates
    return {
        **continuation_facts(state, plan, plan_digest, round_number),
        **figure_facts(
            figure_micro=None if evaluated is None else evaluated.figure_micro,
            minimum_figure=plan.minimum_figure,
            in_force_micro=state.figure_in_force(plan),
            maximum_regression=gates.maximum_regression,
            subgroups_micro=() if evaluated is None else evaluated.subgroup_figures_micro,
            maximum_subgroup_gap=gates.maximum_subgroup_gap,
        ),
    }


def figure_facts(
    *,
    figure_micro: int | None,
    minimum_figure: float,
    in_force_micro: int | None,
    maximum_regression: float | None,
    subgroups_micro: Sequence[int | None],
    maximum_subgroup_gap: float | None,
) -> Facts:
    """A model's AUC of labels, or mean Dice of masks, and the bounds on it. None is no figure, or no bound."""
    gap, regression = maximum_subgroup_gap, maximum_regression
    return {
        "evaluated": figure_micro is not None,
        "figure_micro": figure_micro or 0,
        "minimum_figure_micro": micro(minimum_figure),
        "in_force": {"known": in_force_micro is not None, "figure_micro": in_force_micro or 0},
        "maximum_regression_micro": MICRO if regression is None else micro(regression),
        "subgroups": {
            "wanted": gap is not None,
            # A subgroup without a figure is one too few.
            "figure_micro": [] if None in subgroups_micro else list(subgroups_micro),
        },
        "maximum_subgroup_gap_micro": MICRO if gap is None else micro(gap),
    }
