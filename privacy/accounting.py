"""The cost of mechanisms: Rényi-DP curves at fixed orders, in integer micro-units, rounded up.

Lives here: the published orders, the curve of each mechanism, adding curves, and reading an epsilon at a
delta off a curve. Pools, caps and reservations live in `policies`; noise is drawn in `privacy.noise`.

Every machine must get the same micro-unit, so no float is computed with: a float parameter enters as the
exact value of its 64 bits (`Decimal(float)`, which is also the number that the sampler and the noise use),
and all arithmetic is `decimal` at 50 digits with directed rounding. `Decimal.exp` and `Decimal.ln` are
correctly rounded to nearest whatever the context says, so their neighbour in the safe direction is taken. The
result is an upper bound of the exact curve, by less than 1e-40 relatively before the final rounding to
micro-units.

Sources:
    subsampled Gaussian   Mironov, Talwar, Zhang 2019, "Rényi Differential Privacy of the Sampled Gaussian
                          Mechanism", section 3.3 (integer orders), Poisson sampling,
                          adding or removing one patient
    Gaussian              Mironov 2017, proposition 7: alpha / (2 sigma^2)
    composition           Mironov 2017, proposition 1: curves add
    conversion            Balle, Barthe, Gaboardi, Hsu, Sato 2020, theorem 21; Canonne, Kamath, Steinke 2020
"""

from __future__ import annotations

import decimal
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Final

from ledger.canonical import JsonValue
from ledger.errors import InputError
from privacy.mechanisms import Gaussian, Mechanism, SubsampledGaussian

ORDERS: Final[tuple[int, ...]] = (
    2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29,
    30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55,
    56, 57, 58, 59, 60, 61, 62, 63, 64, 72, 80, 96, 112, 128, 160, 192, 256, 384, 512, 1024,
)  # fmt: skip
"""The orders at which every cost of this project is written. Changing them changes every ledger."""

MICRO: Final = 1_000_000
LARGEST_MICRO: Final = 2**53 - 1
"""Canonical JSON carries no larger integer; a cost beyond it (an epsilon of 9e9) is refused."""

_TRAPS: Final = [decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow]
_LIMITS: Final = 99_999_999_999
_UP: Final = decimal.Context(50, decimal.ROUND_CEILING, -_LIMITS, _LIMITS, traps=_TRAPS)
_DOWN: Final = decimal.Context(50, decimal.ROUND_FLOOR, -_LIMITS, _LIMITS, traps=_TRAPS)


class CurveInvalidError(InputError):
    code = "privacy.curve-invalid"


class CostTooLargeError(InputError):
    code = "privacy.cost-too-large"


class DeltaInvalidError(InputError):
    code = "privacy.delta-invalid"


@dataclass(frozen=True, slots=True)
class Curve:
    """Rényi-DP at `ORDERS`: `rdp_micro[i]` micro-units at `ORDERS[i]`. Adding curves is exact."""

    rdp_micro: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.rdp_micro) != len(ORDERS):
            raise CurveInvalidError(f"a curve has {len(ORDERS)} values, one for each published order")
        if set(map(type, self.rdp_micro)) != {int} or min(self.rdp_micro) < 0:
            raise CurveInvalidError("a curve holds whole numbers of micro-units, none below zero")
        if max(self.rdp_micro) > LARGEST_MICRO:
            raise CostTooLargeError(
                "the privacy cost is beyond every meaning", remedy="Use more noise or fewer steps."
            )

    @staticmethod
    @lru_cache(maxsize=1)
    def zero() -> Curve:
        """The cost of nothing."""
        return Curve((0,) * len(ORDERS))

    def __add__(self, other: Curve) -> Curve:
        return Curve(tuple(map(operator.add, self.rdp_micro, other.rdp_micro)))

    def scaled(self, count: int) -> Curve:
        """The cost of `count` independent uses of what this curve is the cost of."""
        if isinstance(count, bool) or count < 0:
            raise CurveInvalidError("a curve is scaled by a whole number, not below zero")
        return Curve(tuple(value * count for value in self.rdp_micro))

    def at_most(self, other: Curve) -> bool:
        """Whether this cost is no larger than `other` at every order."""
        return all(a <= b for a, b in zip(self.rdp_micro, other.rdp_micro, strict=True))

    def to_json(self) -> dict[str, JsonValue]:
        return {"orders": list(ORDERS), "rdp_micro": list(self.rdp_micro)}

    @classmethod
    def from_json(cls, value: JsonValue) -> Curve:
        """Read what `to_json` wrote; other orders, types or extra fields are refused."""
        if not isinstance(value, dict) or set(value) != {"orders", "rdp_micro"}:
            raise CurveInvalidError("a curve has exactly the fields orders and rdp_micro")
        if _integers(value["orders"]) != ORDERS:
            raise CurveInvalidError("a curve must be written at the published orders")
        return cls(_integers(value["rdp_micro"]))


@lru_cache(maxsize=1024)
def curve(mechanism: Mechanism) -> Curve:
    """The cost of a mechanism. Raises `CostTooLargeError` when it does not fit."""
    times = mechanism.steps if isinstance(mechanism, SubsampledGaussian) else mechanism.count
    return Curve(tuple(_ceiling_micro(_UP.multiply(Decimal(times), rdp)) for rdp in _one_use(mechanism)))


def total(mechanisms: Iterable[Mechanism]) -> Curve:
    """The cost of all the mechanisms together."""
    return _total(tuple(mechanisms))


@lru_cache(maxsize=1024)
def _total(mechanisms: tuple[Mechanism, ...]) -> Curve:
    return sum(map(curve, mechanisms), Curve.zero())


def epsilon_micro(cost: Curve, delta: float) -> int:
    """The epsilon of (epsilon, delta)-DP that `cost` implies, in micro-units, the best over all orders.

    The best order may be chosen freely only for a cost fixed in advance; a filter that admits uses one after
    another pins an order and asks `epsilon_micro_at`.
    """
    offsets = _offsets_micro(delta)
    return max(0, min(rdp + offset for rdp, offset in zip(cost.rdp_micro, offsets, strict=True)))


def epsilon_micro_at(cost: Curve, delta: float, *, order: int) -> int:
    """As `epsilon_micro`, at one of `ORDERS` pinned beforehand."""
    if order not in ORDERS:
        raise CurveInvalidError("the order is not one of the published orders")
    index = ORDERS.index(order)
    return max(0, cost.rdp_micro[index] + _offsets_micro(delta)[index])


def best_order(cost: Curve, delta: float) -> int:
    """The order at which `epsilon_micro` is reached; the lowest if several are."""
    offsets = _offsets_micro(delta)
    return min(zip(cost.rdp_micro, offsets, ORDERS, strict=True), key=lambda at: at[0] + at[1])[2]


def _integers(value: JsonValue) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise CurveInvalidError("a curve holds lists of whole numbers")
    numbers = []
    for number in value:
        if not isinstance(number, int):
            raise CurveInvalidError("a curve holds whole numbers only")
        numbers.append(number)
    return tuple(numbers)


def _ceiling_micro(value: Decimal) -> int:
    return int(_UP.multiply(value, Decimal(MICRO)).to_integral_value(decimal.ROUND_CEILING))


def _exp_up(value: Decimal) -> Decimal:
    return _UP.next_plus(_UP.exp(value))


def _ln_up(value: Decimal) -> Decimal:
    return _UP.next_plus(_UP.ln(value))


def _ln_down(value: Decimal) -> Decimal:
    return _DOWN.next_minus(_DOWN.ln(value))


def _one_use(mechanism: Mechanism) -> tuple[Decimal, ...]:
    """Upper bounds of the Rényi divergence of one step or release, at each order."""
    if isinstance(mechanism, Gaussian) or mechanism.sampling_rate == 1:
        return _gaussian(float(mechanism.noise_multiplier))
    return _subsampled_gaussian(float(mechanism.noise_multiplier), float(mechanism.sampling_rate))


def _inverse_variance_up(noise_multiplier: float) -> Decimal:
    sigma = Decimal(noise_multiplier)
    return _UP.divide(Decimal(1), _DOWN.multiply(sigma, sigma))


@lru_cache(maxsize=1024)
def _gaussian(noise_multiplier: float) -> tuple[Decimal, ...]:
    half = _UP.divide(_inverse_variance_up(noise_multiplier), Decimal(2))
    return tuple(_UP.multiply(Decimal(order), half) for order in ORDERS)


@lru_cache(maxsize=1024)
def _subsampled_gaussian(noise_multiplier: float, sampling_rate: float) -> tuple[Decimal, ...]:
    """ln(A_a) / (a - 1), A_a = sum over k of C(a, k) (1-q)^(a-k) q^k exp(k (k-1) / (2 sigma^2))."""
    rate = Decimal(sampling_rate)
    rest = _UP.subtract(Decimal(1), rate)
    growth = _exp_up(_inverse_variance_up(noise_multiplier))
    # left[k] = (1-q)^k; taken[k] = q^k exp(k (k-1) / (2 sigma^2)), the exponential built up from
    # growth^0 growth^1 ... growth^(k-1), whose exponents add up to k (k-1) / 2.
    taken, left, step = [Decimal(1)], [Decimal(1)], Decimal(1)
    for _ in range(max(ORDERS)):
        taken.append(_UP.multiply(_UP.multiply(taken[-1], rate), step))
        left.append(_UP.multiply(left[-1], rest))
        step = _UP.multiply(step, growth)
    costs = []
    for order in ORDERS:
        moment, binomial = Decimal(0), 1
        for k in range(order + 1):
            term = _UP.multiply(_UP.multiply(Decimal(binomial), left[order - k]), taken[k])
            moment = _UP.add(moment, term)
            binomial = binomial * (order - k) // (k + 1)
        costs.append(_UP.divide(_ln_up(moment), Decimal(order - 1)))
    return tuple(costs)


@lru_cache(maxsize=256)
def _offsets_micro(delta: float) -> tuple[int, ...]:
    """What the conversion adds at each order: ln((a-1)/a) - (ln delta + ln a) / (a-1), rounded up."""
    if not isinstance(delta, int | float) or not 0 < delta < 1:
        raise DeltaInvalidError("delta must lie between 0 and 1")
    log_delta = _ln_down(Decimal(delta))
    offsets = []
    for order in ORDERS:
        below = _UP.divide(Decimal(order - 1), Decimal(order))
        shared = _DOWN.divide(_DOWN.add(log_delta, _ln_down(Decimal(order))), Decimal(order - 1))
        offsets.append(_ceiling_micro(_UP.subtract(_ln_up(below), shared)))
    return tuple(offsets)
