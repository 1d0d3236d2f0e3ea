"""Randomised response: one truth, yes or no, told so that nobody can be sure of it, and what a count of answers says.

The truth is told with probability p = e^epsilon / (1 + e^epsilon), else its contrary (Warner 1965). That is
(epsilon, 0)-DP of whatever the truth is a function of: no sensitivity is needed, and none is asked for. Its price is
`privacy.rdp`'s; which truth is asked is not known here.

A lie is drawn at a multiple of 2^-64, rounded *up*: towards more lies, so that the epsilon that is claimed is never
exceeded.
"""

from __future__ import annotations

import decimal
import math
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Final

from privacy.mechanisms import RandomisedResponse
from privacy.noise import NoiseStream
from privacy.rdp import DOWN, UP, exp_down

WORDS: Final = 2**64


@lru_cache(maxsize=64)
def lying_words(epsilon: float) -> int:
    """Of the 2^64 words of a stream, how many make a lie: 2^64 / (1 + e^epsilon), rounded up."""
    mechanism = RandomisedResponse(epsilon=epsilon, count=1)
    share = UP.divide(Decimal(1), DOWN.add(Decimal(1), exp_down(Decimal(float(mechanism.epsilon)))))
    return int(UP.multiply(share, Decimal(WORDS)).to_integral_value(decimal.ROUND_CEILING))


def respond(truth: bool, epsilon: float, stream: NoiseStream) -> bool:
    """The truth or its contrary, by one word of the stream."""
    lie = int(stream.words(1)[0]) < lying_words(epsilon)
    return truth != lie


@dataclass(frozen=True, slots=True)
class Estimate:
    """How many truths were yes: unbiased, so that it can lie under zero or above the number of those asked."""

    value: float
    spread: float
    """Standard deviation of the lies alone; the truths are what they are."""


def estimate(yes: int, *, asked: int, epsilon: float) -> Estimate:
    """What `yes` of `asked` answers say: (yes - asked q) / (p - q), q = 1 - p, and sqrt(asked p q) / (p - q)."""
    lie = lying_words(epsilon) / WORDS
    apart = 1.0 - 2.0 * lie
    return Estimate((yes - asked * lie) / apart, math.sqrt(asked * lie * (1.0 - lie)) / apart)
