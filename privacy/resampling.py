"""How sure a figure of a noised score histogram is: a bootstrap of the opened sum, the same bits on every machine.

What is resampled is the pooled histogram: as many patients as it counts are drawn with replacement over its cells,
and noise as it was declared is added to each cell once more, so that an interval covers both whom the hospitals
happened to hold out and the noise. A patient is one count of one cell, so that drawing cells *is* the bootstrap of
patients (Efron and Tibshirani 1993, section 6.2), pooled over hospitals; resampling inside each and pooling by the
sum would vary no more. Noise drawn again is the parametric bootstrap of a private release (Ferrando, Wang and Sheldon
2022). All of it is post-processing of what is public and costs nothing.

Limits are percentiles (Efron and Tibshirani 1993, chapter 13). Noise pulls an AUC towards 1/2, and a replicate's once
more: the lower limit, on which gates rest, lies lower than it need, and the upper one is passed more often than it
says (1,200 patients of 5 hospitals, an AUC of .925, noise of 3 a cell and hospital: never, and 6 % instead of 2.5).
A replicate without a figure counts as 0 below and as 1 above.

Every witness must find the same: whole numbers alone, out of numpy's Philox counter (whose stream numpy keeps) under
a key that follows from the counts. It protects nobody (`privacy.noise` does): the key is public. No clock, no state.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import isqrt
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from ledger.errors import InputError
from privacy.histogram import MAXIMUM_BINS

MICRO: Final = 1_000_000
REPLICATES: Final = 1000
MAXIMUM_DRAWN: Final = 8192
"""Patients that a replicate draws at most. Of more so many are drawn, and limits come out wider than they need."""
_FINE: Final = 16
_ONE: Final = 1 << _FINE
# Counts and noise are whole numbers of 2^-16.
_WIDEST: Final = 1 << 40
# A spread at which no figure is left, and products still fit 64 bits.
_CHUNK_WORDS: Final = 1 << 18

Figure = Literal["AUC", "Dice"]
Cells = tuple[tuple[int, ...], tuple[int, ...]]
"""Two rows of noised counts, as `privacy.histogram` has them."""


class ResamplingError(InputError):
    code = "privacy.resampling-invalid"


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a confidence interval, in micro-units."""

    low: int
    high: int


def limits(cells: Cells, figure: Figure, *, noise_variance: Fraction, confidence_micro: int) -> Limits | None:
    """Two-sided, equal-tailed limits of the AUC, or of the mean Dice of the first row.

    `noise_variance` is that of each cell of these counts, in counts²: of a sum of n sites n times a site's. A
    confidence of 0.95 leaves 2.5 % under the lower limit. None where nobody is left to be drawn. Raises
    ResamplingError.
    """
    if not 500_000 <= confidence_micro < MICRO:
        raise ResamplingError("a confidence lies between 0.5 and 1")
    found = replicates(cells, figure, noise_variance)
    if found is None:
        return None
    # Of 1,000 the 25th smallest and the 25th largest at 0.95, never one nearer to the middle.
    outside = max(1, REPLICATES * (MICRO - confidence_micro) // (2 * MICRO))
    least = sorted(0 if one is None else one for one in found)
    most = sorted(MICRO if one is None else one for one in found)
    return Limits(least[outside - 1], most[-outside])


@lru_cache(maxsize=64)
def replicates(cells: Cells, figure: Figure, noise_variance: Fraction) -> tuple[int | None, ...] | None:
    """The figure of each of `REPLICATES` resampled histograms, in micro-units; None of one that has none, and
    instead of all where the counts hold nobody."""
    rows = cells if figure == "AUC" else cells[:1]
    bins = len(cells[0])
    if not 1 <= bins <= MAXIMUM_BINS or len(cells[1]) != bins or noise_variance < 0:
        raise ResamplingError("counts are two rows of as many bins, and a variance is not negative")
    # 1. What is drawn from: the counts without what noise alone made of them.
    weights = [step for row in rows for step in _steps(row)]
    total = sum(weights)
    patients = (total + _ONE // 2) >> _FINE
    if patients < 1:
        return None
    drawn = min(patients, MAXIMUM_DRAWN)
    # Of fewer patients the noise is less by as much.
    spread = min(isqrt(int(noise_variance * (drawn << _FINE) ** 2 / patients**2)), _WIDEST)
    # 2. Patients, and noise on each cell.
    bits = np.random.Philox(key=_key(cells, figure, noise_variance))
    sampled = _sampled(bits, weights, drawn)
    sampled += _noise(bits, len(weights), spread)
    # 3. The figure of each.
    read = _auc if figure == "AUC" else _mean
    return tuple(read(one) for one in sampled.reshape(REPLICATES, len(rows), bins).tolist())


def _sampled(bits: np.random.Philox, weights: list[int], drawn: int) -> npt.NDArray[np.int64]:
    """(REPLICATES, cells) counts of `drawn` patients, each in a cell with the probability of its weight."""
    cells, total, below = len(weights), sum(weights), 0
    edges = np.zeros(cells, np.uint64)
    for number, weight in enumerate(weights):
        below += weight
        edges[number] = (below << 53) // total
    # The last cell that holds anybody takes in all that is left.
    found = np.zeros((REPLICATES, cells), np.int64)
    many = max(1, _CHUNK_WORDS // drawn)
    for first in range(0, REPLICATES, many):
        rows = min(many, REPLICATES - first)
        places = np.searchsorted(edges, _words(bits, rows * drawn) >> np.uint64(11), side="right")
        places += np.repeat(np.arange(rows) * cells, drawn)
        found[first : first + rows] = np.bincount(places, minlength=rows * cells).reshape(rows, cells)
    return found


def _noise(bits: np.random.Philox, cells: int, spread: int) -> npt.NDArray[np.int64]:
    """(REPLICATES, cells) whole counts, nearly normal, of standard deviation `spread` / 2^16: sums of twelve uniform
    numbers, whose variance is 1 and whose tails end at six standard deviations."""
    words = _words(bits, 3 * REPLICATES * cells).reshape(REPLICATES, cells, 3)
    twelve = np.zeros((REPLICATES, cells), np.int64)
    for shift in (0, 16, 32, 48):
        twelve += ((words >> np.uint64(shift)) & np.uint64(_ONE - 1)).sum(axis=2).astype(np.int64)
    twelve -= 6 * (_ONE - 1)
    return (twelve * spread + (1 << (2 * _FINE - 1))) >> (2 * _FINE)


def _words(bits: np.random.Philox, count: int) -> npt.NDArray[np.uint64]:
    return np.asarray(bits.random_raw(count), np.uint64)


def _auc(rows: list[list[int]]) -> int | None:
    """As `privacy.histogram.auc`, rounded down."""
    negatives, positives = (_cumulative(row) for row in rows)
    without, having = negatives[-1], positives[-1]
    if 2 * without < _ONE or 2 * having < _ONE:
        return None
    area, false, true = 0, 0, 0
    for next_false, next_true in zip(negatives, positives, strict=True):
        area += (next_false - false) * (2 * having - next_true - true)
        false, true = next_false, next_true
    return MICRO * area // (2 * without * having)


def _mean(rows: list[list[int]]) -> int | None:
    """As `privacy.histogram.mean`, rounded down."""
    steps = _steps(rows[0])
    total = sum(steps)
    if 2 * total < _ONE:
        return None
    return MICRO * sum((2 * place + 1) * step for place, step in enumerate(steps)) // (2 * len(steps) * total)


def _steps(row: list[int] | tuple[int, ...]) -> list[int]:
    """Counts without negative cells, in units of 2^-16."""
    cumulative = _cumulative(row)
    return [here - before for here, before in zip(cumulative, [0, *cumulative], strict=False)]


def _cumulative(row: list[int] | tuple[int, ...]) -> list[int]:
    """The nearest non-decreasing sequence to the cumulative counts (`privacy.histogram.isotonic`), cut off at zero,
    in units of 2^-16 and rounded down."""
    sums: list[int] = []
    sizes: list[int] = []
    below = 0
    for count in row:
        below += count
        total, size = below, 1
        while sums and sums[-1] * size > total * sizes[-1]:
            total += sums.pop()
            size += sizes.pop()
        sums.append(total)
        sizes.append(size)
    found: list[int] = []
    for total, size in zip(sums, sizes, strict=True):
        found += [max(0, (total << _FINE) // size)] * size
    return found


def _key(cells: Cells, figure: Figure, noise_variance: Fraction) -> int:
    """128 bits out of all that is asked."""
    asked = f"wardround bootstrap 1|{figure}|{noise_variance}|{cells}"
    return int.from_bytes(hashlib.sha256(asked.encode()).digest()[:16], "little")
