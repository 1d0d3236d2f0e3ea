"""What one training run with planted canaries proves about its epsilon: statistics alone, no training.

Each of m canaries is taken into the training data or left out, by a fair coin of its own. Whoever sees the result
guesses for r of them which it was and abstains on the others. Many right guesses refute small epsilons.

Source: Steinke, Nasr, Jagielski 2023, "Privacy Auditing with One (1) Training Run" (arXiv:2305.08846), theorem 5.2
and appendix D. A mechanism that is (epsilon, delta)-DP under adding or removing one canary is right v times or more
with a probability of at most

    P[B >= v] + 2 m delta max_i (P[v > B >= v - i] / i),     B ~ Binomial(r, e^epsilon / (e^epsilon + 1)).

The theorem holds however the guesses are made from the result, but r must not depend on which were right. Here
it takes one of a few values fixed beforehand, each at its share of the allowed error (Bonferroni).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ledger.errors import InputError

CONFIDENCE: Final = 0.95
GUESSED_SHARES: Final = (0.125, 0.5)
"""Shares of all canaries that are guessed: few and sure ones against noise, many where there is hardly any."""
_LARGEST_EPSILON: Final = 64.0
_BISECTIONS: Final = 40

Scores = npt.NDArray[np.float64]
Coins = npt.NDArray[np.bool_]
Guesses = npt.NDArray[np.int8]


class AuditInputError(InputError):
    code = "privacy.audit-invalid"


@dataclass(frozen=True, slots=True)
class Bound:
    """The run is not (`epsilon`, delta)-DP, or something of at most the allowed probability happened."""

    epsilon: float
    guesses: int
    correct: int


def p_value(*, canaries: int, guesses: int, correct: int, epsilon: float, delta: float) -> float:
    """The most probable that an (`epsilon`, `delta`)-DP mechanism makes so many right guesses or more."""
    _check_counts(canaries, guesses, correct)
    if not (epsilon >= 0 and 0 <= delta < 1):
        raise AuditInputError("epsilon must be 0 or more, delta 0 or more and below 1")
    if correct == 0:
        return 1.0
    # P[B = k] for k = 0 .. r, by logarithms, because factorials overflow; ln(1 - rate) is taken from epsilon, because
    # a rate near 1 has lost it.
    k = np.arange(guesses + 1, dtype=np.float64)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(k[1:]))])
    log_rate = -math.log1p(math.exp(-epsilon))
    log_mass = factorials[-1] - factorials - factorials[::-1] + k * log_rate
    mass = np.exp(log_mass + (guesses - k) * (log_rate - epsilon))
    tail = float(mass[correct:].sum())
    # P[v > B >= v - i] for i = 1 .. v.
    below = np.cumsum(mass[:correct][::-1])
    steepest = float((below / np.arange(1, correct + 1)).max())
    return min(1.0, tail + 2.0 * canaries * delta * steepest)


def epsilon_lower_bound(
    *, canaries: int, guesses: int, correct: int, delta: float, confidence: float = CONFIDENCE
) -> float:
    """The largest epsilon that so many right guesses refute at `confidence`; 0 where they refute none.

    Rejecting an epsilon rejects every smaller one, so that any epsilon found to be rejected is a valid bound.
    """
    if not 0 < confidence < 1:
        raise AuditInputError("a confidence lies between 0 and 1")

    def refuted(epsilon: float) -> bool:
        chance = p_value(canaries=canaries, guesses=guesses, correct=correct, epsilon=epsilon, delta=delta)
        return chance < 1 - confidence

    if not refuted(0.0):
        return 0.0
    least, most = 0.0, _LARGEST_EPSILON
    for _ in range(_BISECTIONS):
        middle = (least + most) / 2
        if refuted(middle):
            least = middle
        else:
            most = middle
    return least


def guess(scores: Scores, guesses: int) -> Guesses:
    """(m,) scores to (m,) guesses: 1 for the highest half of `guesses`, -1 for the lowest, 0 for the others.

    The best rule where a higher score always speaks more for a canary's being in, as a shift by Gaussian noise does.
    """
    _check_counts(len(scores), guesses, 0)
    order = np.argsort(scores, kind="stable")
    guessed: Guesses = np.zeros(len(scores), dtype=np.int8)
    lowest = guesses // 2
    guessed[order[:lowest]] = -1
    guessed[order[len(scores) - (guesses - lowest) :]] = 1
    return guessed


def best_bound(scores: Scores, included: Coins, *, delta: float, confidence: float = CONFIDENCE) -> Bound:
    """The best bound from (m,) scores and the (m,) coins that they were to reveal."""
    if scores.ndim != 1 or scores.shape != included.shape or not bool(np.isfinite(scores).all()):
        raise AuditInputError("an audit needs one finite score and one coin for each canary")
    bounds = []
    for guesses in _guess_counts(len(scores)):
        guessed = guess(scores, guesses)
        correct = int(((guessed == 1) & included).sum() + ((guessed == -1) & ~included).sum())
        bounds.append(_bound(len(scores), guesses, correct, delta, confidence))
    return max(bounds, key=lambda bound: bound.epsilon)


def largest_bound(canaries: int, *, delta: float, confidence: float = CONFIDENCE) -> float:
    """The bound if every guess is right: no audit with so many canaries can show more."""
    counts = _guess_counts(canaries)
    return max(_bound(canaries, guesses, guesses, delta, confidence).epsilon for guesses in counts)


def _guess_counts(canaries: int) -> list[int]:
    return [max(1, int(share * canaries)) for share in GUESSED_SHARES]


def _bound(canaries: int, guesses: int, correct: int, delta: float, confidence: float) -> Bound:
    shared = 1 - (1 - confidence) / len(GUESSED_SHARES)
    epsilon = epsilon_lower_bound(
        canaries=canaries, guesses=guesses, correct=correct, delta=delta, confidence=shared
    )
    return Bound(epsilon, guesses, correct)


def _check_counts(canaries: int, guesses: int, correct: int) -> None:
    if not 0 <= correct <= guesses <= canaries or guesses < 1:
        raise AuditInputError(
            "an audit has at least one guess, no more than canaries, and no more right ones"
        )
