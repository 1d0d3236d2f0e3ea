"""A hospital's own policy: limits that it sets for its patients, whatever plan comes. A plan can only be stricter.

Written in the hospital's own configuration and read nowhere else; the rules that hold a plan against it are
`policies/rules/site.rego` and `cohort.rego`, asked at the hospital alone (decisions `site` and `cohort`). A cohort's
size is among their facts and never leaves. What the ledger enforces for everybody lives in the pool of the federation
document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from ledger.errors import Violation
from policies.code import running_code_digest
from policies.cost import comparison_mechanism, epsilon_micro, evaluation_mechanism, plan_cost
from policies.document import Digest, Document, PositiveFloat
from policies.facts import Facts, micro, micro_down, micro_up, pico_up
from policies.federation import Pool
from policies.gates import epsilon_text
from policies.inquiry import AnyPlan, Inquiry
from policies.maintenance import Window
from policies.plan import Plan
from policies.rego import installed_rules

Family = Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]{0,62}$")]
"""Model families: the names that a plan can give its network (`policies.plan.Network`)."""


class SitePolicy(Document):
    epsilon_cap: PositiveFloat
    """For the whole register, over every federation that draws on it (`adapters.pool_journal`), at `delta`."""
    delta: Annotated[float, Field(gt=0, le=1e-3)]
    plan_epsilon_cap: PositiveFloat
    """The most that one plan may cost, at the plan's own δ."""
    noise_multiplier_floor: PositiveFloat = 0.5
    clip_l2_ceiling: PositiveFloat = 10.0
    comparison_epsilon_ceiling: PositiveFloat = 3.0
    """Of the answer whether this hospital is better off (`policies.plan.Comparison`), which has no noise but this."""
    drift_margin_floor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The least by which it must lie under the model in force before it says so (`policies.plan.Drift`)."""
    minimum_patients: Annotated[int, Field(ge=1, le=2**40)] = 20
    """The smallest cohort that is ever trained on."""
    model_families: Annotated[tuple[Family, ...], Field(min_length=1)] = ("Classifier",)
    delta_fixed_by_benchmark: bool = False
    """δ may exceed 1/(10 · patients), because a published benchmark fixes it."""
    maintenance: tuple[Window, ...] = ()
    """Hours in which this hospital starts no training (`tasks.site.maintenance`)."""

    @property
    def pool(self) -> Pool:
        """The register as one pool, for the hospital's own account."""
        return Pool.of(epsilon_cap_micro=micro(self.epsilon_cap), delta=self.delta)


def site_violations(
    plan: AnyPlan,
    policy: SitePolicy,
    *,
    site: str,
    approved_by_steward: bool,
    approved_bundles: Mapping[Digest, Digest] | None = None,
) -> list[Violation]:
    """What the hospital's own policy has against a plan, before any data is opened.

    `approved_bundles`: a bundle's digest → `Network.class_digest` of the network that the steward saw in it.
    """
    asked: Facts = {
        # The least noise that anything of the plan has; towards the side that refuses.
        "noise_multiplier_micro": micro_down(_least_noise(plan)),
        "epsilon_micro": epsilon_micro(plan_cost(plan), plan.budget.delta),
        "code_digests": list(plan.code_digests),
    }
    limits: Facts = {
        "noise_multiplier_floor_micro": micro_up(policy.noise_multiplier_floor),
        "epsilon_cap_micro": micro(policy.plan_epsilon_cap),
    }
    decision = "site_statistics"
    if isinstance(plan, Plan):
        decision = "site"
        asked |= {
            "clip_l2_micro": micro_up(plan.training.clip_l2),
            "comparison_epsilon_micro": micro_up(_comparison_epsilon(plan)),
            "drift_margin_micro": micro(_drift_margin(plan)),
            "family": plan.network.name,
            "bundle": plan.network.bundle or "none",
            "network": plan.network.class_digest,
        }
        limits |= {
            "clip_l2_ceiling_micro": micro_down(policy.clip_l2_ceiling),
            "comparison_epsilon_ceiling_micro": micro_down(policy.comparison_epsilon_ceiling),
            "drift_margin_floor_micro": micro(policy.drift_margin_floor),
            "families": list(policy.model_families),
        }
    facts: Facts = {
        "plan": asked,
        "policy": limits,
        "running_code": running_code_digest(),
        "approved_by_steward": approved_by_steward,
    }
    if isinstance(plan, Plan):
        facts["approved_bundles"] = dict(approved_bundles or {})
    return [
        Violation(code, _message(code, plan, policy, site))
        for code in installed_rules().decide(decision, facts)
    ]


def _least_noise(plan: AnyPlan) -> float:
    if isinstance(plan, Inquiry):
        return plan.noise_multiplier
    return min(plan.training.noise_multiplier, evaluation_mechanism(plan).noise_multiplier)


def _comparison_epsilon(plan: AnyPlan) -> float:
    """0 where nobody is asked."""
    asked = comparison_mechanism(plan) if isinstance(plan, Plan) else None
    return 0.0 if asked is None else asked.epsilon


def _drift_margin(plan: AnyPlan) -> float:
    """1, which no site can lie under another, where nobody watches."""
    watched = plan.gates.drift if isinstance(plan, Plan) else None
    return 1.0 if watched is None else watched.margin


def cohort_violations(
    plan: AnyPlan,
    policy: SitePolicy,
    *,
    site: str,
    pool_delta: float,
    register_patients: int,
    cohort_patients: int,
) -> list[Violation]:
    """What it has against the cohort, before anything is reserved. The figures are not repeated in the messages."""
    facts: Facts = {
        "register_patients": register_patients,
        "cohort_patients": cohort_patients,
        "minimum_patients": plan.minimum_patients,
        "policy_minimum_patients": policy.minimum_patients,
        "delta_pico": pico_up(max(plan.budget.delta, policy.delta, pool_delta)),
        "delta_fixed_by_benchmark": policy.delta_fixed_by_benchmark,
    }
    return [
        Violation(code, _message(code, plan, policy, site))
        for code in installed_rules().decide("cohort_size", facts)
    ]


def cohort_details(
    plan: AnyPlan, policy: SitePolicy, *, pool_delta: float, register_patients: int, cohort_patients: int
) -> dict[str, str]:
    """Code → the figures of the hospital and what it can do, for its own log. They never leave."""
    delta = max(plan.budget.delta, policy.delta, pool_delta)
    return {
        "site.delta": f"The register has {register_patients} patients, for which δ may be at most 1/(10 · patients) "
        f"= {1 / (10 * max(1, register_patients)):.2g}, and it is {delta:g}, the largest of the plan's "
        f"({plan.budget.delta:g}), that of policy.delta in institution.yaml ({policy.delta:g}) and the pool's "
        f"({pool_delta:g}). Take part in plans with a smaller δ, or, where a published benchmark fixes it, write "
        "delta_fixed_by_benchmark: true under policy in institution.yaml.",
        "site.cohort": f"{cohort_patients} patients of the register consent. The plan asks for "
        f"{plan.minimum_patients}, policy.minimum_patients in institution.yaml for {policy.minimum_patients}, and "
        "either for one at least. Take in more consents (`wardround consent`), or take part in plans that ask for "
        "fewer.",
    }


def _message(code: str, plan: AnyPlan, policy: SitePolicy, site: str) -> str:
    noise = _least_noise(plan)
    clip_l2, family = (plan.training.clip_l2, plan.network.name) if isinstance(plan, Plan) else (0.0, "none")
    cost = epsilon_text(epsilon_micro(plan_cost(plan), plan.budget.delta))
    return {
        "site.noise-floor": f"the plan's noise multiplier {noise:g} is under the floor of "
        f"{policy.noise_multiplier_floor:g} that {site} sets",
        "site.clip-ceiling": f"the plan's clip {clip_l2:g} is over the ceiling of "
        f"{policy.clip_l2_ceiling:g} that {site} sets",
        "site.comparison": f"whether {site} is better off would be told at ε={_comparison_epsilon(plan):g}, over "
        f"the {policy.comparison_epsilon_ceiling:g} that {site} allows",
        "site.drift-margin": f"the plan would have {site} say that it lies {_drift_margin(plan):g} under the "
        f"model in force, less than the margin of {policy.drift_margin_floor:g} that it sets",
        "site.plan-cap": f"the plan costs ε={cost}, over the {policy.plan_epsilon_cap:g} that {site} allows "
        "one plan",
        "site.model-family": f"{site} has not approved the model family {family}",
        "site.delta": f"δ is not small enough for the number of patients of {site}",
        "site.cohort": f"{site} has fewer consenting patients than the plan or its own policy requires",
        "plan.code": f"the code that runs at {site} is not approved by the plan",
        "plan.bundle": f"the bundle that the plan names, with the network that the plan gives it, is not among the "
        f"approved_bundles of {site}",
        "plan.not-approved": f"the steward of {site} has not approved the plan",
    }.get(code, f"the rule {code} of {site} refuses the plan")
