"""Noise on a site's lanes, and what makes them fit a protected sum.

Lives here: the discrete Gaussian of OpenDP, its scale, and how many patients fit the lanes. The lanes before noise
are `privacy.statistics_lanes`; what it costs is `privacy.mechanisms.DiscreteGaussian`, priced in
`privacy.accounting`.

Every site adds noise of its own, enough for its patients whatever other sites, aggregators or the coordinator do, so
that n sites' sum carries n times its variance. On integers nothing leaks through rounding (Canonne, Kamath, Steinke
2020; the sampler is exact on rationals). The scale is sigma = noise multiplier * L2 sensitivity, rounded up; OpenDP's
own privacy map must agree with the declared mechanism (zero-concentrated divergence rho = 1/(2 multiplier^2), a Rényi
divergence of rho * order), or nothing is released.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import numpy as np

from ledger.errors import CodedError, InputError
from privacy.packing import Lanes, Packing
from privacy.statistics import Integers, Query, check_queries, lane_count
from privacy.statistics_lanes import Table, exact_lanes

_TAIL_BITS: Final = 40
_AGREEMENT: Final = 2.0**-40


class StatisticsCapacityError(InputError):
    """The lanes have no room for so many patients, or for the noise alone."""

    code = "privacy.statistics-capacity"


class NoiseDisagreementError(CodedError):
    """The noise library reckons with another cost than is declared."""

    code = "privacy.noise-disagreement"


def sigma(query: Query) -> float:
    """Parameter of the noise on each of the query's lanes, at one site, in lanes: the least float of which
    sigma^2 >= noise multiplier^2 * squared sensitivity holds exactly."""
    least = Fraction(query.noise_multiplier) ** 2 * query.squared_sensitivity
    found = query.noise_multiplier * math.sqrt(query.squared_sensitivity)
    while Fraction(found) ** 2 < least:
        found = math.nextafter(found, math.inf)
    return found


def capacity(queries: Sequence[Query], packing: Packing) -> int:
    """How many patients a site can have at most. Raises `StatisticsCapacityError` if it is none.

    P(|noise| >= t) <= 2 exp(-t^2 / (2 sigma^2)), as a discrete Gaussian is subgaussian (Canonne, Kamath, Steinke
    2020), so that noise takes any of the lanes beyond `packing.site_limit` with a probability of at most 2^-40.
    """
    check_queries(queries)
    deviations = math.sqrt(2 * math.log(lane_count(queries) * 2.0 ** (_TAIL_BITS + 1)))
    room = min(
        (packing.site_limit - math.ceil(deviations * sigma(query))) // query.largest_lane for query in queries
    )
    if room < 1:
        raise StatisticsCapacityError(
            "the lanes have no room for these queries and their noise",
            remedy="Widen the lanes, lower a noise multiplier, or choose coarser resolutions.",
        )
    return room


def noised_lanes(queries: Sequence[Query], table: Table, *, packing: Packing) -> Lanes:
    """(lane_count,) lanes that a site may protect and send: exact lanes plus noise. Drawn once, after the reservation
    of `privacy.statistics.mechanisms`: another draw is another release.

    Raises `StatisticsCapacityError` for more patients than fit (before noise; the message does not say how many there
    are), `ColumnMissingError` and `QueryInvalidError`.
    """
    most = capacity(queries, packing)
    if len(table.patients) > most:
        raise StatisticsCapacityError(
            f"the plan's lanes have room for {most} patients a site",
            remedy="Widen the lanes, or ask for less.",
        )
    exact = exact_lanes(queries, table)
    parts, start = [], 0
    for query in queries:
        parts.append(add_noise(exact[start : start + query.lane_count], query))
        start += query.lane_count
    lanes: Integers = np.concatenate(parts)
    # Never on data: with a probability of at most 2^-40 by the noise, which is a failure of the step and no figure.
    if int(np.abs(lanes).max()) > packing.site_limit:
        raise StatisticsCapacityError("the noise left its bounds", remedy="Repeat the step as a new release.")
    return lanes.astype(np.int32)


def add_noise(exact: Integers, query: Query) -> Integers:
    """(n,) lanes of the query with noise of `sigma(query)` on each."""
    # Imported on use: 0.15 s, and only sites that answer queries need it. The library's prelude takes two seconds.
    from opendp.domains import atom_domain, vector_domain
    from opendp.measurements import make_gaussian
    from opendp.metrics import l2_distance
    from opendp.mod import enable_features

    enable_features("contrib")
    scale = sigma(query)
    noisy = make_gaussian(
        vector_domain(atom_domain(T="i64"), size=len(exact)), l2_distance(T="f64"), scale=scale
    )
    sensitivity = math.sqrt(query.squared_sensitivity)
    while Fraction(sensitivity) ** 2 < query.squared_sensitivity:
        sensitivity = math.nextafter(sensitivity, math.inf)
    declared = 1 / (2 * query.noise_multiplier**2)
    # A float overestimates the root and OpenDP rounds up, each by a few units in the 53rd bit.
    rho: float = noisy.map(sensitivity)  # type: ignore[no-untyped-call]
    if not rho <= declared * (1 + _AGREEMENT):
        raise NoiseDisagreementError("the noise library reckons with a higher cost than is declared")
    return np.array(noisy(exact.tolist()), dtype=np.int64)
