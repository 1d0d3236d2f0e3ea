from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import privacy.statistics_noise as noise_module
from privacy.accounting import ORDERS, curve
from privacy.packing import Packing
from privacy.statistics import AreaUnderCurve, Count, Histogram, Mean, Query, Sum, Variance, mechanism
from privacy.statistics_lanes import Table, exact_lanes
from privacy.statistics_noise import (
    NoiseDisagreementError,
    StatisticsCapacityError,
    add_noise,
    capacity,
    noised_lanes,
    sigma,
)
from privacy.statistics_reading import read_sum

WIDE = Packing(lane_bits=32, maximum_sites=5)
# Statistical tests run on true randomness: each threshold fails a correct sampler less than once in 10^7 runs.
P_VALUE = 1e-8


def age(multiplier: float) -> Mean:
    return Mean(name="age", noise_multiplier=multiplier, column="x", lower=20, upper=100, resolution=1)


def ages(count: int) -> Table:
    values = np.random.default_rng(count).normal(60, 15, count)
    return Table(
        patients=[str(number) for number in range(count)],
        numbers={"x": values, "y": (values > 60).astype(np.float64), "s": np.clip(values / 100, 0, 1)},
    )


@pytest.mark.parametrize("multiplier", [0.7, 3.0])
def test_the_noise_is_the_discrete_gaussian_on_every_lane(multiplier: float) -> None:
    query = Count(name="q", noise_multiplier=multiplier)
    exact = np.full(25_000, 1000, dtype=np.int64)
    noise = add_noise(exact, query) - exact
    reach = int(6 * multiplier) + 1
    places = np.arange(-reach, reach + 1)
    weights = np.exp(-(places**2) / (2 * multiplier**2))
    expected = len(noise) * weights / weights.sum()
    often = expected >= 10
    seen = np.array([(noise == place).sum() for place in places])
    observed, wanted = [*seen[often], len(noise) - seen[often].sum()], [*expected[often]]
    assert stats.chisquare(observed, [*wanted, len(noise) - sum(wanted)]).pvalue > P_VALUE
    # Neighbours know nothing of each other.
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 6 / math.sqrt(len(noise))


def test_the_noise_grows_with_the_sensitivity() -> None:
    query = age(2.0)
    noise = add_noise(np.zeros(20_000, dtype=np.int64), query)
    assert sigma(query) == pytest.approx(2 * math.sqrt(2) * 40)
    assert abs(noise.var() / sigma(query) ** 2 - 1) < 6 * math.sqrt(2 / len(noise))
    assert stats.kstest(noise / sigma(query), "norm").pvalue > P_VALUE


def test_every_release_draws_anew() -> None:
    table, queries = ages(50), [age(5.0), Count(name="n", noise_multiplier=5.0)]
    draws = {tuple(noised_lanes(queries, table, packing=WIDE).tolist()) for _ in range(5)}
    assert len(draws) == 5


@given(st.floats(0.01, 1e6), st.integers(1, 2**44))
@settings(max_examples=200, deadline=None)
def test_sigma_is_never_below_what_is_paid_for(multiplier: float, squared: int) -> None:
    class Any:
        noise_multiplier = multiplier
        squared_sensitivity = squared

    found = sigma(Any())
    least = Fraction(multiplier) ** 2 * squared
    assert Fraction(found) ** 2 >= least
    assert found <= multiplier * math.sqrt(squared) * (1 + 1e-15)


@pytest.mark.parametrize("multiplier", [0.3, 1.0, 3.7, 10.0, 250.0])
@pytest.mark.parametrize("kind", [Sum, Mean, Variance])
def test_opendp_and_our_accounting_agree_on_the_price(
    multiplier: float, kind: type[Sum] | type[Mean] | type[Variance]
) -> None:
    """OpenDP's map is zCDP: a Rényi divergence of at most rho * order at every order. Ours is that curve in
    micro-units, rounded up."""
    from opendp.domains import atom_domain, vector_domain
    from opendp.measurements import make_gaussian
    from opendp.metrics import l2_distance
    from opendp.mod import enable_features

    enable_features("contrib")
    query = kind(name="q", noise_multiplier=multiplier, column="x", lower=-3, upper=41, resolution=0.5)
    noisy = make_gaussian(vector_domain(atom_domain(T="i64")), l2_distance(T="f64"), scale=sigma(query))
    assert str(noisy.output_measure) == "ZeroConcentratedDivergence"
    rho = float(noisy.map(math.sqrt(query.squared_sensitivity)))
    priced = curve(mechanism(query))
    for order in ORDERS:
        theirs = rho * order * 1e6
        assert theirs * (1 - 1e-9) <= priced.at(order) <= theirs * (1 + 1e-9) + 1


def test_nothing_is_released_when_the_noise_library_reckons_with_another_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(noise_module, "sigma", lambda query: 0.999 * query.noise_multiplier)
    with pytest.raises(NoiseDisagreementError) as refused:
        add_noise(np.zeros(3, dtype=np.int64), Count(name="q", noise_multiplier=4.0))
    assert refused.value.code == "privacy.noise-disagreement"


# Room in the lanes.


def test_more_patients_than_fit_are_refused_without_saying_how_many_there_are() -> None:
    packing = Packing(lane_bits=16, maximum_sites=5)
    most = capacity([age(1.0)], packing)
    assert noised_lanes([age(1.0)], ages(most), packing=packing).dtype == np.int32
    with pytest.raises(StatisticsCapacityError) as refused:
        noised_lanes([age(1.0)], ages(most + 1), packing=packing)
    assert str(most + 1) not in str(refused.value)
    with pytest.raises(StatisticsCapacityError):
        capacity([age(100.0)], packing)


@pytest.mark.parametrize("lane_bits", [20, 32])
def test_the_fullest_table_fits_with_noise_of_the_stated_bound(lane_bits: int) -> None:
    packing = Packing(lane_bits=lane_bits, maximum_sites=5)
    queries: list[Query] = [age(3.0), Count(name="n", noise_multiplier=3.0)]
    most = capacity(queries, packing)
    tail = [sigma(query) * math.sqrt(2 * math.log(4 * 2.0**41)) for query in queries]
    assert most * 40 + tail[0] <= packing.site_limit
    assert (most + 1) * 40 + tail[0] + 1 > packing.site_limit
    # Four lanes, two tails each, all together at most 2^-40.
    for query, bound in zip(queries, tail, strict=True):
        assert 4 * 2 * math.exp(-(bound**2) / (2 * sigma(query) ** 2)) <= 2.0**-40 * (1 + 1e-9)


def test_noise_that_leaves_its_bounds_is_a_failure_and_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    for far in (2**31, -(2**31), 2**40, WIDE.site_limit + 1):
        monkeypatch.setattr(noise_module, "add_noise", lambda exact, query, far=far: exact + far)
        with pytest.raises(StatisticsCapacityError):
            noised_lanes([Count(name="n", noise_multiplier=1.0)], Table(patients=[]), packing=WIDE)


# Half-widths.


@pytest.mark.parametrize(
    ("query", "label"),
    [
        (Count(name="q", noise_multiplier=4.0), "patients"),
        (age(4.0), "mean"),
        (age(4.0), "patients"),
        (
            Variance(name="q", noise_multiplier=4.0, column="x", lower=20, upper=100, resolution=1),
            "variance",
        ),
        (Sum(name="q", noise_multiplier=4.0, column="x", lower=20, upper=100, resolution=1), "sum"),
        (AreaUnderCurve(name="q", noise_multiplier=4.0, score="s", label="y", bins=16), "auc"),
        (Histogram(name="q", noise_multiplier=4.0, column="x", edges=(20, 60, 100)), "[20, 60)"),
    ],
)
def test_nineteen_of_twenty_intervals_hold_the_figure_without_noise(query: Query, label: str) -> None:
    sites, runs = 4, 400
    # A score that tells the labels apart in part only: an area of 1 has no width.
    table = ages(1500)
    mixed = np.clip(table.numbers["s"] + np.random.default_rng(0).normal(0, 0.3, 1500), 0, 1)
    table = Table(patients=table.patients, numbers={**table.numbers, "s": mixed})
    exact = sites * exact_lanes([query], table)
    truth = read_sum([query], exact.astype(np.int32), sites=sites)[0].figure(label).value
    assert truth is not None
    noise = add_noise(np.zeros(sites * runs * len(exact), dtype=np.int64), query).reshape(runs, sites, -1)
    hits = 0
    for row in noise.sum(axis=1):
        figure = read_sum([query], (exact + row).astype(np.int32), sites=sites)[0].figure(label)
        assert figure.value is not None and figure.half_width is not None
        hits += abs(figure.value - truth) <= figure.half_width
    # 380 of 400 are expected; six standard deviations fewer are not.
    assert hits >= 354


def test_a_mean_is_withheld_when_noise_may_have_made_the_count() -> None:
    query = age(10.0)
    nobody = np.zeros(3, dtype=np.int64)
    released = [
        read_sum([query], add_noise(nobody, query).astype(np.int32), sites=1)[0].figure("mean").value
        for _ in range(50)
    ]
    assert released == [None] * 50
    full = read_sum([query], np.array([4000, 0, 0], dtype=np.int32), sites=1)[0].figure("mean")
    assert full.value is not None and 20 <= full.value <= 100


def test_an_area_is_withheld_when_noise_may_have_made_the_patients() -> None:
    query = AreaUnderCurve(name="q", noise_multiplier=10.0, score="s", label="y", bins=8)
    nobody = np.zeros(query.lane_count, dtype=np.int64)
    for _ in range(50):
        lanes = add_noise(nobody, query).astype(np.int32)
        # Twice a half-width is 3.9 standard deviations: true randomness passes it in both rows once in 10^8.
        assert read_sum([query], lanes, sites=1)[0].figure("auc").value is None


def test_noise_never_takes_a_figure_where_no_figure_can_be() -> None:
    spread = Variance(name="q", noise_multiplier=1.0, column="x", lower=20, upper=100, resolution=1)
    for lanes, mean, variance in (
        ([40_000, 90_000, -40_000, 0], 100.0, 0.0),
        ([40_000, -90_000, 900_000, 0], 20.0, 1600.0),
    ):
        released = read_sum([spread], np.array(lanes, dtype=np.int32), sites=1)[0]
        assert released.figure("mean").value == mean
        assert released.figure("variance").value in (variance, 0.0)


def test_the_noise_library_is_loaded_on_use_only() -> None:
    code = (
        "import sys, privacy.statistics_noise, privacy.statistics_reading; sys.exit('opendp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
