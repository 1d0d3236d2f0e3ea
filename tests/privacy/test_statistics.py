from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field
from sklearn.metrics import roc_auc_score

from policies.document import Document, MalformedDocumentError
from privacy.mechanisms import DiscreteGaussian
from privacy.statistics import (
    AreaUnderCurve,
    Count,
    Histogram,
    Integers,
    Mean,
    Query,
    QueryInvalidError,
    Sum,
    Variance,
    lane_count,
    mechanisms,
)
from privacy.statistics_lanes import ColumnMissingError, Table, TableInvalidError, exact_lanes
from privacy.statistics_reading import Released, read_sum

TINY = 0.01
"""The least noise multiplier that there is: what is read off exact lanes has half-widths of nearly nothing."""

Floats = npt.NDArray[np.float64]


def table(
    numbers: dict[str, list[float]] | dict[str, Floats], words: dict[str, list[str | None]] | None = None
) -> Table:
    columns = {name: np.array(values, dtype=np.float64) for name, values in numbers.items()}
    count = len(next(iter([*columns.values(), *(words or {}).values()])))
    return Table(patients=[f"p{number}" for number in range(count)], numbers=columns, words=words or {})


def read_exact(query: Query, *tables: Table) -> Released:
    lanes: Integers = np.sum([exact_lanes([query], one) for one in tables], axis=0)
    return read_sum([query], lanes.astype(np.int32), sites=len(tables))[0]


def value(released: Released, label: str) -> float:
    found = released.figure(label).value
    assert found is not None
    return found


# Sensitivity: what one patient can change.

BOUNDS = st.tuples(st.floats(-1e3, 1e3), st.floats(0.5, 1e3), st.floats(0.01, 0.9)).map(
    lambda drawn: {"lower": drawn[0], "upper": drawn[0] + drawn[1], "resolution": drawn[1] * drawn[2]}
)
CELLS = st.one_of(st.floats(-3e3, 3e3), st.just(math.nan), st.just(math.inf), st.just(-math.inf))
ROWS = st.lists(
    st.tuples(CELLS, st.sampled_from([0.0, 1.0, 2.0, math.nan]), st.sampled_from(["f", "m", "x", "", None])),
    max_size=8,
)


def asked(bounds: dict[str, float]) -> list[Query]:
    made = []
    for kind in (Sum, Mean, Variance):
        try:
            made.append(kind(name="q", noise_multiplier=1.0, column="x", **bounds))
        except QueryInvalidError:
            continue
    lower, upper = bounds["lower"], bounds["upper"]
    return [
        *made,
        Count(name="q", noise_multiplier=1.0),
        Count(name="q", noise_multiplier=1.0, column="x"),
        Count(name="q", noise_multiplier=1.0, column="sex"),
        Histogram(name="q", noise_multiplier=1.0, column="x", edges=(lower, (lower + upper) / 2, upper)),
        Histogram(name="q", noise_multiplier=1.0, column="sex", categories=("f", "m")),
        AreaUnderCurve(name="q", noise_multiplier=1.0, score="x", label="y", bins=7),
    ]


def rows_table(rows: list[tuple[float, float, str | None]]) -> Table:
    return Table(
        patients=[str(number) for number in range(len(rows))],
        numbers={
            "x": np.array([row[0] for row in rows], dtype=np.float64),
            "y": np.array([row[1] for row in rows], dtype=np.float64),
        },
        words={"sex": [row[2] for row in rows]},
    )


@given(BOUNDS, ROWS, st.data())
@settings(max_examples=60, deadline=None)
def test_adding_or_removing_any_patient_changes_lanes_by_at_most_the_declared_sensitivity(
    bounds: dict[str, float], rows: list[tuple[float, float, str | None]], data: st.DataObject
) -> None:
    rows = [
        *rows,
        data.draw(st.tuples(CELLS, st.sampled_from([0.0, 1.0, 2.0]), st.sampled_from(["f", None]))),
    ]
    gone = data.draw(st.integers(0, len(rows) - 1))
    with_all, without = rows_table(rows), rows_table(rows[:gone] + rows[gone + 1 :])
    for query in asked(bounds):
        change = exact_lanes([query], with_all) - exact_lanes([query], without)
        assert len(change) == query.lane_count
        assert int((change**2).sum()) <= query.squared_sensitivity
        assert int(np.abs(change).max()) <= query.largest_lane


@given(BOUNDS)
@settings(max_examples=25, deadline=None)
def test_the_declared_sensitivity_is_reached_by_some_patient(bounds: dict[str, float]) -> None:
    """Not larger than it must be, either: noise would be wasted."""
    lower, upper, step = bounds["lower"], bounds["upper"], bounds["resolution"]
    everybody = [*np.arange(lower, upper, step).tolist(), lower, upper, math.nan]
    for query in asked(bounds)[:-6]:
        sizes = [int((exact_lanes([query], table({"x": [one]})) ** 2).sum()) for one in everybody]
        assert max(sizes) == query.squared_sensitivity


def test_no_value_however_large_moves_more_than_its_bound() -> None:
    query = Mean(name="q", noise_multiplier=1.0, column="x", lower=0, upper=10, resolution=0.1)
    at_bound = exact_lanes([query], table({"x": [10.0, 0.0]}))
    beyond = exact_lanes([query], table({"x": [1e300, -1e300]}))
    assert (at_bound == beyond).all()


# What comes out without noise.


@given(st.integers(0, 2**32), st.integers(1, 400), st.sampled_from([1.0, 0.5, 2.0]))
@settings(max_examples=40, deadline=None)
def test_without_noise_figures_are_those_of_numpy_on_values_of_the_grid(
    seed: int, count: int, resolution: float
) -> None:
    generator = np.random.default_rng(seed)
    values = 20 + resolution * generator.integers(0, 161, count)
    upper = 20 + resolution * 160
    bounds = {"lower": 20.0, "upper": upper, "resolution": resolution}
    both = [table({"x": part}) for part in (values[: count // 2 + 1], values[count // 2 + 1 :])]
    total = read_exact(Sum(name="q", noise_multiplier=TINY, column="x", **bounds), *both)
    assert value(total, "sum") == pytest.approx(values.sum(), abs=1e-6)
    mean = read_exact(Mean(name="q", noise_multiplier=TINY, column="x", **bounds), *both)
    assert value(mean, "mean") == pytest.approx(values.mean()) and value(mean, "patients") == count
    spread = read_exact(Variance(name="q", noise_multiplier=TINY, column="x", **bounds), *both)
    assert value(spread, "mean") == pytest.approx(values.mean())
    # A square is rounded by half a step of q at most: V / 4 of a step's square.
    assert value(spread, "variance") == pytest.approx(values.var(), abs=resolution**2 * 80 / 4 + 1e-6)


def test_off_the_grid_a_mean_is_wrong_by_half_a_step_at_most() -> None:
    values = np.random.default_rng(1).normal(60, 12, 5000).clip(20, 100)
    for resolution in (5.0, 1.0, 0.1):
        bounds = {"lower": 20.0, "upper": 100.0, "resolution": resolution}
        mean = read_exact(Mean(name="q", noise_multiplier=TINY, column="x", **bounds), table({"x": values}))
        assert abs(value(mean, "mean") - values.mean()) <= resolution / 2
    spread = read_exact(Variance(name="q", noise_multiplier=TINY, column="x", **bounds), table({"x": values}))
    assert value(spread, "variance") == pytest.approx(values.var(), rel=1e-3)


def test_bins_are_closed_below_and_the_last_one_above_too() -> None:
    query = Histogram(name="q", noise_multiplier=TINY, column="x", edges=(0, 10, 20, 30))
    values = [-5.0, 0.0, 9.999, 10.0, 20.0, 30.0, 31.0, math.nan, math.inf]
    released = read_exact(query, table({"x": values}))
    assert [(figure.label, figure.value) for figure in released.figures] == [
        ("[0, 10)", 3.0),
        ("[10, 20)", 1.0),
        ("[20, 30]", 3.0),
        ("missing", 2.0),
    ]
    inside = np.random.default_rng(0).uniform(0, 30, 500)
    counted = exact_lanes([query], table({"x": inside}))[:-1]
    assert (counted == np.histogram(inside, bins=[0, 10, 20, 30])[0]).all()


def test_words_are_counted_by_category_others_and_none_apart() -> None:
    query = Histogram(name="q", noise_multiplier=TINY, column="sex", categories=("female", "male"))
    words: list[str | None] = ["male", "female", "male", "diverse", "MALE", None, ""]
    released = read_exact(query, table({}, {"sex": words}))
    assert [(figure.label, figure.value) for figure in released.figures] == [
        ("female", 1.0),
        ("male", 2.0),
        ("other", 2.0),
        ("missing", 2.0),
    ]


def test_what_is_missing_is_counted_and_stops_nothing() -> None:
    x = [1.0, math.nan, 3.0, math.inf, -math.inf, 5.0]
    y = [0.0, 1.0, 1.0, 0.0, math.nan, 7.0]
    asking: list[Query] = [
        Mean(name="mean", noise_multiplier=TINY, column="x", lower=0, upper=8, resolution=1),
        Sum(name="sum", noise_multiplier=TINY, column="x", lower=0, upper=8, resolution=1),
        Variance(name="var", noise_multiplier=TINY, column="x", lower=0, upper=8, resolution=1),
        Count(name="count", noise_multiplier=TINY, column="x"),
        AreaUnderCurve(name="auc", noise_multiplier=TINY, score="x", label="y", bins=4),
    ]
    for query, missing in zip(asking, (3, 3, 3, 3, 4), strict=True):
        assert value(read_exact(query, table({"x": x, "y": y})), "missing") == missing
    assert value(read_exact(asking[0], table({"x": x})), "mean") == 3
    assert value(read_exact(Count(name="all", noise_multiplier=TINY), table({"x": x})), "patients") == 6


def test_nobody_has_a_mean_a_variance_or_an_area() -> None:
    empty = Table(
        patients=[], numbers={"x": np.empty(0, dtype=np.float64), "y": np.empty(0, dtype=np.float64)}
    )
    bounds = {"lower": 0.0, "upper": 8.0, "resolution": 1.0}
    for query, label in (
        (Mean(name="q", noise_multiplier=TINY, column="x", **bounds), "mean"),
        (Variance(name="q", noise_multiplier=TINY, column="x", **bounds), "variance"),
        (AreaUnderCurve(name="q", noise_multiplier=TINY, score="x", label="y", bins=4), "auc"),
    ):
        figure = read_exact(query, empty).figure(label)
        assert figure.value is None and figure.half_width is None


def test_the_area_under_the_curve_is_that_of_the_binned_scores() -> None:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 2, 2000)
    scores = 1 / (1 + np.exp(-generator.normal(size=2000) - labels))
    query = AreaUnderCurve(name="q", noise_multiplier=TINY, score="s", label="y", bins=32)
    released = read_exact(query, table({"s": scores, "y": labels.astype(np.float64)}))
    assert value(released, "auc") == pytest.approx(roc_auc_score(labels, np.floor(scores * 32)), abs=1e-9)
    assert value(released, "label 1") == labels.sum()


# Tables.


def test_a_patient_with_two_rows_is_refused() -> None:
    """Two rows would count for twice the sensitivity that is paid for."""
    with pytest.raises(TableInvalidError) as refused:
        Table(patients=["a", "b", "a"], numbers={"x": np.zeros(3)})
    assert refused.value.code == "privacy.table-invalid" and "a, " not in refused.value.public_message


def test_columns_are_as_long_as_there_are_patients() -> None:
    for wrong in (np.zeros(2), np.zeros((3, 1)), np.zeros(3, dtype=np.float32)):
        with pytest.raises(TableInvalidError):
            Table(patients=["a", "b", "c"], numbers={"x": wrong})
    with pytest.raises(TableInvalidError):
        Table(patients=["a", "b", "c"], words={"x": ["f", "m"]})


def test_every_column_that_lacks_is_named() -> None:
    asking: list[Query] = [
        Count(name="a", noise_multiplier=1.0, column="absent"),
        Histogram(name="b", noise_multiplier=1.0, column="x", categories=("f",)),
        AreaUnderCurve(name="c", noise_multiplier=1.0, score="x", label="sex", bins=4),
    ]
    with pytest.raises(ColumnMissingError, match="absent, sex, x"):
        exact_lanes(asking, table({"x": [1.0]}, {"sex": ["f"]}))


# Queries as documents.


class Asked(Document):
    queries: tuple[Annotated[Query, Field(discriminator="kind")], ...]


def test_the_example_of_the_steward_s_page_is_a_list_of_queries() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "statistics.md").read_text()
    found = re.search(r"\n(queries:\n.*?)```", page, re.DOTALL)
    assert found
    read = Asked.from_yaml(found.group(1), what="plan")
    assert {query.kind for query in read.queries} == {"count", "mean", "variance", "histogram", "auc"}
    assert Asked.from_canonical(read.canonical_bytes(), what="plan") == read
    assert mechanisms(read.queries) == (DiscreteGaussian(noise_multiplier=10.0, count=1),) * 6
    assert lane_count(read.queries) == 1 + 3 + 4 + 6 + 4 + 65


WRONG = [
    ("{kind: mean, name: a, noise_multiplier: 1, column: x, lower: 1, upper: 1, resolution: 1}", "bound"),
    (
        "{kind: mean, name: a, noise_multiplier: 1, column: x, lower: 0, upper: 1, resolution: 0}",
        "resolution",
    ),
    (
        "{kind: mean, name: a, noise_multiplier: 1, column: x, lower: 0, upper: 1, resolution: 1.0e-9}",
        "steps",
    ),
    (
        "{kind: sum, name: a, noise_multiplier: 1, column: x, lower: -0.3, upper: 0.3, resolution: 0.6}",
        "step",
    ),
    ("{kind: sum, name: a, noise_multiplier: 0, column: x, lower: 0, upper: 1, resolution: 1}", "noise"),
    ("{kind: sum, name: a, noise_multiplier: .nan, column: x, lower: 0, upper: 1, resolution: 1}", "noise"),
    ("{kind: sum, name: a, noise_multiplier: 1, column: x, lower: -.inf, upper: 1, resolution: 1}", "finite"),
    ("{kind: histogram, name: a, noise_multiplier: 1, column: x}", "either"),
    ("{kind: histogram, name: a, noise_multiplier: 1, column: x, edges: [0, 1], categories: [b]}", "either"),
    ("{kind: histogram, name: a, noise_multiplier: 1, column: x, edges: [0, 0]}", "edges"),
    ("{kind: histogram, name: a, noise_multiplier: 1, column: x, categories: [b, b]}", "categories"),
    ("{kind: auc, name: a, noise_multiplier: 1, score: x, label: y, bins: 1}", "bins"),
    ("{kind: count, name: A, noise_multiplier: 1}", "name"),
    ("{kind: count, name: a, noise_multiplier: 1, columns: x}", "columns"),
    ("{kind: median, name: a, noise_multiplier: 1}", "median|kind|tag"),
]


@pytest.mark.parametrize(("text", "why"), WRONG)
def test_queries_that_make_no_sense_are_refused_by_what_is_wrong(text: str, why: str) -> None:
    with pytest.raises(MalformedDocumentError, match=why):
        Asked.from_yaml(f"queries: [{text}]", what="plan")


def test_every_fault_of_a_query_is_told_at_once() -> None:
    with pytest.raises(QueryInvalidError) as refused:
        Mean(name="B", noise_multiplier=0.0, column="", lower=2, upper=1, resolution=1)
    assert refused.value.public_message.count(";") == 3


def test_lists_that_cannot_be_a_plan_s_are_refused() -> None:
    one = Count(name="a", noise_multiplier=1.0)
    for queries in ([], [one, one]):
        with pytest.raises(QueryInvalidError):
            exact_lanes(queries, table({"x": [1.0]}))
    for lanes, sites in ((np.zeros(2, dtype=np.int32), 3), (np.zeros(1, dtype=np.int32), 0)):
        with pytest.raises(QueryInvalidError):
            read_sum([one], lanes, sites=sites)
