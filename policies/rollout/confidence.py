"""How sure the figures of an evaluated round are, off the histogram that is on the ledger: every witness finds the
same. The resampling itself is `privacy.resampling`; what is asked of the limits, `policies.rollout.gate`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from policies.facts import micro
from policies.opening import histogram_cells
from privacy.histogram import OTHER, SUBGROUPS
from privacy.resampling import Cells, Limits, limits

if TYPE_CHECKING:
    from policies.state import FederationState


@dataclass(frozen=True, slots=True)
class FigureLimits:
    whole: Limits | None
    subgroups: tuple[Limits | None, ...]
    """Of the plan's named subgroups, in the order of their recorded figures."""


def figure_limits(
    state: FederationState, plan_digest: str, round_number: int, confidence: float
) -> FigureLimits | None:
    """Two-sided limits of a round's AUC, or mean Dice; None where it was not evaluated."""
    key = (plan_digest, round_number)
    evaluated, plan = state.evaluated.get(key), state.plans[plan_digest].plan
    if evaluated is None:
        return None
    terms, sites = plan.evaluation, len(state.closed[*key, "evaluation"].receipts)
    groups = histogram_cells(evaluated.histogram, terms)
    # Each site's noise is on each cell of each subgroup's histogram.
    variance = Fraction(terms.noise_std) ** 2 * sites
    sure = micro(confidence)
    named = [cells for name, cells in zip(SUBGROUPS[terms.subgroups], groups, strict=False) if name != OTHER]
    return FigureLimits(
        limits(
            _cells(groups.sum(axis=0)),
            plan.figure,
            noise_variance=variance * len(groups),
            confidence_micro=sure,
        ),
        tuple(
            limits(_cells(cells), plan.figure, noise_variance=variance, confidence_micro=sure)
            for cells in named
        ),
    )


def _cells(rows: npt.NDArray[np.int64]) -> Cells:
    first, second = rows.tolist()
    return tuple(first), tuple(second)
