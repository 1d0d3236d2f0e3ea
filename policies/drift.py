"""Drift: does tonight's evaluation of a site lie far under the figure of the model in force?

A site asks this of the noised counts of its own that it is about to send, and of the ledger, and of nothing else:
noised counts are paid for, so that the answer costs its patients nothing and may be told (docs/evaluation.md). What
the site does then is `tasks.site.drift`'s; the statistics are `privacy.drift`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from policies.opening import histogram_cells
from policies.plan import Evaluation, Plan
from privacy import drift
from privacy.accounting import MICRO
from privacy.drift import Distance, Level
from privacy.histogram import SUBGROUPS

if TYPE_CHECKING:
    from policies.state import FederationState

PERFORMANCE: Final = "drift.performance"
"""The code under which a site says that its evaluation lies too far under the model in force."""
_ROUNDING: Final = 1.0 / 12.0


def level_in_force(state: FederationState, plan: Plan) -> Level | None:
    """The figure of the study's newest registered model, and how surely the ledger has it. None where the plan
    watches for no drift, or there is no such figure: nothing is compared then."""
    figure_micro = state.figure_in_force(plan)
    if plan.gates.drift is None or figure_micro is None:
        return None
    key = state.in_force[plan.study]
    before, figure = state.plans[key[0]].plan, figure_micro / MICRO
    counts = np.array(state.evaluated[key].histogram, np.int64)
    sites = len(state.closed[*key, "evaluation"].receipts)
    return drift.level(_distance(counts, before, figure, sites=sites), figure)


def has_drifted(counts: npt.NDArray[np.int64], plan: Plan, in_force: Level | None) -> bool:
    """Whether one site's noised `counts`, in the order of `policies.opening`, lie under the model in force by more
    than the plan's margin, with as many standard deviations as it asks for."""
    terms = plan.gates.drift
    if terms is None or in_force is None or in_force.figure <= terms.margin:
        return False
    distance = _distance(counts, plan, in_force.figure - terms.margin, sites=1)
    return drift.is_under(distance, figure_variance=in_force.variance, deviations=terms.deviations)


def _distance(counts: npt.NDArray[np.int64], plan: Plan, figure: float, *, sites: int) -> Distance:
    """Of the counts of everybody: subgroups are added up, and so is the noise of each and of every site."""
    rows = histogram_cells(counts, plan.evaluation).sum(axis=0)
    variance = sites * _cell_variance(plan.evaluation)
    if plan.figure == "AUC":
        return drift.from_auc(rows, figure, noise_variance=variance)
    return drift.from_mean(rows[0], figure, noise_variance=variance)


def _cell_variance(evaluation: Evaluation) -> float:
    """Of one cell of one site, its subgroups added up: each carries its own noise, rounded to whole patients."""
    return max(1, len(SUBGROUPS[evaluation.subgroups])) * (evaluation.noise_std**2 + _ROUNDING)
