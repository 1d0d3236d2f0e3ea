from __future__ import annotations

import hashlib
import math
from fractions import Fraction
from statistics import median

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from privacy.encoding import Encoding
from privacy.packing import Lanes
from privacy.robust_aggregation import (
    MICRO,
    RobustInvalidError,
    combined_mean,
    cosine_micro,
    cosine_scores_micro,
    geometric_median,
    gram,
    outliers,
    overlong,
)

SCALE = 12345.678


@st.composite
def clusters(draw: st.DrawFn) -> tuple[list[Lanes], list[int]]:
    count = draw(st.integers(1, 7))
    sizes = draw(st.lists(st.integers(1, 7), min_size=count, max_size=count))
    length = draw(st.integers(0, 12))
    lane = st.one_of(st.integers(-(2**31), 2**31 - 1), st.integers(-3, 3))
    rows = [draw(st_numpy.arrays(np.int32, length, elements=lane)) for _ in range(count)]
    return rows, sizes


def sums_of(directions: npt.NDArray[np.float64]) -> list[Lanes]:
    return [np.rint(row * 1000).astype(np.int32) for row in directions]


@given(clusters())
def test_the_combined_mean_is_the_median_of_the_exact_means(case: tuple[list[Lanes], list[int]]) -> None:
    sums, sizes = case
    combined = combined_mean(sums, sizes, SCALE)
    for place, value in enumerate(combined.tolist()):
        exact = median(
            Fraction(int(lanes[place]), size) for lanes, size in zip(sums, sizes, strict=True)
        ) / Fraction(SCALE)
        # Two roundings of doubles.
        assert abs(Fraction(value) - exact) <= abs(exact) * Fraction(1, 2**51)


@given(clusters())
def test_the_combined_mean_does_not_depend_on_the_order_of_the_clusters(
    case: tuple[list[Lanes], list[int]],
) -> None:
    sums, sizes = case
    assert (
        combined_mean(sums, sizes, SCALE).tobytes() == combined_mean(sums[::-1], sizes[::-1], SCALE).tobytes()
    )


def test_of_a_single_cluster_it_is_the_plain_mean_to_the_bit() -> None:
    encoding = Encoding(lane_bits=22, bound=1.0, maximum_sites=12)
    lanes = np.random.default_rng(1).integers(-100_000, 100_000, 200_001).astype(np.int32)
    plain = encoding.decode_sum(lanes, sites=7) / 7.0
    assert combined_mean([lanes], [7], encoding.scale).tobytes() == plain.tobytes()


def test_results_are_these_bytes_on_every_machine() -> None:
    """Sites compare digests of what they recompute: a change of one bit here splits a federation."""
    state, rows = 1, []
    for _ in range(5):
        row = []
        for _ in range(70_000):
            state = state * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
            row.append((state >> 40) - (1 << 23))
        rows.append(np.array(row, dtype=np.int32))
    digests = {
        name: hashlib.sha256(made.astype("<f8").tobytes()).hexdigest()[:16]
        for name, made in (
            ("odd", combined_mean(rows, [4, 5, 4, 3, 4], SCALE)),
            ("even", combined_mean(rows[:4], [4, 4, 4, 4], SCALE)),
            ("geometric", geometric_median(rows, [4, 5, 4, 3, 4], SCALE)),
        )
    }
    assert digests == GOLDEN


def test_inputs_are_left_as_they_were() -> None:
    sums = [np.array([value, -value], dtype=np.int32) for value in (3, 1, 2)]
    before = [lanes.copy() for lanes in sums]
    combined_mean(sums, [4, 4, 4], SCALE)
    geometric_median(sums, [4, 4, 5], SCALE)
    assert all((a == b).all() for a, b in zip(sums, before, strict=True))


@given(st.integers(1, 3), st.data())
def test_a_minority_of_clusters_cannot_leave_the_range_of_the_clean_ones(
    hostile: int, data: st.DataObject
) -> None:
    lane = st.integers(-1000, 1000)
    clean = [data.draw(st_numpy.arrays(np.int32, 4, elements=lane)) for _ in range(hostile + 1)]
    wild = st.integers(-(2**31), 2**31 - 1)
    spoilt = [data.draw(st_numpy.arrays(np.int32, 4, elements=wild)) for _ in range(hostile)]
    combined = combined_mean([*spoilt, *clean], [4] * (2 * hostile + 1), 1.0)
    assert (combined >= np.min(clean, axis=0) / 4.0).all() and (combined <= np.max(clean, axis=0) / 4.0).all()


@given(clusters())
def test_inner_products_are_exact(case: tuple[list[Lanes], list[int]]) -> None:
    sums, _ = case
    rows = [[int(value) for value in lanes] for lanes in sums]
    expected = tuple(tuple(sum(a * b for a, b in zip(x, y, strict=True)) for y in rows) for x in rows)
    assert gram(sums) == expected


@pytest.mark.parametrize("value", [(1 << 18) - 1, 1 << 18, (1 << 31) - 1, -(1 << 31)])
def test_inner_products_are_exact_where_every_partial_sum_is_as_large_as_it_gets(value: int) -> None:
    length = 3 * (1 << 16) + 5
    assert gram([np.full(length, value, dtype=np.int32)]) == ((length * value * value,),)


@given(clusters())
def test_a_cosine_is_exact_to_the_millionth(case: tuple[list[Lanes], list[int]]) -> None:
    products = gram(case[0])
    for i in range(len(products)):
        for j in range(len(products)):
            score = cosine_micro(products, i, j)
            lengths = products[i][i] * products[j][j]
            # score/MICRO <= |cosine| < (score + 1)/MICRO, squared so that it stays in whole numbers.
            assert -MICRO <= score <= MICRO and (score == 0 or (score > 0) == (products[i][j] > 0))
            if lengths:
                square = products[i][j] ** 2 * MICRO**2
                assert score**2 * lengths <= square < (abs(score) + 1) ** 2 * lengths


def test_a_huge_turned_update_is_the_outlier_and_frames_nobody() -> None:
    """One cluster of three shouts: a score against the mean of the other two would condemn the clean ones."""
    rng = np.random.default_rng(2)
    signal = rng.normal(size=10_000)
    rows = signal + rng.normal(size=(3, 10_000)) * 2
    rows[1] = -50 * rows[1]
    sums = sums_of(rows)
    framed = [float(rows[k] @ (np.delete(rows, k, 0).mean(0))) < 0 for k in range(3)]
    assert framed == [True, True, True]
    assert outliers(cosine_scores_micro(gram(sums)), 10_000) == (1,)


def test_two_of_five_that_agree_with_each_other_are_both_outliers() -> None:
    rng = np.random.default_rng(3)
    signal = rng.normal(size=10_000)
    rows = signal + rng.normal(size=(5, 10_000)) * 2
    rows[[1, 4]] = -signal + rng.normal(size=(2, 10_000)) * 0.1
    assert outliers(cosine_scores_micro(gram(sums_of(rows))), 10_000) == (1, 4)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_one_of_three_frames_a_clean_cluster_only_if_a_clean_one_points_against_it_too(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = np.abs(rng.normal(size=(2, 50)))  # Their cosine is positive.
    h = rng.normal(size=50) * 10.0 ** rng.integers(-3, 4) - rng.integers(0, 1000) * a
    scores = cosine_scores_micro(gram(sums_of(np.stack([a, h, b]))))
    assert set(outliers(scores, 50)) <= {1}


def test_clusters_of_pure_noise_are_no_outliers() -> None:
    rng = np.random.default_rng(4)
    for _ in range(200):
        assert outliers(cosine_scores_micro(gram(sums_of(rng.normal(size=(3, 500))))), 500) == ()


def test_a_score_at_the_bound_is_no_outlier_and_beyond_it_is_one() -> None:
    assert outliers([-6000, -6001, 6001, 0], 10**6) == (1,)
    assert outliers([-MICRO], 36) == () and outliers([-MICRO], 37) == (0,)


def test_a_sum_that_is_longer_than_clipped_updates_add_up_to_is_proof() -> None:
    encoding = Encoding(lane_bits=22, bound=1.0, maximum_sites=12)
    rng = np.random.default_rng(5)
    direction = rng.normal(size=400)
    direction /= np.linalg.norm(direction) * 1.0001
    honest = [encoding.encode(direction) for _ in range(4)]
    clean = np.sum(honest, axis=0).astype(np.int32)
    liar = encoding.encode(np.clip(direction * 1.2, -1, 1))
    spoilt = np.sum([*honest[:3], liar], axis=0).astype(np.int32)
    assert overlong([clean, spoilt, clean], [4, 4, 4], encoding, clip_l2=encoding.bound) == (1,)
    # Where honest updates do not add up, a lie of this length hides among them: the bound holds for the sum alone.
    hidden = np.sum([honest[0], -honest[1], honest[2], liar], axis=0).astype(np.int32)
    assert overlong([hidden], [4], encoding, clip_l2=encoding.bound) == ()


@pytest.mark.parametrize("dimension", [50, 5000])
def test_the_geometric_median_has_no_point_near_it_that_is_nearer_to_all(dimension: int) -> None:
    rng = np.random.default_rng(6)
    sums = sums_of(rng.normal(size=(5, dimension)) + np.outer([0, 0, 0, 0, 30], np.ones(dimension)))
    sizes = [4, 5, 4, 3, 4]
    means = np.array([lanes / size for lanes, size in zip(sums, sizes, strict=True)])

    def distances(point: npt.NDArray[np.float64]) -> float:
        return float(np.linalg.norm(means - point, axis=1).sum())

    found = geometric_median(sums, sizes, 1.0)
    least = distances(found)
    assert least < min(distances(means.mean(0)), distances(np.median(means, axis=0)), *map(distances, means))
    gradient = sum((found - mean) / np.linalg.norm(found - mean) for mean in means)
    assert np.linalg.norm(gradient) < 1e-3


def test_the_geometric_median_of_equal_clusters_is_that_cluster() -> None:
    lanes = np.arange(-50, 50, dtype=np.int32) * 1000
    assert np.allclose(geometric_median([lanes] * 3, [4] * 3, 2.0), lanes / 8.0, rtol=1e-12)
    assert geometric_median([np.zeros(3, dtype=np.int32)] * 3, [4] * 3, 2.0).tolist() == [0.0] * 3


def test_what_the_median_costs_under_noise_and_the_geometric_one_does_not() -> None:
    """Variance beside that of the mean: 1.35 of three and 1.43 of five clusters (pi/2 of many)."""
    rng = np.random.default_rng(7)
    for count, factor in ((3, 1.346), (5, 1.434)):
        sums = [np.rint(row).astype(np.int32) for row in rng.normal(0, 1e4, (count, 200_000))]
        mean = np.var(np.mean(sums, axis=0))
        assert np.var(combined_mean(sums, [1] * count, 1.0)) / mean == pytest.approx(factor, rel=0.02)
        assert np.var(geometric_median(sums, [1] * count, 1.0)) / mean == pytest.approx(1.0, rel=0.01)


ROW = np.zeros(3, dtype=np.int32)


@pytest.mark.parametrize(
    ("sums", "sizes", "scale"),
    [
        ([], [], 1.0),
        ([ROW], [4, 4], 1.0),
        ([ROW], [0], 1.0),
        ([ROW, ROW], [25, 26], 1.0),
        ([ROW, ROW[:2]], [4, 4], 1.0),
        ([ROW.astype(np.int64)], [4], 1.0),
        ([ROW.reshape(3, 1)], [4], 1.0),
        ([ROW], [4], 0.0),
        ([ROW], [4], math.nan),
        ([ROW], [4], math.inf),
    ],
)
def test_sums_that_do_not_belong_together_are_refused(
    sums: list[Lanes], sizes: list[int], scale: float
) -> None:
    for combine in (combined_mean, geometric_median):
        with pytest.raises(RobustInvalidError) as refusal:
            combine(sums, sizes, scale)
        assert refusal.value.code == "privacy.robust-invalid"


def test_of_two_clusters_neither_can_be_said_to_stand_apart() -> None:
    with pytest.raises(RobustInvalidError):
        cosine_scores_micro(gram([ROW, ROW]))


GOLDEN = {"odd": "ca71bd35530ff82d", "even": "943335e616296af7", "geometric": "57c6233b7ec9df24"}
