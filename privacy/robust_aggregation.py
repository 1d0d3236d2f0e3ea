"""A mean that a minority of spoilt clusters cannot carry off, and figures that show which clusters are spoilt.

Lives here: the coordinate-wise and the geometric median of cluster means, cosine scores and the norm bound, over
opened sums. Nothing smaller than a cluster's sum is ever seen. Who is in a cluster is `policies.clusters`; what
follows from a score is for the caller.

Every site recomputes the model from the opened sums and compares digests, so every result is the same to the bit on
all machines. Medians and scores are integer arithmetic. A cluster of n_k sites with summed lanes L_k has the
mean L_k / n_k; with N the least common multiple of the sizes, the whole numbers P_k = L_k (N / n_k) lie in the
same order. Floats enter only at the end, by divisions of IEEE 754 doubles that every machine rounds alike.

Coordinate-wise median: Yin, Chen, Ramchandran, Bartlett 2018, definition 1. Where each cluster mean carries Gaussian
noise of variance v, the mean of m of them has v / m and the median up to pi/2 times that (1.35 times for 3,
1.43 for 5). Geometric median: Weiszfeld's iteration as in Pillutla, Kakade, Harchaoui 2022, section 3. In many
dimensions noise makes all clusters equally distant and so equally weighted: it costs almost nothing there.

Cosine scores. The score of a cluster is the upper median of its cosines with each other cluster. It is negative only
if the cluster points against more than half of the others. Of m >= 2r + 1 clusters the r spoilt ones are at most
half of the others of a clean cluster, so they cannot bring a clean one down alone; and the clean ones are more than
half of the others of a spoilt one, so that spoilt ones cannot hold each other up. (A cosine with the median of all
others would allow the former: for m = 3 that median is a mean of two, and one huge update turns it round.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ledger.errors import InputError
from privacy.encoding import Encoding
from privacy.packing import MAXIMUM_SITES, Lanes

MICRO: Final = 1_000_000
DEVIATIONS: Final = 6
"""How many standard deviations below zero a cosine of unrelated directions is an outlier: once in 10^9."""
_CHUNK: Final = 1 << 16
_LIMB_BITS: Final = 16
_ITERATIONS: Final = 64
_WEIGHT: Final = 1 << 40

Means = npt.NDArray[np.float64]
Gram = tuple[tuple[int, ...], ...]
_Rows = list[npt.NDArray[np.int32] | npt.NDArray[np.int64]]


class RobustInvalidError(InputError):
    """Cluster sums that do not belong together: lengths, types, sizes or numbers differ."""

    code = "privacy.robust-invalid"


def combined_mean(sums: Sequence[Lanes], sizes: Sequence[int], scale: float) -> Means:
    """The coordinate-wise median of cluster means, (d,) in the units that were encoded.

    `sums`: summed lanes of each cluster, (d,) int32 each; `sizes`: how many sites each holds, at most 50 together;
    `scale`: lanes per unit (`Encoding.scale`). Of an even number of clusters, half the sum of the middle two. Of a
    single cluster, its mean, equal to the bit to `Encoding.decode_sum` divided by the number of sites.
    """
    factors, multiple = _factors(sums, sizes, scale)
    low, high = (len(sums) - 1) // 2, len(sums) // 2
    result = np.empty(len(sums[0]), dtype=np.float64)
    for part in _chunks(len(result)):
        rows: _Rows = [lanes[part].copy() for lanes in sums]
        if set(factors) != {1}:
            rows = [row.astype(np.int64) * factor for row, factor in zip(rows, factors, strict=True)]
        _select(rows, high)
        # Below 2^50 in absolute value (see `_factors`): exact in a double.
        middle = rows[low].astype(np.float64)
        if high != low:
            middle += rows[high].astype(np.float64)
        middle /= scale
        middle /= float(multiple * (1 if high == low else 2))
        result[part] = middle
    return result


def geometric_median(sums: Sequence[Lanes], sizes: Sequence[int], scale: float) -> Means:
    """The point whose distances to the cluster means add up to the least, (d,) in the units that were encoded.

    Arguments as in `combined_mean`. The median is a weighted mean of the cluster means, and all that its
    weights depend on is inner products, which are exact here. 64 rounds of Weiszfeld's iteration on weights
    in 2^-40, in whole numbers: the same everywhere, and always the same number of steps.
    """
    factors, multiple = _factors(sums, sizes, scale)
    products = gram(sums)
    count = len(sums)
    scaled = [[products[i][j] * factors[i] * factors[j] for j in range(count)] for i in range(count)]
    weights = [_WEIGHT // count] * count
    for _ in range(_ITERATIONS):
        weights = _weiszfeld(scaled, weights)
    total = float(sum(weights))
    result = np.zeros(len(sums[0]), dtype=np.float64)
    for part in _chunks(len(result)):
        # One product and one addition at a time, in this order: nothing that a machine could fuse or reorder.
        for lanes, factor, weight in zip(sums, factors, weights, strict=True):
            term = lanes[part].astype(np.float64)
            term *= float(factor)
            term *= weight / total
            result[part] += term
        result[part] /= scale
        result[part] /= float(multiple)
    return result


def gram(sums: Sequence[Lanes]) -> Gram:
    """Inner products of every two of m cluster sums, (m, m), exact, in squared lanes.

    Lanes are split into limbs so small that every partial sum of a chunk is a whole number below 2^53: a matrix
    product of doubles is then exact, in whatever order the library adds.
    """
    _check(sums)
    count = len(sums)
    largest = max((max(-int(lanes.min()), int(lanes.max())) for lanes in sums if lanes.size), default=0)
    # One limb below 2^18: 2^36 a product, 2^52 a chunk. Otherwise two: the lower 0 to 2^16 - 1, the upper signed.
    limbs = 1 if largest < 1 << 18 else 2
    totals = [[0] * count for _ in range(count)]
    rows = np.empty((limbs * count, _CHUNK), dtype=np.float64)
    for part in _chunks(len(sums[0])):
        width = part.stop - part.start
        for number, lanes in enumerate(sums):
            if limbs == 1:
                rows[number, :width] = lanes[part]
            else:
                rows[number, :width] = lanes[part] & ((1 << _LIMB_BITS) - 1)
                rows[count + number, :width] = lanes[part] >> _LIMB_BITS
        block = rows[:, :width] @ rows[:, :width].T
        for i in range(limbs * count):
            for j in range(limbs * count):
                shift = _LIMB_BITS * (i // count + j // count)
                totals[i % count][j % count] += int(block[i, j]) << shift
    return tuple(tuple(row) for row in totals)


def cosine_micro(products: Gram, one: int, other: int) -> int:
    """Cosine of two cluster sums in millionths, towards zero; 0 if either is zero. Exact."""
    lengths = products[one][one] * products[other][other]
    if lengths == 0:
        return 0
    product = products[one][other]
    whole = math.isqrt(product * product * MICRO * MICRO // lengths)
    return whole if product >= 0 else -whole


def cosine_scores_micro(products: Gram) -> tuple[int, ...]:
    """The score of each of m >= 3 clusters from their inner products, in millionths (see the module's text)."""
    count = len(products)
    if count < 3:
        raise RobustInvalidError("it takes three clusters to say which of them stands apart")
    scores = []
    for one in range(count):
        cosines = sorted(cosine_micro(products, one, other) for other in range(count) if other != one)
        scores.append(cosines[len(cosines) // 2])
    return tuple(scores)


def outliers(scores_micro: Sequence[int], dimension: int) -> tuple[int, ...]:
    """Numbers of the clusters whose score is below -6 / sqrt(dimension).

    Directions that have nothing to do with each other have cosines of standard deviation 1 / sqrt(dimension) around
    zero, if noise is the same in all coordinates, as that of DP-SGD is. Where updates carry no such noise, the
    dimension that counts is far smaller than the number of parameters, and the bound says little: then this is a
    hint, not evidence. An honest cluster that holds unlike patients can be an outlier too.
    """
    if dimension < 1:
        raise RobustInvalidError("a model has at least one parameter")
    limit = (DEVIATIONS * MICRO) ** 2
    return tuple(
        number for number, score in enumerate(scores_micro) if score < 0 and score * score * dimension > limit
    )


def overlong(
    sums: Sequence[Lanes], sizes: Sequence[int], encoding: Encoding, *, clip_l2: float
) -> tuple[int, ...]:
    """Numbers of the clusters whose sum is longer than that many updates clipped at `clip_l2` can make it, rounding
    allowed for.

    This is proof, whatever the data: in each of these clusters somebody sent more than the plan's clip.
    """
    _factors(sums, sizes, encoding.scale)
    return tuple(
        number
        for number, (lanes, size) in enumerate(zip(sums, sizes, strict=True))
        if encoding.sum_norm_micro(lanes, sites=size) > math.ceil(size * clip_l2 * MICRO)
    )


def _weiszfeld(products: Sequence[Sequence[int]], weights: Sequence[int]) -> list[int]:
    """One step: a weight becomes the inverse of the distance from the weighted mean; all add up to about 2^40."""
    count, total = len(weights), sum(weights)
    leaning = [sum(weights[j] * products[i][j] for j in range(count)) for i in range(count)]
    own = sum(weights[i] * leaning[i] for i in range(count))
    # |total x_i - sum_j w_j x_j|, at least 1 so that a cluster at the median itself does not divide by zero.
    squares = [total * total * products[i][i] - 2 * total * leaning[i] + own for i in range(count)]
    distances = [max(1, math.isqrt(max(0, square))) for square in squares]
    nearest = min(distances)
    inverse = [max(1, _WEIGHT * nearest // distance) for distance in distances]
    return [max(1, _WEIGHT * one // sum(inverse)) for one in inverse]


def _select(rows: _Rows, last: int) -> None:
    """Order the rows coordinate by coordinate, in place, up to number `last`; what comes after is left anyhow."""
    for place in range(last + 1):
        for other in range(place + 1, len(rows)):
            smaller = np.minimum(rows[place], rows[other])
            np.maximum(rows[place], rows[other], out=rows[other])
            rows[place] = smaller


def _chunks(length: int) -> Iterator[slice]:
    for start in range(0, length, _CHUNK):
        yield slice(start, min(length, start + _CHUNK))


def _check(sums: Sequence[Lanes]) -> None:
    if not sums or any(
        lanes.ndim != 1 or lanes.dtype != np.int32 or len(lanes) != len(sums[0]) for lanes in sums
    ):
        raise RobustInvalidError("cluster sums are rows of 32-bit integers, all of one length")


def _factors(sums: Sequence[Lanes], sizes: Sequence[int], scale: float) -> tuple[list[int], int]:
    """N / n_k of each cluster, and N. Of at most 50 sites N is at most 180,180 (Landau's function), so that every
    P_k stays below 2^49."""
    _check(sums)
    if len(sizes) != len(sums) or min(sizes) < 1 or sum(sizes) > MAXIMUM_SITES:
        raise RobustInvalidError(f"each cluster has a site or more, and all together at most {MAXIMUM_SITES}")
    if not (math.isfinite(scale) and scale > 0):
        raise RobustInvalidError("a scale is a positive number")
    multiple = math.lcm(*sizes)
    return [multiple // size for size in sizes], multiple
