"""Joint statistics of real hospitals' tables, through a shared sum, beside what pandas says of all rows at once."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from ledger.errors import InputError
from privacy.packing import Lanes, Packing
from privacy.statistics import (
    AreaUnderCurve,
    Count,
    Histogram,
    Mean,
    Query,
    Variance,
    lane_count,
)
from privacy.statistics_lanes import Table, exact_lanes
from privacy.statistics_noise import noised_lanes
from privacy.statistics_reading import Released, read_sum
from tests.privacy.shared_scheme import SharedScheme, context

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")
TINY = 0.01


def value(released: Released, label: str) -> float:
    found = released.figure(label).value
    assert found is not None
    return found


def hospital(name: str) -> pd.DataFrame:
    path = DATA / "heart" / f"processed.{name}.data"
    if not path.is_file():
        pytest.skip("the data sets are not on this machine")
    columns = ["age", "sex", "cp", "trestbps", "chol", *[f"c{number}" for number in range(8)], "num"]
    return pd.read_csv(path, names=columns, na_values="?")


def heart_table(frame: pd.DataFrame) -> Table:
    return Table(
        patients=[str(number) for number in range(len(frame))],
        numbers={
            name: frame[name].to_numpy(dtype=np.float64, na_value=math.nan) for name in ("age", "chol", "cp")
        }
        | {"disease": (frame["num"] > 0).to_numpy(dtype=np.float64), "score": frame["age"].to_numpy() / 100},
        words={"sex": ["male" if one == 1 else "female" for one in frame["sex"]]},
    )


def heart_queries(multiplier: float) -> list[Query]:
    return [
        Count(name="all", noise_multiplier=multiplier),
        Mean(name="age", noise_multiplier=multiplier, column="age", lower=20, upper=90, resolution=1),
        Variance(name="chol", noise_multiplier=multiplier, column="chol", lower=0, upper=600, resolution=1),
        Histogram(name="pain", noise_multiplier=multiplier, column="cp", edges=(0.5, 1.5, 2.5, 3.5, 4.5)),
        Histogram(name="sex", noise_multiplier=multiplier, column="sex", categories=("female", "male")),
        AreaUnderCurve(name="auc", noise_multiplier=multiplier, score="score", label="disease", bins=100),
    ]


def through_a_shared_sum(queries: list[Query], rows: list[Lanes], packing: Packing) -> list[Released]:
    about = context(len(rows))
    scheme = SharedScheme.of(about, lane_count=lane_count(queries), packing=packing)
    reports = scheme.reports(dict(zip(about.roster.names, rows, strict=True)))
    opened = scheme.coordinator.open(reports, scheme.answers(reports))
    return list(read_sum(queries, opened, sites=len(rows)))


def test_four_hospitals_without_noise_say_what_pandas_says_of_them_all() -> None:
    frames = [hospital(name) for name in HOSPITALS]
    pooled = pd.concat(frames)
    queries, packing = heart_queries(TINY), Packing(lane_bits=32, maximum_sites=5)
    rows = [exact_lanes(queries, heart_table(frame)).astype(np.int32) for frame in frames]
    patients, age, chol, pain, sex, area = through_a_shared_sum(queries, rows, packing)
    assert value(patients, "patients") == len(pooled) == 920
    assert value(age, "mean") == pytest.approx(pooled["age"].mean())
    assert value(chol, "mean") == pytest.approx(pooled["chol"].clip(0, 600).mean())
    assert value(chol, "variance") == pytest.approx(pooled["chol"].clip(0, 600).var(ddof=0), rel=1e-3)
    assert value(chol, "missing") == pooled["chol"].isna().sum() > 0
    by_pain = pooled["cp"].value_counts().sort_index().to_list()
    assert [figure.value for figure in pain.figures[:-1]] == by_pain
    assert value(sex, "male") == (pooled["sex"] == 1).sum()
    assert value(area, "auc") == pytest.approx(roc_auc_score(pooled["num"] > 0, pooled["age"]), abs=1e-3)


def test_four_hospitals_with_noise_say_nearly_the_same() -> None:
    frames = [hospital(name) for name in HOSPITALS]
    queries, packing = heart_queries(2.0), Packing(lane_bits=32, maximum_sites=5)
    exact = [exact_lanes(queries, heart_table(frame)).astype(np.int32) for frame in frames]
    noisy = [noised_lanes(queries, heart_table(frame), packing=packing) for frame in frames]
    plain = through_a_shared_sum(queries, exact, packing)
    for before, after in zip(plain, through_a_shared_sum(queries, noisy, packing), strict=True):
        for one, other in zip(before.figures, after.figures, strict=True):
            assert one.value is not None and other.value is not None and other.half_width is not None
            # Four half-widths are eight standard deviations, less what the delta method leaves out.
            assert abs(one.value - other.value) <= 4 * other.half_width


def test_hospital_stays_of_one_patient_are_no_table_until_they_are_one_row() -> None:
    path = DATA / "diabetes130_5000.csv"
    if not path.is_file():
        pytest.skip("the data sets are not on this machine")
    stays = pd.read_csv(path, usecols=["patient_nbr", "time_in_hospital", "gender"])
    with pytest.raises(InputError):
        Table(patients=[str(one) for one in stays["patient_nbr"]])
    days = stays.groupby("patient_nbr")["time_in_hospital"].max()
    one_each = Table(
        patients=[str(one) for one in days.index], numbers={"days": days.to_numpy(dtype=np.float64)}
    )
    query = Mean(name="days", noise_multiplier=TINY, column="days", lower=0, upper=14, resolution=1)
    released = read_sum([query], exact_lanes([query], one_each).astype(np.int32), sites=1)[0]
    assert value(released, "mean") == pytest.approx(days.mean())
    assert value(released, "patients") == len(days) == 4259
