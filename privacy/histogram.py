"""AUC from score histograms that carry noise: what federated evaluation sums and what is read off the sum.

Lives here: the histogram of one site's held-out patients, its noise, and the AUC or the mean of a summed histogram.
The sum itself is protected like any other; the budget is charged as `policies.cost` says.

A histogram is (2, bins) int64: row 0 the patients without the finding, row 1 those with it, bins equally wide
over scores in [0, 1], the last closed at 1. One patient, one score, one count: adding or removing a patient
changes one cell by one, an L2 sensitivity of 1. Scores of several images of a patient are averaged before. Of masks,
row 0 counts patients' Dice and row 1 their Hausdorff distances: every patient is in both, a sensitivity of √2.

Everything after the noise is post-processing and costs nothing (Dwork and Roth 2014, proposition 2.1).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from ledger.errors import InputError
from privacy.noise import NoiseStream

MAXIMUM_BINS: Final = 256
OTHER: Final = "other"
SUBGROUPS: Final[dict[str, tuple[str, ...]]] = {
    "none": (),
    "sex": ("female", "male", OTHER),
    "age": ("under-60", "60-and-over", OTHER),
    "race": ("white", "black", OTHER),
}
"""By what patients are told apart, and into which groups. Every patient is in one: whom a record does not place is in
`OTHER`. One histogram a group is one histogram of more cells, of the same sensitivity. Few groups, because
everybody's figure carries the noise of all of them; of a group of few patients nothing would be left but noise.
"""
Kind = Literal["sex", "age", "race"]
KINDS: Final[tuple[Kind, ...]] = ("sex", "age", "race")
"""By what a record may tell patients apart, in the order of a cohort's columns."""

Histogram = npt.NDArray[np.int64]


class HistogramInvalidError(InputError):
    code = "privacy.histogram-invalid"


def score_histogram(
    scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], bins: int
) -> Histogram:
    """(n,) scores in [0, 1] and (n,) labels 0 or 1, one of each a patient, to (2, bins) exact counts.

    The result is patient data: it leaves a site only after `noised`.
    """
    if not 1 <= bins <= MAXIMUM_BINS:
        raise HistogramInvalidError(f"a histogram has 1 to {MAXIMUM_BINS} bins")
    check_scores(scores, labels)
    cell = np.minimum((scores.astype(np.float64) * bins).astype(np.int64), bins - 1)
    counts = np.bincount(labels.astype(np.int64) * bins + cell, minlength=2 * bins)
    return counts.reshape(2, bins).astype(np.int64)


def noised(histogram: Histogram, noise_std: float, stream: NoiseStream) -> Histogram:
    """Add Gaussian noise of `noise_std` counts to each cell and round; counts may come out negative."""
    check(histogram)
    noise = stream.gaussian(histogram.size, noise_std).reshape(histogram.shape)
    if float(np.abs(noise).max()) > 2.0**52:
        raise HistogramInvalidError("the noise drowns every count")
    return histogram + np.rint(noise).astype(np.int64)


def auc(histogram: Histogram) -> float | None:
    """The area under the ROC curve of a summed histogram, ties within a bin counted half; in [0, 1].

    Noisy cells may be negative. Setting them to zero would pull the AUC towards 1/2 (by 0.05 with 32 bins,
    500 patients and a noise of 5), so each row's *cumulative* counts are replaced by the nearest
    non-decreasing ones (isotonic regression; Barlow, Bartholomew, Bremner, Brunk 1972), cut off at zero: less
    than 0.01 there. None when a row has no patients left, because no AUC exists then.
    """
    check(histogram)
    negatives, positives = (np.maximum(isotonic(np.cumsum(row)), 0.0) for row in histogram)
    if negatives[-1] < 0.5 or positives[-1] < 0.5:
        return None
    # Trapezoids between the points (false positives, true positives) of the curve, read from the highest bin.
    false_positive = np.concatenate(([0.0], negatives)) / negatives[-1]
    true_positive = np.concatenate(([0.0], positives)) / positives[-1]
    widths = np.diff(false_positive)
    heights = 1.0 - (true_positive[1:] + true_positive[:-1]) / 2.0
    return min(1.0, max(0.0, float((widths * heights).sum())))


def mean(row: npt.NDArray[np.int64]) -> Fraction | None:
    """The mean of what one row of a summed histogram counts, each bin by its middle, so within half a bin of the true
    mean, noise aside; exact arithmetic, so that all parties agree to the last digit.

    Negative cells as in `auc`. None when nobody is left.
    """
    check(np.stack([row, row]))
    bins, below, total = len(row), Fraction(0), Fraction(0)
    for number, count in enumerate(_pooled(np.cumsum(row).tolist())):
        count = max(count, Fraction(0))
        below += (count - total) * Fraction(2 * number + 1, 2 * bins)
        total = count
    return None if total < Fraction(1, 2) else below / total


def check_scores(scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> None:
    """Refuse all but (n,) scores in [0, 1] and as many labels 0 or 1."""
    if scores.ndim != 1 or scores.shape != labels.shape:
        raise HistogramInvalidError("scores and labels are two rows of one length")
    if not bool(((scores >= 0) & (scores <= 1)).all()) or not bool(((labels == 0) | (labels == 1)).all()):
        raise HistogramInvalidError("a score lies in [0, 1] and a label is 0 or 1")


def check(histogram: Histogram) -> None:
    if histogram.ndim != 2 or histogram.shape[0] != 2 or histogram.dtype != np.int64:
        raise HistogramInvalidError("a histogram is two rows of 64-bit counts")
    if not 1 <= histogram.shape[1] <= MAXIMUM_BINS:
        raise HistogramInvalidError(f"a histogram has 1 to {MAXIMUM_BINS} bins")


def isotonic(values: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The least-squares non-decreasing sequence, by pooling adjacent violators."""
    means: list[float] = []
    sizes: list[int] = []
    for value in values.tolist():
        level, size = float(value), 1
        while means and means[-1] > level:
            below, many = means.pop(), sizes.pop()
            level, size = (level * size + below * many) / (size + many), size + many
        means.append(level)
        sizes.append(size)
    return np.repeat(np.array(means, dtype=np.float64), sizes)


def _pooled(values: list[int]) -> list[Fraction]:
    """`isotonic` in exact arithmetic."""
    pools: list[tuple[int, int]] = []  # (sum, how many)
    for value in values:
        total, size = value, 1
        while pools and pools[-1][0] * size > total * pools[-1][1]:
            below, many = pools.pop()
            total, size = total + below, size + many
        pools.append((total, size))
    return [Fraction(total, size) for total, size in pools for _ in range(size)]
