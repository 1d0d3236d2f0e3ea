"""What a joint statistic says: figures read off the opened sum of all sites' noised lanes.

Lives here: estimates and their confidence half-widths. All of it is post-processing and costs nothing (Dwork and Roth
2014, proposition 2.1). Queries are `privacy.statistics`, noise is `privacy.statistics_noise`.

A half-width is that of the 95 % interval that the noise alone makes around the figure without noise. The noise of n
sites on a lane has at most the variance n sigma^2 and is close to a Gaussian; a quotient's error is taken to first
order (the delta method). It knows nothing of which patients the sites happen to have, nor of rounding, which is at
most half a resolution for a mean, and half a resolution a patient for a sum.

A quotient by a count that noise may have made is no figure: where the noisy count is less than twice its own
half-width, there is None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from privacy.histogram import auc
from privacy.packing import Lanes
from privacy.statistics import (
    AreaUnderCurve,
    Count,
    Histogram,
    Mean,
    Query,
    QueryInvalidError,
    Sum,
    Variance,
    check_queries,
    lane_count,
)
from privacy.statistics_noise import sigma

NORMAL_975: Final = 1.959963984540054
"""The 0.975 quantile of the standard normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One released number, in the units of its column. `value` and `half_width` are None together."""

    label: str
    value: float | None
    half_width: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What one query came to."""

    name: str
    kind: str
    figures: tuple[Figure, ...]

    def figure(self, label: str) -> Figure:
        return next(figure for figure in self.figures if figure.label == label)


def read_sum(queries: Sequence[Query], lanes: Lanes, *, sites: int) -> tuple[Released, ...]:
    """(lane_count,) summed lanes of `sites` sites, each of which added its noise, to figures."""
    check_queries(queries)
    if lanes.ndim != 1 or len(lanes) != lane_count(queries) or sites < 1:
        raise QueryInvalidError("the opened sum is not one of these queries")
    released, start = [], 0
    for query in queries:
        row = [int(lane) for lane in lanes[start : start + query.lane_count]]
        width = NORMAL_975 * sigma(query) * math.sqrt(sites)
        released.append(Released(name=query.name, kind=query.kind, figures=_figures(query, row, width)))
        start += query.lane_count
    return tuple(released)


def _figures(query: Query, lanes: list[int], width: float) -> tuple[Figure, ...]:
    """`width`: the half-width of one summed lane."""
    match query:
        case Count():
            labels = ("patients", "missing")[: len(lanes)]
            return tuple(_figure(label, lane, width) for label, lane in zip(labels, lanes, strict=True))
        case Histogram():
            labels = (*_bin_labels(query), "missing")
            return tuple(_figure(label, lane, width) for label, lane in zip(labels, lanes, strict=True))
        case AreaUnderCurve():
            return _area(query, lanes, width)
        case Sum():
            resolution = query.resolution
            total = _figure("sum", lanes[0] * resolution, width * resolution)
            return (total, _figure("missing", lanes[1] / query.grid.most, width / query.grid.most))
        case Mean():
            return (_mean(query, lanes, width), *_counted(query, lanes, width))
        case Variance():
            return (
                _variance(query, lanes, width),
                _mean(query, lanes, width),
                *_counted(query, lanes, width),
            )


def _mean(query: Mean | Variance, lanes: list[int], width: float) -> Figure:
    grid, count, total = query.grid, lanes[0], lanes[1]
    if count < 2 * width:
        return _figure("mean", None, None)
    # In steps: V S / C, whose derivatives are V/C by S and -V S / C^2 by C.
    steps = grid.most * total / count
    half = width * grid.most / count * math.hypot(1, total / count)
    value = grid.origin + grid.resolution * steps
    return _figure("mean", min(max(value, query.lower), query.upper), half * grid.resolution)


def _variance(query: Variance, lanes: list[int], width: float) -> Figure:
    grid, (count, total, folded) = query.grid, lanes[:3]
    if count < 2 * width:
        return _figure("variance", None, None)
    # q stands for (2 v^2 - V^2) / V: the mean of squares is (V^2 + V E[q]) / 2. With a = V S / C and b = V Q / C, the
    # variance is V^2 / 2 + V b / 2 - a^2.
    most = grid.most
    a, b = most * total / count, most * folded / count
    value = most * most / 2 + most * b / 2 - a * a
    by_total, by_folded = -2 * a * most / count, most * most / (2 * count)
    by_count = (2 * a * a - most * b / 2) / count
    half = width * math.hypot(by_total, by_folded, by_count)
    largest = ((query.upper - query.lower) / 2) ** 2
    square = grid.resolution**2
    return _figure("variance", min(max(value * square, 0.0), largest), half * square)


def _counted(query: Mean | Variance, lanes: list[int], width: float) -> tuple[Figure, Figure]:
    most = query.grid.most
    return (
        _figure("patients", lanes[0] / most, width / most),
        _figure("missing", lanes[-1] / most, width / most),
    )


def _area(query: AreaUnderCurve, lanes: list[int], width: float) -> tuple[Figure, ...]:
    histogram = np.array(lanes[:-1], dtype=np.int64).reshape(2, query.bins)
    negatives, positives = (int(row.sum()) for row in histogram)
    row_width = width * math.sqrt(query.bins)
    area = auc(histogram) if min(negatives, positives) >= 2 * row_width else None
    half = None
    if area is not None:
        # One more patient in a bin moves the area by his own share of pairs won, less the area, over his row's count.
        below = np.clip((np.cumsum(histogram[0]) - histogram[0] / 2) / negatives, 0, 1)
        above = np.clip(1 - (np.cumsum(histogram[1]) - histogram[1] / 2) / positives, 0, 1)
        by_positive, by_negative = (below - area) / positives, (above - area) / negatives
        half = width * math.sqrt(float((by_positive**2).sum() + (by_negative**2).sum()))
    return (
        _figure("auc", area, half),
        _figure("label 0", negatives, row_width),
        _figure("label 1", positives, row_width),
        _figure("missing", lanes[-1], width),
    )


def _bin_labels(query: Histogram) -> tuple[str, ...]:
    if query.categories:
        return (*query.categories, "other")
    edges = [f"{edge:g}" for edge in query.edges]
    ends = [")"] * (query.bins - 1) + ["]"]
    return tuple(f"[{low}, {high}{end}" for low, high, end in zip(edges, edges[1:], ends, strict=False))


def _figure(label: str, value: float | None, half_width: float | None) -> Figure:
    return Figure(
        label=label,
        value=None if value is None else float(value),
        half_width=None if value is None or half_width is None else float(half_width),
    )
