"""Figures of scores against scikit-learn, against binning's stated bounds, and under noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from privacy.histogram import HistogramInvalidError, auc, score_histogram
from privacy.scores import ScoreFigures, of_histogram, of_scores

PAIRS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=60)
Pair = tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]


def columns(pairs: list[tuple[float, int]]) -> Pair:
    return np.array([s for s, _ in pairs]), np.array([label for _, label in pairs])


def population(random: np.random.Generator, patients: int) -> Pair:
    """Well calibrated scores: who has the finding is drawn with the probability that the score says."""
    scores = random.beta(0.8, 0.8, patients)
    return scores, (random.random(patients) < scores).astype(np.int64)


@given(PAIRS)
def test_exact_figures_are_those_of_scikit_learn(pairs: list[tuple[float, int]]) -> None:
    scores, labels = columns(pairs)
    found = of_scores(scores, labels)
    answers = (scores >= 0.5).astype(int)
    assert found.at_half.accuracy == pytest.approx(accuracy_score(labels, answers))
    assert found.brier == pytest.approx(brier_score_loss(labels, scores, pos_label=1))
    if labels.any():
        assert found.at_half.sensitivity == pytest.approx(recall_score(labels, answers))
    else:
        assert found.at_half.sensitivity is None
    if labels.all():
        assert found.at_half.specificity is None
    else:
        assert found.at_half.specificity == pytest.approx(recall_score(1 - labels, 1 - answers))
    if 0 < labels.sum() < len(labels):
        assert found.auc == pytest.approx(roc_auc_score(labels, scores))
        false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
        assert found.roc == pytest.approx(np.column_stack([false, true]))
        # The best threshold is one that no other beats.
        assert found.best is not None and found.best.sensitivity is not None
        assert found.best.specificity is not None
        gained = found.best.sensitivity + found.best.specificity - 1
        assert gained == pytest.approx(float((true - false).max()))
    else:
        assert found.auc is None and found.best is None and found.roc == ()


@given(PAIRS, st.integers(2, 128).map(lambda half: 2 * half))
def test_binning_costs_no_more_than_it_says(pairs: list[tuple[float, int]], bins: int) -> None:
    scores, labels = columns(pairs)
    exact, read = of_scores(scores, labels, groups=bins), of_histogram(score_histogram(scores, labels, bins))
    assert read.at_half.accuracy == pytest.approx(exact.at_half.accuracy)
    assert read.at_half.sensitivity == pytest.approx(exact.at_half.sensitivity)
    assert read.at_half.specificity == pytest.approx(exact.at_half.specificity)
    assert read.brier is not None and exact.brier is not None
    assert abs(read.brier - exact.brier) <= 1 / bins
    assert read.calibration_error is not None and exact.calibration_error is not None
    assert abs(read.calibration_error - exact.calibration_error) <= 1 / (2 * bins) + 1e-12
    if exact.auc is not None:
        assert read.auc is not None and read.auc_within is not None
        assert abs(read.auc - exact.auc) <= read.auc_within + 1e-12


@given(PAIRS, st.integers(1, 256))
def test_the_auc_is_the_one_that_gates_use(pairs: list[tuple[float, int]], bins: int) -> None:
    histogram = score_histogram(*columns(pairs), bins)
    assert of_histogram(histogram).auc == pytest.approx(auc(histogram))


@given(
    st.lists(st.integers(-1000, 1000), min_size=2, max_size=512).filter(lambda cells: len(cells) % 2 == 0),
    st.floats(0, 100),
)
def test_whatever_the_noise_every_figure_is_a_share(cells: list[int], noise_std: float) -> None:
    found = of_histogram(np.array(cells, dtype=np.int64).reshape(2, -1), noise_std=noise_std)
    assert all(0 <= value <= 1 + 1e-9 for value in found.numbers().values())
    assert all(0 <= value <= 1 for point in found.roc for value in point)
    weights = [group.weight for group in found.reliability]
    assert not weights or sum(weights) == pytest.approx(1)


def test_nobody_at_all_has_no_figures() -> None:
    found = of_histogram(np.zeros((2, 8), np.int64))
    assert found.numbers() == {} and found.reliability == ()


@pytest.mark.parametrize(
    "scores, labels",
    [([1.5], [0]), ([0.5], [2]), ([float("nan")], [1]), ([0.1, 0.2], [1])],
)
def test_what_is_no_score_is_refused(scores: list[float], labels: list[int]) -> None:
    with pytest.raises(HistogramInvalidError):
        of_scores(np.array(scores), np.array(labels))


def noisy(random: np.random.Generator, histogram: npt.NDArray[np.int64], std: float) -> ScoreFigures:
    drawn = np.rint(random.normal(0, std, histogram.shape)).astype(np.int64)
    return of_histogram(histogram + drawn, noise_std=std)


@pytest.mark.parametrize("patients, most", [(600, 0.13), (4000, 0.035)])
def test_under_the_noise_of_four_sites_figures_stay_close(patients: int, most: float) -> None:
    """32 bins and a noise of 5 a site: the errors that docs/evaluation.md states."""
    random = np.random.default_rng(6)
    errors: dict[str, list[float]] = {}
    for _ in range(40):
        scores, labels = population(random, patients)
        exact = of_scores(scores, labels).numbers()
        read = noisy(random, score_histogram(scores, labels, 32), 10.0).numbers()
        for name in ("auc", "accuracy", "sensitivity", "specificity", "brier", "calibration_error"):
            errors.setdefault(name, []).append(read[name] - exact[name])
    rms = {name: float(np.sqrt(np.mean(np.square(values)))) for name, values in errors.items()}
    assert all(value < most for value in rms.values()), rms


def test_noise_alone_does_not_look_like_miscalibration() -> None:
    """Bins of their own would: their noise is larger than what they hold."""
    random = np.random.default_rng(7)
    scores, labels = population(random, 2000)
    histogram = score_histogram(scores, labels, 64)
    joined = np.mean([noisy(random, histogram, 10.0).calibration_error or 0 for _ in range(30)])
    drawn = [histogram + np.rint(random.normal(0, 10, (2, 64))).astype(np.int64) for _ in range(30)]
    apart = np.mean([of_histogram(one).calibration_error or 0 for one in drawn])
    assert joined < 0.05 and joined < apart / 2, (joined, apart)
