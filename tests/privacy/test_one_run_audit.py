"""The statistics of the one-run audit: against the paper's arithmetic and mechanisms of known epsilon."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from privacy.one_run_audit import (
    GUESSED_SHARES,
    AuditInputError,
    best_bound,
    epsilon_lower_bound,
    guess,
    largest_bound,
    p_value,
)


def _by_the_book(m: int, r: int, v: int, epsilon: float, delta: float) -> float:
    """Theorem 5.2, term by term, with scipy's binomial."""
    accuracy = math.exp(epsilon) / (1 + math.exp(epsilon))
    at_least = float(binom.sf(v - 1, r, accuracy))
    slopes = [
        (binom.cdf(v - 1, r, accuracy) - binom.cdf(v - i - 1, r, accuracy)) / i for i in range(1, v + 1)
    ]
    return float(min(1.0, at_least + 2 * m * delta * max(slopes, default=0.0)))


@pytest.mark.parametrize(
    ("m", "r", "v"), [(10, 10, 0), (10, 10, 10), (100, 50, 40), (1000, 125, 90), (1000, 500, 500)]
)
@pytest.mark.parametrize("epsilon", [0.0, 0.4, 2.0, 5.0])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-3])
def test_the_p_value_is_the_theorems(m: int, r: int, v: int, epsilon: float, delta: float) -> None:
    ours = p_value(canaries=m, guesses=r, correct=v, epsilon=epsilon, delta=delta)
    assert ours == pytest.approx(_by_the_book(m, r, v, epsilon, delta), rel=1e-8, abs=1e-14)


def _bound(m: int, r: int, v: int, *, delta: float = 0.0, confidence: float = 0.95) -> float:
    return epsilon_lower_bound(canaries=m, guesses=r, correct=v, delta=delta, confidence=confidence)


@settings(max_examples=40, deadline=None)
@given(st.integers(10, 300), st.floats(0.05, 1.0), st.floats(0, 1), st.sampled_from((0.0, 1e-6, 1e-4)))
def test_more_right_guesses_show_more_and_more_confidence_or_delta_shows_less(
    m: int, share: float, right: float, delta: float
) -> None:
    r = max(1, int(share * m))
    v = int(right * r)
    bound = _bound(m, r, v, delta=delta)
    # With a delta the theorem's own bound is not quite monotone where it is all but lost; without it, exactly.
    assert _bound(m, r, min(r, v + 1)) >= _bound(m, r, v) - 1e-9
    assert _bound(m, r, v, delta=delta, confidence=0.99) <= bound + 1e-9
    assert _bound(m, r, v, delta=min(1e-3, 10 * delta)) <= bound + 1e-9


@given(st.integers(1, 500))
def test_half_of_the_guesses_right_shows_nothing(half: int) -> None:
    assert _bound(4 * half, 2 * half, half) == 0.0
    assert _bound(4 * half, 2 * half, half, delta=1e-5) == 0.0


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 2.4, 4.0])
@pytest.mark.parametrize("guesses", [20, 125, 500])
def test_randomised_response_is_slandered_no_more_often_than_allowed(epsilon: float, guesses: int) -> None:
    """Each canary's coin is told truly with e^epsilon / (1 + e^epsilon): how often the bound exceeds this epsilon
    follows exactly from the binomial, without a single random draw."""
    truth = binom(guesses, math.exp(epsilon) / (1 + math.exp(epsilon)))
    wrong = sum(
        float(truth.pmf(v))
        for v in range(guesses + 1)
        if truth.pmf(v) > 1e-9 and _bound(guesses, guesses, v) > epsilon
    )
    assert wrong <= 0.05
    if epsilon >= 1 and guesses >= 125:
        # And it is worth something: the usual number of right guesses shows most of what there is.
        assert _bound(guesses, guesses, int(truth.median())) > 0.6 * epsilon


def test_guessing_blindly_rarely_shows_anything() -> None:
    random = np.random.default_rng(3)
    shown = 0
    for _ in range(200):
        coins = random.random(400) < 0.5
        shown += best_bound(random.standard_normal(400), coins, delta=1e-5).epsilon > 0
    # At most 5 % in expectation, by either number of guesses together: 10 of 200, and 22 is four sigma away.
    assert shown <= 22


def test_a_shift_by_gaussian_noise_shows_less_than_it_has_and_a_shift_without_noise_all_there_is_to_show() -> (
    None
):
    random = np.random.default_rng(4)
    coins = random.random(1000) < 0.5
    noisy = best_bound(coins + random.standard_normal(1000), coins, delta=1e-5)
    # One Gaussian release with sigma 1 is (4.38, 1e-5)-DP and no better.
    assert 0.5 < noisy.epsilon < 4.38
    bare = best_bound(coins.astype(np.float64), coins, delta=1e-5)
    assert bare.epsilon == largest_bound(1000, delta=1e-5) > 4.8
    assert bare.guesses == bare.correct == 500


def test_guesses_are_the_extremes_and_ties_are_broken_blindly() -> None:
    guessed = guess(np.array([5.0, -2.0, 0.0, 3.0, -7.0, 1.0]), 4)
    assert guessed.tolist() == [1, -1, 0, 1, -1, 0]
    assert guess(np.zeros(5), 3).tolist() == [-1, 0, 0, 1, 1]


def test_the_numbers_of_guesses_are_fixed_beforehand() -> None:
    """Or the bound would be chosen after the fact; each is held to its share of the error."""
    assert GUESSED_SHARES == (0.125, 0.5)
    single = epsilon_lower_bound(canaries=1000, guesses=500, correct=500, delta=1e-5, confidence=0.95)
    assert largest_bound(1000, delta=1e-5, confidence=0.95) < single


@pytest.mark.parametrize(("m", "r", "v"), [(10, 11, 1), (10, 5, 6), (10, 0, 0), (10, 5, -1)])
def test_impossible_counts_are_refused(m: int, r: int, v: int) -> None:
    with pytest.raises(AuditInputError) as refusal:
        _bound(m, r, v)
    assert refusal.value.code == "privacy.audit-invalid"


def test_meaningless_parameters_are_refused() -> None:
    for epsilon, delta in ((-1.0, 0.0), (math.nan, 0.0), (1.0, -1e-9), (1.0, 1.0), (1.0, math.nan)):
        with pytest.raises(AuditInputError):
            p_value(canaries=10, guesses=5, correct=3, epsilon=epsilon, delta=delta)
    for confidence in (0.0, 1.0, math.nan):
        with pytest.raises(AuditInputError):
            _bound(10, 5, 3, confidence=confidence)
    with pytest.raises(AuditInputError):
        best_bound(np.array([1.0, math.nan]), np.array([True, False]), delta=1e-5)
    with pytest.raises(AuditInputError):
        best_bound(np.zeros(3), np.array([True, False]), delta=1e-5)
