from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.drift import Level, from_auc, from_mean, is_under, level
from privacy.histogram import auc

CELLS = st.lists(st.integers(0, 200), min_size=8, max_size=8)
REPEATS = 4000
# Of 1,148 real chest X-rays that a small network has not seen, two of three with the finding: patients by label and
# eighth of the score, as the images are (AUC .93 in these bins) and inverted (.39).
USUAL = np.array([[219, 28, 23, 12, 9, 18, 17, 43], [4, 5, 5, 3, 9, 15, 27, 711]])
INVERTED = np.array([[1, 0, 0, 2, 1, 3, 3, 359], [15, 14, 21, 26, 29, 29, 61, 584]])
IN_FORCE, MARGIN, DEVIATIONS = 0.927, 0.15, 3.0


@given(CELLS, CELLS, st.floats(0.01, 0.99))
def test_without_noise_it_is_pairs_times_the_distance_of_the_auc(
    negatives: list[int], positives: list[int], figure: float
) -> None:
    histogram = np.array([negatives, positives], np.int64)
    found, exact = from_auc(histogram, figure, noise_variance=0.0), auc(histogram)
    assert found.weight == sum(negatives) * sum(positives)
    assert found.value == pytest.approx(found.weight * ((exact or 0.0) - figure), abs=1e-6)


@given(CELLS, st.floats(0.01, 0.99))
def test_without_noise_it_is_patients_times_the_distance_of_the_mean(row: list[int], figure: float) -> None:
    counts = np.array(row, np.int64)
    found = from_mean(counts, figure, noise_variance=0.0)
    by_hand = sum(count * ((number + 0.5) / 8 - figure) for number, count in enumerate(row))
    assert (found.weight, found.value) == (sum(row), pytest.approx(by_hand, abs=1e-9))


@given(st.lists(st.integers(-300, 300), min_size=16, max_size=16), st.floats(0.01, 0.99), st.floats(0.1, 500))
def test_whatever_the_noise_the_variance_is_one(cells: list[int], figure: float, variance: float) -> None:
    histogram = np.array(cells, np.int64).reshape(2, 8)
    for found in (
        from_auc(histogram, figure, noise_variance=variance),
        from_mean(histogram[0], figure, noise_variance=variance),
    ):
        assert found.variance > 0 and found.weight >= 0
        assert not is_under(found, figure_variance=1e9, deviations=3.0) or found.weight < 1


def nights(
    shares: npt.NDArray[np.int64] | npt.NDArray[np.float64], *, patients: int, noise_std: float
) -> list[npt.NDArray[np.int64]]:
    """Histograms of as many nights, each of other patients under fresh noise."""
    random = np.random.default_rng(7)
    exact = random.multinomial(patients, (shares / shares.sum()).ravel(), size=REPEATS)
    noise = np.rint(random.normal(0.0, noise_std, exact.shape))
    return list((exact + noise).astype(np.int64).reshape(REPEATS, 2, 8))


def alarms(
    shares: npt.NDArray[np.int64] | npt.NDArray[np.float64], *, patients: int, noise_std: float
) -> float:
    found = [
        is_under(
            from_auc(one, IN_FORCE - MARGIN, noise_variance=noise_std**2 + 1 / 12),
            figure_variance=0.0,
            deviations=DEVIATIONS,
        )
        for one in nights(shares, patients=patients, noise_std=noise_std)
    ]
    return float(np.mean(found))


@pytest.mark.parametrize(("patients", "noise_std"), [(130, 2.0), (200, 3.0), (390, 5.0)])
def test_an_inverted_hospital_is_caught_and_a_usual_one_left_alone(patients: int, noise_std: float) -> None:
    assert alarms(INVERTED, patients=patients, noise_std=noise_std) > 0.95
    assert alarms(USUAL, patients=patients, noise_std=noise_std) < 1e-3


@pytest.mark.parametrize("patients", [0, 10, 130, 390])
def test_too_few_patients_or_too_much_noise_give_no_alarm_and_no_false_one(patients: int) -> None:
    assert alarms(USUAL, patients=patients, noise_std=20.0) <= 1e-3
    assert alarms(INVERTED, patients=patients, noise_std=200.0) <= 2e-3


def test_a_hospital_that_lies_just_within_the_margin_is_not_taken_out() -> None:
    mixed = USUAL * 0.71 + INVERTED * 0.29
    exact = auc((mixed * 1000).astype(np.int64))
    assert exact is not None and exact == pytest.approx(IN_FORCE - MARGIN, abs=0.01)
    for patients in (130, 390):
        assert alarms(mixed, patients=patients, noise_std=5.0) < 2e-3


def test_a_figure_that_is_not_sure_itself_takes_more_to_lie_under() -> None:
    histogram = np.array([[5, 20], [60, 20]], np.int64)
    found = from_auc(histogram, 0.8, noise_variance=1.0)
    assert is_under(found, figure_variance=0.0, deviations=3.0)
    assert not is_under(found, figure_variance=0.2**2, deviations=3.0)
    assert level(found, 0.8) == Level(0.8, found.variance / found.weight**2)
    assert level(from_auc(np.zeros((2, 4), np.int64), 0.8, noise_variance=1.0), 0.8) is None
