"""Joint statistics as statements: what is asked of all sites together, and what one patient can change in it.

Lives here: the queries, their lanes and their sensitivities. A site's lanes are computed in
`privacy.statistics_lanes`, noise is drawn in `privacy.statistics_noise`, released figures are read in
`privacy.statistics_reading`; lanes travel in a protected sum like any others. No patient's value is seen here.

A query turns each patient into a few whole numbers and adds them up. V below is the largest number of steps of
`resolution` that a value lies from the grid's origin, after it was cut off at `lower` and `upper`; v a value in
steps. Origin is 0 for a sum and the multiple of `resolution` nearest to the middle otherwise, which halves V.

    query       lanes of a patient with a value                of one without          L2 sensitivity squared
    count       (1, 0), or (1) if no column is named           (0, 1)                  1
    sum         (v, 0)                                         (0, V)                  V^2
    mean        (V, v, 0)                                      (0, 0, V)               2 V^2
    variance    (V, v, q, 0), q = floor((2v^2 - V^2)/V + 1/2)  (0, 0, 0, V)            max over v of V^2 + v^2 + q^2
    histogram   1 in the lane of the bin                       1 in the last lane      1
    auc         1 in the lane of label and bin of the score    1 in the last lane      1

A count is carried V times, since all lanes of a query get the same noise. Rounding, cutting off and q are done for
each patient by itself, in whole numbers, so that the sensitivities are exact. Adjacency is add/remove of one patient,
whom a site counts once. Bounds, edges, categories and resolution are constants of the plan: taken from data, they
would be a release of their own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, ClassVar, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field

from ledger.errors import InputError
from privacy.histogram import MAXIMUM_BINS
from privacy.mechanisms import DiscreteGaussian, MechanismInvalidError

MAXIMUM_STEPS: Final = 1 << 20
MAXIMUM_QUERIES: Final = 1000
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
_CLOSED: Final = ConfigDict(extra="forbid", strict=True)
# In documents alone, which go on the ledger: there no text has room for prose (docs/ledger-privacy.md).
_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
_Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+/<>=-]{0,39}$")]

Numbers: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]


class QueryInvalidError(InputError, ValueError):
    code = "privacy.query-invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Where a bounded value is rounded to: `origin` plus whole steps of `resolution`, in the column's units."""

    lower: float
    upper: float
    resolution: float
    origin: float

    @classmethod
    def about_zero(cls, *, lower: float, upper: float, resolution: float) -> Grid:
        return cls(lower=lower, upper=upper, resolution=resolution, origin=0.0)

    @classmethod
    def about_middle(cls, *, lower: float, upper: float, resolution: float) -> Grid:
        middle = lower / 2 + upper / 2
        origin = resolution * float(np.rint(middle / resolution))
        return cls(lower=lower, upper=upper, resolution=resolution, origin=origin)

    def steps(self, values: Numbers) -> Integers:
        """(n,) finite numbers, cut off at the bounds, to (n,) whole steps, absolutely at most `most`.

        Every operation is monotone in floating point, so that the bounds have the largest and the smallest step.
        """
        cut = np.clip(values, self.lower, self.upper)
        return np.rint((cut - self.origin) / self.resolution).astype(np.int64)

    @property
    def most(self) -> int:
        """V."""
        return int(np.abs(self.steps(np.array([self.lower, self.upper], dtype=np.float64))).max())

    def folded(self, steps: Integers) -> Integers:
        """q: what stands for the square of each of (n,) `steps`, from -V to V."""
        most = self.most
        folded: Integers = (2 * (2 * steps * steps - most * most) + most) // (2 * most)
        return folded


class OneCell:
    """What count, histogram and area under a curve have in common: a patient is counted once, in one lane."""

    __slots__ = ()

    @property
    def largest_lane(self) -> int:
        """The most that one patient adds to a lane, absolutely."""
        return 1

    @property
    def squared_sensitivity(self) -> int:
        return 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Count(OneCell):
    """How many patients there are; with `column`, how many have a value in it."""

    name: _Name
    noise_multiplier: float
    column: _Name | None = None
    kind: Literal["count"] = "count"

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    def __post_init__(self) -> None:
        _refuse(_shared_faults(self), self.name)

    @property
    def columns(self) -> tuple[str, ...]:
        return () if self.column is None else (self.column,)

    @property
    def lane_count(self) -> int:
        return 1 if self.column is None else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounded:
    """What sum, mean and variance have in common: a numeric column, its bounds and its resolution, in its units."""

    name: _Name
    noise_multiplier: float
    column: _Name
    lower: float
    upper: float
    resolution: float

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    def __post_init__(self) -> None:
        faults = _shared_faults(self)
        if not all(map(math.isfinite, (self.lower, self.upper, self.resolution))):
            faults.append("bounds and resolution are finite numbers")
        elif not (self.lower < self.upper and 0 < self.resolution <= self.upper - self.lower):
            faults.append("the lower bound is below the upper one, and they are a resolution apart or more")
        elif not (self.upper - self.lower) + max(abs(self.lower), abs(self.upper)) <= (
            MAXIMUM_STEPS * self.resolution
        ):
            faults.append(f"the bounds are at most {MAXIMUM_STEPS} steps of the resolution apart and from 0")
        elif self.grid.most < 1:
            faults.append("a bound is at least one step of the resolution from the origin")
        _refuse(faults, self.name)

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def grid(self) -> Grid:
        return Grid.about_middle(lower=self.lower, upper=self.upper, resolution=self.resolution)

    @property
    def largest_lane(self) -> int:
        return self.grid.most


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum(Bounded):
    """The sum of a column."""

    kind: Literal["sum"] = "sum"
    lane_count: ClassVar[int] = 2

    @property
    def grid(self) -> Grid:
        return Grid.about_zero(lower=self.lower, upper=self.upper, resolution=self.resolution)

    @property
    def squared_sensitivity(self) -> int:
        return self.grid.most**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean(Bounded):
    """The mean of a column, and how many patients have a value in it."""

    kind: Literal["mean"] = "mean"
    lane_count: ClassVar[int] = 3

    @property
    def squared_sensitivity(self) -> int:
        return 2 * self.grid.most**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Variance(Bounded):
    """The variance of a column (divided by the number of patients), its mean, and how many have a value in it."""

    kind: Literal["variance"] = "variance"
    lane_count: ClassVar[int] = 4

    @property
    def squared_sensitivity(self) -> int:
        return _variance_sensitivity(self.grid)


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram(OneCell):
    """Patients by value. Either `edges`, rising: a bin from each to the next, the last one closed, values outside in
    the first and last; or `categories` of words, any other word in a bin called other."""

    name: _Name
    noise_multiplier: float
    column: _Name
    edges: tuple[float, ...] = ()
    categories: tuple[_Word, ...] = ()
    kind: Literal["histogram"] = "histogram"

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    def __post_init__(self) -> None:
        faults = _shared_faults(self)
        if bool(self.edges) == bool(self.categories):
            faults.append("a histogram has either edges or categories")
        elif self.edges and not (
            2 <= len(self.edges) <= MAXIMUM_BINS + 1
            and all(map(math.isfinite, self.edges))
            and all(low < high for low, high in pairwise(self.edges))
        ):
            faults.append(f"edges are 2 to {MAXIMUM_BINS + 1} finite numbers, each above the one before")
        elif self.categories and not (
            len(self.categories) <= MAXIMUM_BINS
            and len(set(self.categories)) == len(self.categories)
            and all(1 <= len(word) <= 200 for word in self.categories)
        ):
            faults.append(f"categories are at most {MAXIMUM_BINS} different words")
        _refuse(faults, self.name)

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    @property
    def bins(self) -> int:
        return len(self.edges) - 1 if self.edges else len(self.categories) + 1

    @property
    def lane_count(self) -> int:
        return self.bins + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaUnderCurve(OneCell):
    """The area under the ROC curve of a score in [0, 1] for a label 0 or 1, from a histogram of `bins` a label."""

    name: _Name
    noise_multiplier: float
    score: _Name
    label: _Name
    bins: int
    kind: Literal["auc"] = "auc"

    __pydantic_config__: ClassVar[ConfigDict] = _CLOSED

    def __post_init__(self) -> None:
        faults = _shared_faults(self)
        if not 2 <= self.bins <= MAXIMUM_BINS:
            faults.append(f"an area under a curve has 2 to {MAXIMUM_BINS} bins")
        _refuse(faults, self.name)

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.score, self.label)

    @property
    def lane_count(self) -> int:
        return 2 * self.bins + 1


Query: TypeAlias = Count | Sum | Mean | Variance | Histogram | AreaUnderCurve
"""Told apart by `kind`, in pydantic models too."""


def check_queries(queries: Sequence[Query]) -> None:
    """Refuse (`QueryInvalidError`) what cannot be one plan's queries."""
    if not 1 <= len(queries) <= MAXIMUM_QUERIES:
        raise QueryInvalidError(f"a plan asks 1 to {MAXIMUM_QUERIES} queries")
    names = [query.name for query in queries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise QueryInvalidError(f"these names are used twice: {', '.join(twice)}")


def mechanism(query: Query) -> DiscreteGaussian:
    """What the query costs every patient of a site that answers it, whether they have a value or not."""
    return DiscreteGaussian(noise_multiplier=query.noise_multiplier, count=1)


def mechanisms(queries: Sequence[Query]) -> tuple[DiscreteGaussian, ...]:
    """What to reserve before any noise is drawn: one release a query (`privacy.accounting.total` adds them)."""
    return tuple(map(mechanism, queries))


def lane_count(queries: Sequence[Query]) -> int:
    """How many lanes the queries fill, one after the other."""
    return sum(query.lane_count for query in queries)


@lru_cache(maxsize=256)
def _variance_sensitivity(grid: Grid) -> int:
    """The largest over every step that a value can have; below 2^42."""
    steps = np.arange(-grid.most, grid.most + 1, dtype=np.int64)
    return int((grid.most**2 + steps**2 + grid.folded(steps) ** 2).max())


def _shared_faults(query: Query | Bounded) -> list[str]:
    faults = []
    if not _NAME.fullmatch(query.name):
        faults.append("a name has small letters, digits and hyphens, at most 63")
    if not all(1 <= len(column) <= 200 for column in query.columns):
        faults.append("a column is named by 1 to 200 characters")
    try:
        DiscreteGaussian(noise_multiplier=query.noise_multiplier, count=1)
    except MechanismInvalidError as error:
        faults.append(error.public_message)
    return faults


def _refuse(faults: list[str], name: str) -> None:
    if faults:
        raise QueryInvalidError(f"query {name[:63]}: {'; '.join(faults)}")
