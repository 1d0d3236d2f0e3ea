"""What a phase's evidence says of its newest model: limits, calibration and decision curve, off the opened histogram.

Whole numbers, in millionths. All of it is post-processing of what is on the ledger; only the limits decide anything
(`policies.rollout.gate`). Drawn, the same figures are `tasks.coordinator.plots`.
"""

from __future__ import annotations

from ledger.canonical import JsonValue
from policies.facts import micro
from policies.rollout.reached import Reached
from policies.state import FederationState
from privacy.histogram import OTHER, SUBGROUPS
from privacy.resampling import Limits
from tasks.coordinator.scores import net_benefits, score_figures


def newest_figures(state: FederationState, found: Reached, confidence: float | None) -> JsonValue:
    """None while no round that counts was evaluated."""
    if found.newest is None or found.figure_micro is None:
        return None
    plan_digest, number = found.newest
    published = state.plans[plan_digest]
    limits = found.limits
    names = [name for name in SUBGROUPS[published.plan.evaluation.subgroups] if name != OTHER]
    of_groups = (None,) * len(names) if limits is None else limits.subgroups
    groups: list[JsonValue] = [
        {"subgroup": name, "figure_micro": figure, "limits_micro": _limits(one)}
        for name, figure, one in zip(names, found.subgroup_figures_micro, of_groups, strict=True)
    ]
    told: dict[str, JsonValue] = {
        "plan_digest": plan_digest,
        "round": number,
        "figure": published.plan.figure,
        "figure_micro": found.figure_micro,
        "confidence_micro": None if confidence is None else micro(confidence),
        "limits_micro": None if limits is None else _limits(limits.whole),
        "subgroups": groups,
    }
    scores = score_figures(state, published, number)
    if scores is None:
        return told
    reliability: list[JsonValue] = [
        {
            "mean_score_micro": micro(group.mean_score),
            "observed_micro": micro(group.observed),
            "weight_micro": micro(group.weight),
        }
        for group in scores.reliability
    ]
    curve: list[JsonValue] = [
        {
            "threshold_micro": micro(point.threshold),
            "model_micro": micro(point.model),
            "treat_all_micro": micro(point.treat_all),
        }
        for point in net_benefits(state, published, number)
    ]
    error = scores.calibration_error
    return {
        **told,
        "calibration_error_micro": None if error is None else micro(error),
        "reliability": reliability,
        "decision_curve": curve,
    }


def _limits(found: Limits | None) -> JsonValue:
    return None if found is None else {"low": found.low, "high": found.high}
