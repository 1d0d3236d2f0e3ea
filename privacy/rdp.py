"""Rényi divergences of one use of each mechanism, at the published orders, as upper bounds in `decimal`.

Lives here: the orders, the directed arithmetic and one formula a mechanism. Micro-units, composition and
epsilons are `privacy.accounting`; nothing here knows how often a mechanism is used.

Every machine must get the same digits, so no float is computed with: a float parameter enters as the exact
value of its 64 bits (`Decimal(float)`, which is also the number that the sampler and the noise use), and all
arithmetic is `decimal` at 50 digits with directed rounding. `Decimal.exp` and `Decimal.ln` are correctly rounded
to nearest whatever the context says, so their neighbour in the safe direction is taken. A result is above the
exact value by less than 1e-40, so that 10^8 uses of it, in micro-units, are above by less than 1e-26.

Sources:
    subsampled Gaussian   Mironov, Talwar, Zhang 2019, "Rényi Differential Privacy of the Sampled Gaussian
                          Mechanism", section 3.3 (integer orders), Poisson sampling,
                          adding or removing one patient
    Gaussian              Mironov 2017, proposition 7: alpha / (2 sigma^2)
    discrete Gaussian     Canonne, Kamath, Steinke 2020, "The Discrete Gaussian for Differential Privacy",
                          proposition 5 and theorem 14: alpha / (2 sigma^2) too, on the lattice in any
                          number of coordinates, whatever the sigma
    distributed Gaussian  as the subsampled Gaussian, and 3 tau d for the sum of n discrete Gaussians, tau = 10 sum
                          over k < n of exp(-2 pi^2 sigma^2 k / (k+1)) (Kairouz, Liu, Steinke 2021, theorem 1), with
                          d the most coordinates that there can be: see `DistributedGaussian`
    Laplace               Mironov 2017, proposition 6 and table II; sensitivity 1 in L1. In several coordinates
                          the divergence is a sum of convex functions of the coordinates' shifts, each zero at
                          zero, so that one coordinate that carries the whole shift is the worst case
    randomised response   Mironov 2017, proposition 5 and table II, p = e^eps / (1 + e^eps)
"""

from __future__ import annotations

import decimal
from decimal import Decimal
from functools import lru_cache
from typing import Final

from privacy.mechanisms import (
    MAXIMUM_COORDINATES,
    DistributedGaussian,
    Laplace,
    Mechanism,
    RandomisedResponse,
    SubsampledGaussian,
)

ORDERS: Final[tuple[int, ...]] = (
    2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29,
    30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55,
    56, 57, 58, 59, 60, 61, 62, 63, 64, 72, 80, 96, 112, 128, 160, 192, 256, 384, 512, 1024,
)  # fmt: skip
"""The orders at which every cost of this project is written. Changing them changes every ledger."""

_TRAPS: Final = [decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow]
_LIMITS: Final = 99_999_999_999
UP: Final = decimal.Context(50, decimal.ROUND_CEILING, -_LIMITS, _LIMITS, traps=_TRAPS)
DOWN: Final = decimal.Context(50, decimal.ROUND_FLOOR, -_LIMITS, _LIMITS, traps=_TRAPS)


def exp_up(value: Decimal) -> Decimal:
    return UP.next_plus(UP.exp(value))


def exp_down(value: Decimal) -> Decimal:
    return DOWN.next_minus(DOWN.exp(value))


def ln_up(value: Decimal) -> Decimal:
    return UP.next_plus(UP.ln(value))


def ln_down(value: Decimal) -> Decimal:
    return DOWN.next_minus(DOWN.ln(value))


def one_use(mechanism: Mechanism) -> tuple[Decimal, ...]:
    """Upper bounds of the Rényi divergence of one step or release, at each of `ORDERS`."""
    match mechanism:
        case Laplace():
            return _laplace(float(mechanism.scale))
        case RandomisedResponse():
            return _randomised_response(float(mechanism.epsilon))
        case SubsampledGaussian() if mechanism.sampling_rate < 1:
            return _subsampled_gaussian(float(mechanism.noise_multiplier), float(mechanism.sampling_rate))
        case DistributedGaussian():
            return _distributed_gaussian(mechanism)
        case _:
            # A discrete Gaussian has the bound of the continuous one: see the sources above.
            return _gaussian(float(mechanism.noise_multiplier))


def _inverse_variance_up(noise_multiplier: float) -> Decimal:
    sigma = Decimal(noise_multiplier)
    return UP.divide(Decimal(1), DOWN.multiply(sigma, sigma))


@lru_cache(maxsize=1024)
def _gaussian(noise_multiplier: float) -> tuple[Decimal, ...]:
    half = UP.divide(_inverse_variance_up(noise_multiplier), Decimal(2))
    return tuple(UP.multiply(Decimal(order), half) for order in ORDERS)


@lru_cache(maxsize=1024)
def _subsampled_gaussian(noise_multiplier: float, sampling_rate: float) -> tuple[Decimal, ...]:
    """ln(A_a) / (a - 1), A_a = sum over k of C(a, k) (1-q)^(a-k) q^k exp(k (k-1) / (2 sigma^2))."""
    rate = Decimal(sampling_rate)
    rest = UP.subtract(Decimal(1), rate)
    growth = exp_up(_inverse_variance_up(noise_multiplier))
    # left[k] = (1-q)^k; taken[k] = q^k exp(k (k-1) / (2 sigma^2)), the exponential built up from
    # growth^0 growth^1 ... growth^(k-1), whose exponents add up to k (k-1) / 2.
    taken, left, step = [Decimal(1)], [Decimal(1)], Decimal(1)
    for _ in range(max(ORDERS)):
        taken.append(UP.multiply(UP.multiply(taken[-1], rate), step))
        left.append(UP.multiply(left[-1], rest))
        step = UP.multiply(step, growth)
    costs = []
    for order in ORDERS:
        moment, binomial = Decimal(0), 1
        for k in range(order + 1):
            term = UP.multiply(UP.multiply(Decimal(binomial), left[order - k]), taken[k])
            moment = UP.add(moment, term)
            binomial = binomial * (order - k) // (k + 1)
        costs.append(UP.divide(ln_up(moment), Decimal(order - 1)))
    return tuple(costs)


def _distributed_gaussian(mechanism: DistributedGaussian) -> tuple[Decimal, ...]:
    """As subsampled, at every order more by what a sum of discrete Gaussians is not one itself."""
    sigma, rate = float(mechanism.noise_multiplier), float(mechanism.sampling_rate)
    costs = _subsampled_gaussian(sigma, rate) if rate < 1 else _gaussian(sigma)
    # pi^2 > 9.8 and k / (k+1) >= 1/2: every term of tau is at most exp(-9.8 sigma^2).
    largest = exp_up(UP.multiply(Decimal("-9.8"), Decimal(4**mechanism.share_bits)))
    apart = UP.multiply(Decimal(3 * 10 * (mechanism.shares - 1) * MAXIMUM_COORDINATES), largest)
    return tuple(UP.add(cost, apart) for cost in costs)


@lru_cache(maxsize=1024)
def _laplace(scale: float) -> tuple[Decimal, ...]:
    """ln(a/(2a-1) exp((a-1)/b) + (a-1)/(2a-1) exp(-a/b)) / (a-1), which tends to 1/b from below."""
    b = Decimal(scale)
    costs = []
    for order in ORDERS:
        width = Decimal(2 * order - 1)
        near = exp_up(UP.divide(Decimal(order - 1), b))
        # The larger exponent is the one nearer to zero: the quotient is rounded down before its sign is turned.
        far = exp_up(UP.minus(DOWN.divide(Decimal(order), b)))
        moment = UP.add(
            UP.multiply(UP.divide(Decimal(order), width), near),
            UP.multiply(UP.divide(Decimal(order - 1), width), far),
        )
        costs.append(UP.divide(ln_up(moment), Decimal(order - 1)))
    return tuple(costs)


@lru_cache(maxsize=1024)
def _randomised_response(epsilon: float) -> tuple[Decimal, ...]:
    """ln(p^a q^(1-a) + q^a p^(1-a)) / (a-1) with q = 1 - p = 1 / (1 + e^eps): the sum is
    (e^(a eps) + e^((1-a) eps)) / (1 + e^eps), which has no power of a small number in it."""
    exact = Decimal(epsilon)
    whole = DOWN.add(Decimal(1), exp_down(exact))
    costs = []
    for order in ORDERS:
        near = exp_up(UP.multiply(Decimal(order), exact))
        far = exp_up(UP.minus(DOWN.multiply(Decimal(order - 1), exact)))
        moment = UP.divide(UP.add(near, far), whole)
        costs.append(UP.divide(ln_up(moment), Decimal(order - 1)))
    return tuple(costs)
