from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.decision_curve import MAXIMUM_THRESHOLDS, decision_curve
from privacy.histogram import score_histogram

COUNTS = st.lists(st.integers(0, 200), min_size=8, max_size=8).filter(sum)


def test_it_is_the_net_benefit_of_scores_that_lie_on_either_side_of_an_edge() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 2000)
    scores = np.clip(rng.normal(0.35 + 0.3 * labels, 0.2), 0.0, 1.0)
    for point in decision_curve(score_histogram(scores, labels, 20)):
        yes = scores >= point.threshold
        true, false = int((yes & (labels == 1)).sum()), int((yes & (labels == 0)).sum())
        price = point.threshold / (1 - point.threshold)
        assert point.model == pytest.approx((true - false * price) / 2000)
        assert point.treat_all == pytest.approx((labels.sum() - (2000 - labels.sum()) * price) / 2000)


@given(COUNTS, COUNTS)
def test_nothing_is_worth_more_than_to_find_everybody(negatives: list[int], positives: list[int]) -> None:
    share = sum(positives) / (sum(positives) + sum(negatives))
    curve = decision_curve(np.array([negatives, positives], dtype=np.int64))
    assert all(point.model <= share + 1e-9 and point.treat_all <= share + 1e-9 for point in curve)


def test_a_perfect_model_is_worth_the_share_that_has_the_finding_at_every_threshold() -> None:
    counts = np.array([[60, 0, 0, 0], [0, 0, 0, 40]], dtype=np.int64)
    assert [point.model for point in decision_curve(counts)] == pytest.approx([0.4] * 3)


def test_many_bins_are_read_at_few_thresholds_and_nobody_has_no_curve() -> None:
    counts = np.ones((2, 256), dtype=np.int64)
    assert len(decision_curve(counts)) <= MAXIMUM_THRESHOLDS
    counts[0] = 0
    assert decision_curve(counts) == ()
