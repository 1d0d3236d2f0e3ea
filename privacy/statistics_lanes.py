"""One site's exact lanes: what its patients add up to, before any noise.

Lives here: the table of one row a patient, and the lanes of each query over it. What comes out is patient data and
never leaves the site; `privacy.statistics_noise` makes it releasable. Queries are `privacy.statistics`.

A value that is missing, not a number or infinite, and a label other than 0 or 1, count as missing. Nothing here is
refused because of a value, which would tell of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ledger.errors import InputError
from privacy.histogram import score_histogram
from privacy.statistics import (
    AreaUnderCurve,
    Count,
    Histogram,
    Integers,
    Mean,
    Numbers,
    Query,
    Sum,
    Variance,
    check_queries,
)


class TableInvalidError(InputError):
    """Rows that are not one a patient, or columns that are not as long as there are patients."""

    code = "privacy.table-invalid"


class ColumnMissingError(InputError):
    """Columns that queries name and the table has not, or not of that kind."""

    code = "privacy.column-missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One row a patient. `patients` are the site's own names for them, all different: with two rows, a patient would
    count for more than the queries' sensitivity. `numbers` are (n,) float64, NaN where missing; `words` are n long,
    None where missing."""

    patients: Sequence[str]
    numbers: Mapping[str, Numbers] = field(default_factory=dict)
    words: Mapping[str, Sequence[str | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.patients)
        if len(set(self.patients)) != count:
            raise TableInvalidError(
                "a patient has more than one row", remedy="Reduce the rows to one a patient."
            )
        uneven = sorted(
            {name for name, values in self.numbers.items() if values.shape != (count,)}
            | {name for name, values in self.words.items() if len(values) != count}
        )
        if uneven:
            raise TableInvalidError(f"these columns have not one value a patient: {', '.join(uneven)}")
        odd = sorted(name for name, values in self.numbers.items() if values.dtype != np.float64)
        if odd:
            raise TableInvalidError(f"these columns are not 64-bit floating-point numbers: {', '.join(odd)}")


def exact_lanes(queries: Sequence[Query], table: Table) -> Integers:
    """(lane_count,) sums over the table's patients. Raises `ColumnMissingError` naming every column that lacks."""
    check_queries(queries)
    missing = sorted({name for query in queries for name in _lacking(query, table)})
    if missing:
        raise ColumnMissingError(f"the table has no fitting column {', '.join(missing)}")
    return np.concatenate([_lanes(query, table) for query in queries])


def _lacking(query: Query, table: Table) -> list[str]:
    match query:
        case Count():
            return [name for name in query.columns if name not in table.numbers and name not in table.words]
        case Histogram() if query.categories:
            return [name for name in query.columns if name not in table.words]
        case _:
            return [name for name in query.columns if name not in table.numbers]


def _lanes(query: Query, table: Table) -> Integers:
    """(query.lane_count,) lanes, as drawn in `privacy.statistics`."""
    match query:
        case Count():
            lanes = _count(query, table)
        case Histogram():
            lanes = _histogram(query, table)
        case AreaUnderCurve():
            lanes = _scores(query, table)
        case _:
            lanes = _moments(query, table)
    return np.array(lanes, dtype=np.int64)


def _count(query: Count, table: Table) -> list[int]:
    if query.column is None:
        return [len(table.patients)]
    if query.column in table.numbers:
        present = int(np.isfinite(table.numbers[query.column]).sum())
    else:
        present = sum(1 for word in table.words[query.column] if word)
    return [present, len(table.patients) - present]


def _moments(query: Sum | Mean | Variance, table: Table) -> list[int]:
    values, grid = table.numbers[query.column], query.grid
    steps = grid.steps(values[np.isfinite(values)])
    total, missing = int(steps.sum()), (len(values) - len(steps)) * grid.most
    match query:
        case Sum():
            return [total, missing]
        case Mean():
            return [len(steps) * grid.most, total, missing]
        case Variance():
            return [len(steps) * grid.most, total, int(grid.folded(steps).sum()), missing]


def _histogram(query: Histogram, table: Table) -> list[int]:
    if query.categories:
        # The lane behind the categories is for other words, the one behind that for none.
        place = {word: lane for lane, word in enumerate(query.categories)}
        other = len(place)
        lanes = [place.get(word, other) if word else other + 1 for word in table.words[query.column]]
        return [*np.bincount(np.array(lanes, dtype=np.int64), minlength=query.lane_count).tolist()]
    values = table.numbers[query.column]
    known = values[np.isfinite(values)]
    bins = np.clip(np.searchsorted(np.array(query.edges), known, side="right") - 1, 0, query.bins - 1)
    return [*np.bincount(bins, minlength=query.bins).tolist(), len(values) - len(known)]


def _scores(query: AreaUnderCurve, table: Table) -> list[int]:
    scores, labels = table.numbers[query.score], table.numbers[query.label]
    known = np.isfinite(scores) & ((labels == 0) | (labels == 1))
    counts = score_histogram(np.clip(scores[known], 0, 1), labels[known].astype(np.int64), query.bins)
    return [*counts.reshape(-1).tolist(), len(scores) - int(known.sum())]
