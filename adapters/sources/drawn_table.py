"""Rows of a table that follow from a contract alone, with something to learn in them: for sweeps, never for a model.

    numbers    normal about the middle of the plan's bounds, clipped to them
    words      one category each, all equally likely
    label      drawn from a logistic truth over the values the network sees, with a given share of the second label

The truth is drawn from the seed and as strong as LOGIT_STD says. Whatever real patients are like, nothing of it is in
here. Phantoms of a contract's shape, for dry rounds, are `stand_in`.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from policies.data_contract import FeatureTable, NumberFeature

LOGIT_STD: Final = 1.0
"""Of the truth's logit over the rows: whoever knows the truth reaches an AUC of about 0.75."""
_SPREAD: Final = 0.5


def drawn_rows(
    table: FeatureTable, *, count: int, prevalence: float, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(count, values) in [-1, 1] and (count,) 0 or 1, one row a patient, the same for the same seed."""
    random = np.random.default_rng(seed)
    columns: list[NDArray[np.float64]] = []
    for feature in table.features:
        if isinstance(feature, NumberFeature):
            columns.append(np.clip(random.normal(0.0, _SPREAD, (count, 1)), -1.0, 1.0))
        else:
            words = len(feature.categories)
            columns.append(np.eye(words)[random.integers(words, size=count)])
    rows = np.concatenate(columns, axis=1)
    logits = rows @ random.normal(size=rows.shape[1])
    logits = (logits - logits.mean()) * (LOGIT_STD / max(float(logits.std()), 1e-12))
    chances = 1.0 / (1.0 + np.exp(-(logits + _offset(logits, prevalence))))
    return rows.astype(np.float32), (random.random(count) < chances).astype(np.float32)


def _offset(logits: NDArray[np.float64], prevalence: float) -> float:
    """What added to the logits gives chances of that mean, by bisection."""
    low, high = -40.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        if float((1.0 / (1.0 + np.exp(-(logits + middle)))).mean()) < prevalence:
            low = middle
        else:
            high = middle
    return (low + high) / 2
