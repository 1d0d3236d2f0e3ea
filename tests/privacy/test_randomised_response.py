"""Answers that may be lies: how often, on which side of what is claimed, and what a count of them says."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.mechanisms import MechanismInvalidError
from privacy.noise import NoiseStream
from privacy.randomised_response import WORDS, estimate, lying_words, respond


@settings(max_examples=200, deadline=None)
@given(st.floats(0.01, 20.0))
def test_lies_are_never_fewer_than_the_epsilon_that_is_claimed_asks_for(epsilon: float) -> None:
    """What is drawn has an epsilon of ln((1 - q) / q), q a whole number of words: at most the one that is charged,
    and less by no more than one word in 2^64."""
    with mpmath.workdps(60):
        words = lying_words(epsilon)
        drawn = mpmath.log((WORDS - mpmath.mpf(words)) / words)
        assert drawn <= mpmath.mpf(epsilon)
        assert words - 1 < WORDS / (1 + mpmath.exp(mpmath.mpf(epsilon)))


class _Words(NoiseStream):
    """A stream of one word."""

    def __init__(self, word: int) -> None:
        super().__init__()
        self._word = word

    def words(self, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        return np.full(count, self._word, dtype=np.uint64)


@pytest.mark.parametrize("truth", [True, False])
def test_the_words_that_lie_are_the_first_ones_and_no_others(truth: bool) -> None:
    lies = lying_words(3.0)
    assert respond(truth, 3.0, _Words(0)) is not truth
    assert respond(truth, 3.0, _Words(lies - 1)) is not truth
    assert respond(truth, 3.0, _Words(lies)) is truth
    assert respond(truth, 3.0, _Words(WORDS - 1)) is truth


def test_of_many_answers_as_many_are_lies_as_is_said() -> None:
    with NoiseStream() as stream:
        lies = sum(not respond(True, 1.0, stream) for _ in range(20_000))
    share = 1 / (1 + np.e)
    assert abs(lies - 20_000 * share) < 6 * (20_000 * share * (1 - share)) ** 0.5


@settings(deadline=None)
@given(st.integers(3, 50), st.data(), st.floats(0.5, 10.0))
def test_the_estimate_is_unbiased_and_its_spread_is_that_of_the_lies(
    asked: int, data: st.DataObject, epsilon: float
) -> None:
    """Over every number of lies among those who mean yes and those who mean no, weighed by how likely it is."""
    truths = data.draw(st.integers(0, asked))
    lie = lying_words(epsilon) / WORDS

    def binomial(many: int, share: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        row = np.ones(1)
        for _ in range(many):
            row = np.convolve(row, [1 - share, share])
        return row

    likely = np.convolve(binomial(truths, 1 - lie), binomial(asked - truths, lie))
    values = np.array([estimate(yes, asked=asked, epsilon=epsilon).value for yes in range(asked + 1)])
    mean = float((likely * values).sum())
    assert mean == pytest.approx(truths, abs=1e-6)
    spread = float((likely * (values - mean) ** 2).sum()) ** 0.5
    assert spread == pytest.approx(estimate(0, asked=asked, epsilon=epsilon).spread, rel=1e-6)


def test_an_epsilon_without_meaning_draws_nothing() -> None:
    for epsilon in (0.0, -1.0, float("nan"), 21.0):
        with pytest.raises(MechanismInvalidError):
            lying_words(epsilon)
