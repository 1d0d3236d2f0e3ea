"""The calibration head: it finds a known miscalibration, keeps the order, and refuses what it cannot fit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from privacy.scores import of_scores
from tasks.train.calibration import fit_head

DIGEST = "0" * 64


def overconfident(
    random: np.random.Generator, patients: int, *, slope: float, offset: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Scores whose logits are to be multiplied by `slope` and moved by `offset`."""
    logits = random.normal(0, 3, patients)
    chances = 1 / (1 + np.exp(-(slope * logits + offset)))
    return (1 / (1 + np.exp(-logits))).astype(np.float32), (random.random(patients) < chances).astype(
        np.int64
    )


def test_it_finds_the_miscalibration_that_is_there() -> None:
    scores, labels = overconfident(np.random.default_rng(1), 20_000, slope=0.5, offset=-1.0)
    head = fit_head(scores, labels, model_digest=DIGEST)
    assert head is not None
    assert head.slope == pytest.approx(0.5, abs=0.03) and head.offset == pytest.approx(-1.0, abs=0.06)
    before, after = of_scores(scores, labels), of_scores(head.calibrated(scores), labels)
    assert before.calibration_error is not None and after.calibration_error is not None
    assert before.calibration_error > 0.1 and after.calibration_error < 0.02
    assert before.brier is not None and after.brier is not None and after.brier < before.brier
    assert after.auc == pytest.approx(before.auc)


def test_it_is_the_logistic_regression_of_the_smoothed_targets() -> None:
    """With many patients smoothing hardly moves it, and scikit-learn's own fit says the same."""
    scores, labels = overconfident(np.random.default_rng(2), 5000, slope=1.4, offset=0.5)
    head = fit_head(scores, labels, model_digest=DIGEST)
    logits = np.log(scores / (1 - scores)).astype(np.float64)
    theirs = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, None], labels)
    assert head is not None
    assert head.slope == pytest.approx(float(theirs.coef_[0, 0]), rel=0.01)
    assert head.offset == pytest.approx(float(theirs.intercept_[0]), abs=0.01)


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.integers(0, 1)), min_size=1, max_size=40))
def test_it_never_changes_the_order_nor_leaves_the_unit_interval(pairs: list[tuple[float, int]]) -> None:
    scores = np.array([score for score, _ in pairs], np.float32)
    head = fit_head(scores, np.array([label for _, label in pairs]), model_digest=DIGEST)
    if head is None:
        return
    calibrated = head.calibrated(scores)
    assert (np.diff(calibrated[np.argsort(scores, kind="stable")]) >= 0).all()
    assert ((calibrated >= 0) & (calibrated <= 1)).all()


@pytest.mark.parametrize("label", [0, 1])
def test_a_site_with_one_class_gets_none(label: int) -> None:
    assert fit_head(np.array([0.2, 0.8]), np.array([label, label]), model_digest=DIGEST) is None


def test_a_model_that_is_wrong_about_a_site_is_not_turned_round() -> None:
    scores, labels = overconfident(np.random.default_rng(3), 500, slope=1.0, offset=0.0)
    assert fit_head(scores, 1 - labels, model_digest=DIGEST) is None


def test_scores_that_are_told_apart_perfectly_still_get_a_finite_head() -> None:
    head = fit_head(np.array([0.0, 0.1, 0.9, 1.0]), np.array([0, 0, 1, 1]), model_digest=DIGEST)
    assert head is not None and np.isfinite(head.slope) and np.isfinite(head.offset)
