"""A plan at another operating point: with other ε, clip and rounds, and the least noise that costs no more.

Both of its noises, of training and of evaluation, are the plan's own times one factor. What a point is worth lives in
`tasks.rollout.sweep`.
"""

from __future__ import annotations

from ledger.errors import InputError
from policies.cost import epsilon_micro, plan_cost
from policies.plan import Plan
from privacy.accounting import MICRO


class NoSuchPointError(InputError):
    code = "sweep.nothing"


def priced(plan: Plan, *, rounds: int, epsilon: float) -> Plan | None:
    """The plan with those rounds, that cap and the least noise that costs no more; None if no plan may have it."""
    low, high = -12.0, 16.0  # log2 of the factor
    best: Plan | None = None
    while high - low > 1e-3:
        middle = (low + high) / 2
        made = _noised(plan, rounds, 2.0**middle)
        cost = None if made is None else epsilon_micro(plan_cost(made), plan.budget.delta)
        if cost is not None and cost <= epsilon * MICRO:
            best, high = made, middle
        elif made is None and middle > 0:
            high = middle
        else:
            low = middle
    if best is None:
        return None
    return best.with_fields({"budget": {**plan.budget.to_json(), "epsilon_cap": epsilon}})


def clipped_at(plan: Plan, clip_l2: float) -> Plan | None:
    """The plan with that clip, which costs the same; None if no plan may have it."""
    try:
        return plan.with_fields({"training": {**plan.training.to_json(), "clip_l2": clip_l2}})
    except InputError:
        return None


def at_point(plan: Plan, *, rounds: int, clip_l2: float, epsilon: float) -> Plan:
    """All three at once; NoSuchPointError if no plan may have them."""
    made = priced(plan, rounds=rounds, epsilon=epsilon)
    found = None if made is None else clipped_at(made, clip_l2)
    if found is None:
        raise NoSuchPointError(
            f"no plan can have {rounds} rounds and a clip of {clip_l2:g} at ε={epsilon:g}",
            remedy="Take a point of the table that `wardround plan sweep` prints.",
        )
    return found


def _noised(plan: Plan, rounds: int, factor: float) -> Plan | None:
    value = plan.model_dump(mode="json")
    value["rounds"] = rounds
    if plan.evaluation.every == plan.rounds:
        value["evaluation"]["every"] = rounds
    value["training"]["noise_multiplier"] = float(f"{plan.training.noise_multiplier * factor:.4g}")
    value["evaluation"]["noise_std"] = float(f"{plan.evaluation.noise_std * factor:.4g}")
    value["budget"]["epsilon_cap"] = 1e6
    try:
        return plan.with_fields(value)
    except InputError:
        return None
