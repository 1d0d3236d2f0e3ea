"""The decision curve of a score histogram: what acting on a model is worth, against treating everybody or nobody.

Net benefit at a threshold t (Vickers and Elkin 2006): (true positives − false positives · t / (1 − t)) / patients, in
true positives a patient. Whoever treats at a risk of t holds a missed finding to be (1 − t) / t times as bad as a
needless treatment. Treating nobody is worth 0.

Read off the opened, noised histogram like every other figure (`privacy.scores`): post-processing, at no cost.
Thresholds are edges of bins, where binning loses nothing; noise stays, and it is a curve of figures without limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from privacy.histogram import Histogram, check
from privacy.scores import nonnegative

MAXIMUM_THRESHOLDS: Final = 32


@dataclass(frozen=True, slots=True)
class NetBenefit:
    threshold: float
    model: float
    treat_all: float


def decision_curve(histogram: Histogram) -> tuple[NetBenefit, ...]:
    """At every inner edge of the (2, bins) histogram, of many bins at fewer; empty where one label is missing."""
    check(histogram)
    bins = histogram.shape[1]
    negatives, positives = (nonnegative(row) for row in histogram)
    without, having = float(negatives.sum()), float(positives.sum())
    if without < 0.5 or having < 0.5:
        return ()
    patients, found = without + having, []
    for edge in range(1, bins, max(1, -(-bins // MAXIMUM_THRESHOLDS))):
        threshold = edge / bins
        price = threshold / (1.0 - threshold)
        true, false = float(positives[edge:].sum()), float(negatives[edge:].sum())
        found.append(
            NetBenefit(threshold, (true - false * price) / patients, (having - without * price) / patients)
        )
    return tuple(found)
