from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from privacy.accounting import curve
from privacy.histogram import HistogramInvalidError, auc, noised, score_histogram
from privacy.mechanisms import Gaussian
from privacy.noise import NoiseStream

SCORES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=60)


@given(SCORES, st.integers(1, 256))
def test_each_patient_is_counted_once_in_the_right_cell(pairs: list[tuple[float, int]], bins: int) -> None:
    scores, labels = np.array([s for s, _ in pairs]), np.array([label for _, label in pairs])
    histogram = score_histogram(scores, labels, bins)
    assert histogram.shape == (2, bins) and histogram.sum() == len(pairs)
    by_hand = np.zeros((2, bins), dtype=np.int64)
    for score, label in pairs:
        by_hand[label, min(int(score * bins), bins - 1)] += 1
    assert (histogram == by_hand).all()


@given(SCORES, st.tuples(st.floats(0, 1), st.integers(0, 1)), st.integers(1, 64))
def test_one_patient_moves_the_histogram_by_one(
    pairs: list[tuple[float, int]], more: tuple[float, int], bins: int
) -> None:
    def count(all_pairs: list[tuple[float, int]]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
        scores, labels = zip(*all_pairs, strict=True)
        return score_histogram(np.array(scores), np.array(labels), bins)

    assert float(np.linalg.norm(count([*pairs, more]) - count(pairs))) == 1.0


@given(SCORES, st.integers(1, 256))
def test_without_noise_the_auc_is_that_of_the_binned_scores(
    pairs: list[tuple[float, int]], bins: int
) -> None:
    scores, labels = np.array([s for s, _ in pairs]), np.array([label for _, label in pairs])
    got = auc(score_histogram(scores, labels, bins))
    if len(set(labels.tolist())) == 1:
        assert got is None
    else:
        binned = np.minimum((scores * bins).astype(int), bins - 1)
        assert got == pytest.approx(roc_auc_score(labels, binned))


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=512).filter(lambda cells: len(cells) % 2 == 0))
def test_whatever_the_noise_an_auc_is_one_or_none(cells: list[int]) -> None:
    area = auc(np.array(cells, dtype=np.int64).reshape(2, -1))
    assert area is None or 0.0 <= area <= 1.0


def test_cumulative_counts_are_made_to_rise() -> None:
    # Cumulative (5, 3, 8) becomes (4, 4, 8); the other row is untouched.
    falling = np.array([[5, -2, 5], [0, 4, 4]], dtype=np.int64)
    assert auc(falling) == pytest.approx((4 * 1.0 + 0 + 4 * (4 / 8) / 2) / 8)
    # Cumulative (-4, 4) becomes (0, 4).
    assert auc(np.array([[-4, 8], [2, 2]], dtype=np.int64)) == pytest.approx(0.25)
    assert auc(np.array([[-5, -2], [1, 1]], dtype=np.int64)) is None


def test_noise_does_not_pull_the_auc_towards_a_half() -> None:
    generator = np.random.default_rng(5)
    labels = (np.arange(1500) % 3 == 0).astype(np.int64)
    scores = 1 / (1 + np.exp(-(generator.normal(size=1500) + 2.4 * labels - 1.2) * 2))
    histogram = score_histogram(scores, labels, 32)
    exact = auc(histogram)
    assert exact is not None
    with NoiseStream() as stream:
        areas = [auc(noised(histogram, 5.0, stream)) for _ in range(200)]
    errors = np.array([area - exact for area in areas if area is not None])
    assert len(errors) == 200
    # Setting negative cells to zero instead gives a mean error of about -0.018 here.
    assert abs(errors.mean()) < 0.006 and errors.std() < 0.02


def test_the_noise_is_a_gaussian_on_every_cell() -> None:
    histogram = np.full((2, 256), 100, dtype=np.int64)
    with NoiseStream() as stream:
        noise = np.concatenate([(noised(histogram, 7.0, stream) - histogram).reshape(-1) for _ in range(100)])
    assert abs(noise.mean()) < 6 * 7 / math.sqrt(len(noise))
    # Rounding to whole counts adds a variance of 1/12.
    assert abs(noise.var() / (49 + 1 / 12) - 1) < 6 * math.sqrt(2 / len(noise))
    assert (
        stats.kstest((noise + np.random.default_rng(0).random(len(noise)) - 0.5) / 7.006, "norm").pvalue
        > 1e-8
    )
    with NoiseStream() as stream, pytest.raises(HistogramInvalidError):
        noised(histogram, 1e300, stream)


def test_the_cost_is_that_of_a_gaussian_of_sensitivity_one() -> None:
    assert curve(Gaussian(noise_multiplier=5.0, count=3)).rdp_micro[0] == 3 * 2 * 1_000_000 // 50


@pytest.mark.parametrize(
    ("scores", "labels", "bins"),
    [
        ([0.5], [0], 0),
        ([0.5], [0], 257),
        ([math.nan], [0], 8),
        ([1.1], [0], 8),
        ([-0.1], [0], 8),
        ([0.5], [2], 8),
        ([0.5, 0.5], [0], 8),
        ([[0.5]], [[0]], 8),
    ],
)
def test_scores_that_cannot_be_counted_are_refused(scores: list[float], labels: list[int], bins: int) -> None:
    with pytest.raises(HistogramInvalidError) as refusal:
        score_histogram(np.array(scores), np.array(labels), bins)
    assert refusal.value.code == "privacy.histogram-invalid"


def test_arrays_that_are_no_histogram_are_refused() -> None:
    for wrong in (np.zeros((3, 4), dtype=np.int64), np.zeros((2, 4)), np.zeros((2, 0), dtype=np.int64)):
        with pytest.raises(HistogramInvalidError):
            auc(wrong)  # type: ignore[arg-type]
