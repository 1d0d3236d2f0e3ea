"""Figures of scores: what is read off one summed, noised score histogram, and off exact scores alike.

Lives here: AUC, accuracy, sensitivity, specificity, Brier score, expected calibration error, the points of the ROC
curve and of the reliability diagram. The histogram, its noise and its cost are `privacy.histogram`'s: everything
here is post-processing of it and costs nothing more, and a stranger with the ledger arrives at the same figures. Of
exact scores (`of_scores`) all of it is patient data and stays at the site.

What binning costs, with b bins: accuracy, sensitivity and specificity nothing where b is even, as 1/2 is an edge
then; the Brier score and the calibration error at most 1/b and 1/(2b); the AUC at most `auc_within`, half the share
of pairs within a bin. Noise comes on top. As in `histogram.auc` each row's cumulative counts are replaced by the
nearest non-decreasing ones, so that no cell is negative. Noise would count as miscalibration: bins are joined for
the reliability diagram until they hold several times the noise on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from privacy.histogram import Histogram, check, check_scores, isotonic

THRESHOLD: Final = 0.5
RELIABILITY_GROUPS: Final = 10
"""Of exact scores, in the reliability diagram and the calibration error: equally wide, as is customary."""
_NOISES: Final = 10.0
# How many standard deviations of its own noise a group of the reliability diagram holds at least.

Row = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Operating:
    """A threshold at and over which a score says yes, and what comes of it; None where nobody counts."""

    threshold: float
    accuracy: float | None
    sensitivity: float | None
    specificity: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """A point of the reliability diagram: patients of similar scores."""

    mean_score: float
    observed: float
    """The share of them with the finding."""
    weight: float
    """Their share of all patients."""


@dataclass(frozen=True, slots=True)
class ScoreFigures:
    """All in [0, 1]; None where one label or everybody is missing."""

    auc: float | None
    auc_within: float | None
    """How far ties within positions can have moved the AUC, noise aside."""
    at_half: Operating
    best: Operating | None
    """At the threshold of best balanced accuracy *on these same scores*: it flatters, the more the fewer patients."""
    brier: float | None
    calibration_error: float | None
    """Expected calibration error: the mean distance of groups from the diagonal, by weight (Naeini et al. 2015)."""
    roc: tuple[tuple[float, float], ...]
    """(false-positive rate, true-positive rate), from (0, 0) to (1, 1)."""
    reliability: tuple[Group, ...]

    def numbers(self) -> dict[str, float]:
        """The figures that are defined, by the name under which they are shown."""
        found = {
            "auc": self.auc,
            "accuracy": self.at_half.accuracy,
            "sensitivity": self.at_half.sensitivity,
            "specificity": self.at_half.specificity,
            "brier": self.brier,
            "calibration_error": self.calibration_error,
        }
        if self.best is not None:
            found |= {
                "best_threshold": self.best.threshold,
                "best_sensitivity": self.best.sensitivity,
                "best_specificity": self.best.specificity,
            }
        return {name: value for name, value in found.items() if value is not None}


def of_histogram(histogram: Histogram, *, noise_std: float = 0.0) -> ScoreFigures:
    """Of a (2, bins) histogram: row 0 without the finding, row 1 with it. `noise_std` is the noise on each cell of
    *this* histogram, in counts: that of a sum of n sites is √n times a site's."""
    check(histogram)
    bins = histogram.shape[1]
    negatives, positives = (nonnegative(row) for row in histogram)
    positions = (np.arange(bins) + 0.5) / bins
    return _figures(positions, negatives, positives, _joined(negatives + positives, noise_std))


def of_scores(
    scores: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    *,
    groups: int = RELIABILITY_GROUPS,
) -> ScoreFigures:
    """Exact, of (n,) scores in [0, 1] and (n,) labels 0 or 1, one of each a patient. Stays at the site."""
    check_scores(scores, labels)
    positions, index = np.unique(scores.astype(np.float64), return_inverse=True)
    negatives, positives = (
        np.bincount(index[labels == label], minlength=len(positions)).astype(np.float64) for label in (0, 1)
    )
    return _figures(
        positions, negatives, positives, np.minimum((positions * groups).astype(np.int64), groups - 1)
    )


def _figures(positions: Row, negatives: Row, positives: Row, grouping: npt.NDArray[np.int64]) -> ScoreFigures:
    """Of counts at ascending positions; `grouping` is the reliability group of each position, ascending."""
    without, having = float(negatives.sum()), float(positives.sum())
    total = without + having
    brier = None
    if total > 0:
        brier = float((negatives * positions**2 + positives * (1.0 - positions) ** 2).sum()) / total
    reliability = _groups(positions, negatives, positives, grouping)
    error = sum(group.weight * abs(group.observed - group.mean_score) for group in reliability)
    # Half a patient, as `histogram.auc` asks for: under noise fewer are as good as none.
    if without < 0.5 or having < 0.5:
        return ScoreFigures(
            None, None, _at(THRESHOLD, positions, negatives, positives), None, brier,
            error if reliability else None, (), reliability,
        )  # fmt: skip
    # Read from the highest score: how many of each a threshold just under a position takes in.
    taken_false = np.concatenate(([0.0], np.cumsum(negatives[::-1]))) / without
    taken_true = np.concatenate(([0.0], np.cumsum(positives[::-1]))) / having
    area = float((np.diff(taken_false) * (taken_true[1:] + taken_true[:-1])).sum()) / 2.0
    balanced = taken_true - taken_false
    best = 1 + int(np.argmax(balanced[1:]))
    sensitivity, specificity = float(taken_true[best]), 1.0 - float(taken_false[best])
    return ScoreFigures(
        auc=min(1.0, max(0.0, area)),
        auc_within=float((negatives * positives).sum()) / (2.0 * without * having),
        at_half=_at(THRESHOLD, positions, negatives, positives),
        best=Operating(
            _edge(positions, len(positions) - best),
            (sensitivity * having + specificity * without) / (having + without),
            sensitivity,
            specificity,
        ),
        brier=brier,
        calibration_error=error,
        roc=tuple(
            (min(1.0, float(false)), min(1.0, float(true)))
            for false, true in zip(taken_false, taken_true, strict=True)
        ),
        reliability=reliability,
    )


def _at(threshold: float, positions: Row, negatives: Row, positives: Row) -> Operating:
    yes = positions >= threshold
    without, having = float(negatives.sum()), float(positives.sum())
    rejected, found = float(negatives[~yes].sum()), float(positives[yes].sum())
    return Operating(
        threshold,
        (rejected + found) / (without + having) if without + having > 0 else None,
        found / having if having > 0 else None,
        rejected / without if without > 0 else None,
    )


def _edge(positions: Row, index: int) -> float:
    """Halfway between a position and the one under it: for histograms the edge of the bin."""
    return float(positions[index] + positions[index - 1]) / 2.0 if index else 0.0


def _groups(
    positions: Row, negatives: Row, positives: Row, grouping: npt.NDArray[np.int64]
) -> tuple[Group, ...]:
    total, found = float((negatives + positives).sum()), []
    for number in np.unique(grouping):
        here = grouping == number
        counts = negatives[here] + positives[here]
        many = float(counts.sum())
        if many > 0:
            mean = float((counts * positions[here]).sum()) / many
            found.append(Group(mean, float(positives[here].sum()) / many, many / total))
    return tuple(found)


def nonnegative(row: npt.NDArray[np.int64]) -> Row:
    """The row without negative cells: steps of its nearest non-decreasing cumulative counts, cut off at zero."""
    return np.diff(np.maximum(isotonic(np.cumsum(row)), 0.0), prepend=0.0)


def _joined(counts: Row, noise_std: float) -> npt.NDArray[np.int64]:
    """Neighbouring bins under one number until they hold `_NOISES` times the noise of both rows on them; what is left
    over at the end joins the last group."""
    groups = np.zeros(len(counts), np.int64)
    number, held, width, first = 0, 0.0, 0, 0
    for index, count in enumerate(counts.tolist()):
        groups[index] = number
        held, width = held + count, width + 1
        if held >= _NOISES * noise_std * (2.0 * width) ** 0.5:
            number, held, width, first = number + 1, 0.0, 0, index + 1
    if width and number:
        groups[first:] = number - 1
    return groups
