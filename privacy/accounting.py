"""The cost of mechanisms: Rényi-DP curves at fixed orders, in integer micro-units, rounded up.

Lives here: the curve of each mechanism, adding curves, reading an epsilon at a delta off a curve, and what a
filter needs to know of a cap. The divergence of one use is `privacy.rdp`; pools, caps and reservations live in
`policies`; noise is drawn in `privacy.noise`. Integers and `decimal` with directed rounding only (see
`privacy.rdp` for why), so that every machine gets the same micro-unit, and never one too low.

Sources:
    composition           Mironov 2017, proposition 1: curves add
    conversion            Balle, Barthe, Gaboardi, Hsu, Sato 2020, theorem 21; Canonne, Kamath, Steinke 2020
    filter                Feldman, Zrnic 2021, "Individual Privacy Accounting via a Rényi Filter", theorem 4.3:
                          uses chosen one after another, each in view of the results before it, stay within the
                          cap if their costs at one order fixed beforehand stay within `rdp_cap_micro`
"""

from __future__ import annotations

import decimal
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final

from ledger.canonical import JsonValue
from ledger.errors import InputError
from privacy.mechanisms import DistributedGaussian, Mechanism, SubsampledGaussian
from privacy.rdp import DOWN, ORDERS, UP, ln_down, ln_up, one_use

__all__ = [
    "LARGEST_MICRO", "MICRO", "ORDERS", "CapInvalidError", "CostTooLargeError", "Curve", "CurveInvalidError",
    "DeltaInvalidError", "best_order", "curve", "default_order", "epsilon_micro", "epsilon_micro_at",
    "rdp_cap_micro", "total",
]  # fmt: skip

MICRO: Final = 1_000_000
LARGEST_MICRO: Final = 2**53 - 1
"""Canonical JSON carries no larger integer; a cost beyond it (an epsilon of 9e9) is refused."""


class CurveInvalidError(InputError):
    code = "privacy.curve-invalid"


class CostTooLargeError(InputError):
    code = "privacy.cost-too-large"


class DeltaInvalidError(InputError):
    code = "privacy.delta-invalid"


class CapInvalidError(InputError):
    code = "privacy.cap-invalid"


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
        # Two curves' sum is one but for its size, and a long log adds up a great many.
        values = tuple(map(operator.add, self.rdp_micro, other.rdp_micro))
        if max(values) > LARGEST_MICRO:
            return Curve(values)  # which refuses it
        added = object.__new__(Curve)
        object.__setattr__(added, "rdp_micro", values)
        return added

    def __sub__(self, part: Curve) -> Curve:
        """What is left when `part` of this cost was not used; CurveInvalidError if it is no part of it."""
        return Curve(tuple(map(operator.sub, self.rdp_micro, part.rdp_micro)))

    def scaled(self, count: int) -> Curve:
        """The cost of `count` independent uses of what this curve is the cost of."""
        if isinstance(count, bool) or count < 0:
            raise CurveInvalidError("a curve is scaled by a whole number, not below zero")
        return Curve(tuple(value * count for value in self.rdp_micro))

    def at_most(self, other: Curve) -> bool:
        """Whether this cost is no larger than `other` at every order."""
        return all(a <= b for a, b in zip(self.rdp_micro, other.rdp_micro, strict=True))

    def at(self, order: int) -> int:
        """The cost at one of `ORDERS`, in micro-units: what a filter that pinned this order adds up."""
        return self.rdp_micro[_index(order)]

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
    times = (
        mechanism.steps
        if isinstance(mechanism, SubsampledGaussian | DistributedGaussian)
        else mechanism.count
    )
    return Curve(tuple(_ceiling_micro(UP.multiply(Decimal(times), rdp)) for rdp in one_use(mechanism)))


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
    return max(0, cost.at(order) + _offset_micro(delta, order))


def best_order(cost: Curve, delta: float) -> int:
    """The order at which `epsilon_micro` is reached; the lowest if several are."""
    offsets = _offsets_micro(delta)
    return min(zip(cost.rdp_micro, offsets, ORDERS, strict=True), key=lambda at: at[0] + at[1])[2]


def default_order(epsilon_cap_micro: int, delta: float) -> int:
    """The order to pin for a pool of this cap whose uses are not known yet: the one that admits the most of
    Gaussian uses, whose cost grows in proportion to the order; the lowest if several admit as much.

    Where the conversion at `delta` alone reaches the cap at every order, the order that misses it by the least.
    Raises `CapInvalidError` and `DeltaInvalidError`.
    """
    _check_cap(epsilon_cap_micro)
    rooms = [epsilon_cap_micro - offset for offset in _offsets_micro(delta)]
    if max(rooms) > 0:
        # Exact fractions: two machines must never disagree on a tie.
        scores = [Fraction(room, order) for room, order in zip(rooms, ORDERS, strict=True)]
    else:
        scores = [Fraction(room) for room in rooms]
    return ORDERS[scores.index(max(scores))]


def rdp_cap_micro(epsilon_cap_micro: int, delta: float, *, order: int) -> int:
    """The most that uses may cost together at `order` for their epsilon at `delta` to stay within the cap.

    For every cost that exists, `cost.at(order) <= rdp_cap_micro(cap, delta, order=order)` holds if and only if
    `epsilon_micro_at(cost, delta, order=order) <= cap` does. -1 where the conversion alone exceeds the cap, so
    that nothing fits, not even a use that costs nothing. Micro-units, at most `LARGEST_MICRO`.
    Raises `CapInvalidError`, `DeltaInvalidError`, and `CurveInvalidError` for an order not published.
    """
    _check_cap(epsilon_cap_micro)
    return max(-1, min(LARGEST_MICRO, epsilon_cap_micro - _offset_micro(delta, order)))


def _check_cap(epsilon_cap_micro: object) -> None:
    if isinstance(epsilon_cap_micro, bool) or not isinstance(epsilon_cap_micro, int):
        raise CapInvalidError("a cap is a whole number of micro-units")
    if not 0 <= epsilon_cap_micro <= LARGEST_MICRO:
        raise CapInvalidError(f"a cap lies between 0 and {LARGEST_MICRO} micro-units")


def _index(order: int) -> int:
    if order not in ORDERS:
        raise CurveInvalidError("the order is not one of the published orders")
    return ORDERS.index(order)


def _offset_micro(delta: float, order: int) -> int:
    return _offsets_micro(delta)[_index(order)]


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
    return int(UP.multiply(value, Decimal(MICRO)).to_integral_value(decimal.ROUND_CEILING))


@lru_cache(maxsize=256)
def _offsets_micro(delta: float) -> tuple[int, ...]:
    """What the conversion adds at each order: ln((a-1)/a) - (ln delta + ln a) / (a-1), rounded up."""
    if not isinstance(delta, int | float) or not 0 < delta < 1:
        raise DeltaInvalidError("delta must lie between 0 and 1")
    log_delta = ln_down(Decimal(delta))
    offsets = []
    for order in ORDERS:
        below = UP.divide(Decimal(order - 1), Decimal(order))
        shared = DOWN.divide(DOWN.add(log_delta, ln_down(Decimal(order))), Decimal(order - 1))
        offsets.append(_ceiling_micro(UP.subtract(ln_up(below), shared)))
    return tuple(offsets)
