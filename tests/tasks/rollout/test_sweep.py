"""A sweep: points that cost what they say, from data that nobody lived, the same whoever repeats it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.sources.drawn_table import drawn_rows
from ledger.errors import InputError
from policies.cost import epsilon_micro, plan_cost
from policies.data_contract import FeatureTable
from policies.plan import Plan
from tasks.planning import read_plan
from tasks.rollout.sweep import CSV, SVG, Point, sweep
from tasks.rollout.sweep_plot import SAID
from tests.consortium import tiny_plan
from wardround.examples import EXAMPLES

STAYS = read_plan(EXAMPLES / "readmission.yaml")


def quick(plan: Plan, out: Path) -> tuple[Point, ...]:
    return sweep(plan, out, epsilons=(1.0, 8.0), repeats=1)


def test_more_epsilon_learns_more_and_costs_no_more_than_it_says(tmp_path: Path) -> None:
    points = quick(STAYS, tmp_path)
    assert len(points) == 2 * 3 * 3
    for cheap, dear in zip(points[::2], points[1::2], strict=True):
        assert (cheap.clip_l2, cheap.rounds) == (dear.clip_l2, dear.rounds)
        assert cheap.noise_multiplier > dear.noise_multiplier and cheap.figure < dear.figure
        assert 0.6 < dear.figure < 0.8
    for point in points:
        value = STAYS.model_dump(mode="json")
        value["rounds"] = value["evaluation"]["every"] = point.rounds
        value["training"]["noise_multiplier"] = point.noise_multiplier
        value["evaluation"]["noise_std"] = point.evaluation_noise_std
        value["training"]["clip_l2"] = point.clip_l2
        cost = epsilon_micro(plan_cost(STAYS.with_fields(value)), STAYS.budget.delta) / 1e6
        assert 0.99 * point.epsilon < cost <= point.epsilon


def test_the_same_plan_gives_the_same_bytes_and_says_of_what(tmp_path: Path) -> None:
    for name in ("a", "b"):
        quick(STAYS, tmp_path / name)
    for file in (CSV, SVG):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    rows = list(csv.DictReader((tmp_path / "a" / CSV).read_text().splitlines()))
    assert {row["data"] for row in rows} == {"synthetic"} and len(rows) == 18
    assert SAID in (tmp_path / "a" / SVG).read_text()
    quick(STAYS.with_fields({"seed": 1}), tmp_path / "c")
    assert (tmp_path / "c" / CSV).read_bytes() != (tmp_path / "a" / CSV).read_bytes()


def test_images_are_swept_too(tmp_path: Path) -> None:
    points = sweep(tiny_plan(rounds=2), tmp_path, epsilons=(4.0,), repeats=1)
    assert {point.rounds for point in points} == {1, 2, 4} and all(0 <= point.figure <= 1 for point in points)


def test_a_sweep_without_any_point_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        sweep(STAYS, tmp_path, epsilons=(1e-9,), repeats=1)
    assert refused.value.code == "sweep.nothing" and not (tmp_path / CSV).exists()


TABLE = FeatureTable.from_value(
    {
        "features": [
            {"kind": "number", "name": "age", "lower": 0, "upper": 100},
            {"kind": "word", "name": "ward", "categories": ["a", "b", "c"]},
        ],
        "label": "ill",
    },
    what="table",
)


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.95))
def test_drawn_rows_lie_within_the_contract(seed: int, prevalence: float) -> None:
    rows, labels = drawn_rows(TABLE, count=2000, prevalence=prevalence, seed=seed)
    assert rows.shape == (2000, 4) and rows.min() >= -1 and rows.max() <= 1
    assert np.array_equal(rows[:, 1:].sum(axis=1), np.ones(2000))
    assert set(labels.tolist()) <= {0.0, 1.0} and abs(float(labels.mean()) - prevalence) < 0.08
    again, _ = drawn_rows(TABLE, count=2000, prevalence=prevalence, seed=seed)
    assert np.array_equal(rows, again)
