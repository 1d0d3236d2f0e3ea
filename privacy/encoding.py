"""Floats to integer lanes and back: the one fixed-point encoding that all protected sums share.

Lives here: clipping to an L2 ball, the scale, rounding, and decoding a sum. Packing lanes into ciphertext
slots is `privacy.packing`. Nothing here saturates: what does not fit is refused.

With P = floor((2^(lane_bits-1) - 1) / maximum_sites) the largest lane of one site, the scale is (P - 1) /
bound: |x| <= bound gives |x scale| <= (P - 1)(1 + 2^-52), which rounds to at most P, and maximum_sites lanes
of P fit the signed lane. Every encoded array is checked against P all the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ledger.errors import InputError
from privacy.noise import NoiseStream
from privacy.packing import LaneOverflowError, Lanes, Packing

_CHUNK = 1 << 16

Vector: TypeAlias = npt.NDArray[np.float64] | npt.NDArray[np.float32]


class ValueOutOfRangeError(InputError):
    code = "privacy.value-out-of-range"


class EncodingInvalidError(InputError):
    code = "privacy.encoding-invalid"


def clip_l2(vector: Vector, bound: float) -> npt.NDArray[np.float64]:
    """Scale (n,) floats so that their L2 norm is at most `bound`; shorter vectors come back unchanged.

    The result's norm, and therefore every |x|, is at most `bound` as computed in float64, so that it encodes.
    Raises `ValueOutOfRangeError` for NaN and infinity.
    """
    if not (math.isfinite(bound) and bound > 0):
        raise EncodingInvalidError("a clipping bound is a positive number")
    clipped = vector.astype(np.float64)
    if clipped.ndim != 1 or not np.isfinite(clipped).all():
        raise ValueOutOfRangeError("a vector to clip is one row of finite numbers")
    largest = float(np.abs(clipped).max(initial=0.0))
    if largest > bound:
        clipped *= bound / largest  # First, so that no square overflows.
    norm = float(np.linalg.norm(clipped))
    shrink = 1.0
    while norm * shrink > bound or float(np.linalg.norm(clipped * shrink)) > bound:
        shrink = math.nextafter(min(shrink, bound / norm), 0.0) * (1.0 - 2.0**-50)
    return clipped if shrink == 1.0 else clipped * shrink


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """A fixed-point encoding: constants of the plan, the same at every site.

    `bound` is the largest |x| of a coordinate (an L2 clip bounds every coordinate too), in the units of x.
    """

    lane_bits: int
    bound: float
    maximum_sites: int

    def __post_init__(self) -> None:
        if not self.bound > 0:
            raise EncodingInvalidError("an encoding's bound is a positive number")
        if not 1e-300 <= self.scale <= 1e300:
            raise EncodingInvalidError("an encoding's bound is too small or too large for its lanes")

    @property
    def packing(self) -> Packing:
        """The layout of the lanes; refuses widths and site counts that do not exist."""
        return Packing(lane_bits=self.lane_bits, maximum_sites=self.maximum_sites)

    @property
    def scale(self) -> float:
        """Lanes per unit of x."""
        return (self.packing.site_limit - 1) / self.bound

    def encode(self, values: Vector, stream: NoiseStream | None = None) -> Lanes:
        """(n,) floats within ±bound to (n,) lanes.

        With a `stream`, rounding is stochastic: up with the probability of the fraction, so that a sum's
        error has mean zero. Without, to the nearest integer. NaN, infinity and |x| > bound are refused.
        """
        exact = values.astype(np.float64)
        if exact.ndim != 1:
            raise EncodingInvalidError("values to encode are one row of numbers")
        # Not "any > bound": a NaN must fail the comparison, not pass it.
        if not bool((np.abs(exact) <= self.bound).all()):
            raise ValueOutOfRangeError(
                "a value is not a number within the encoding's bound", remedy="Clip before encoding."
            )
        exact *= self.scale
        if stream is None:
            rounded = np.rint(exact)
        else:
            rounded = np.floor(exact)
            rounded += stream.uniforms(len(exact)) < exact - rounded
        lanes: Lanes = rounded.astype(np.int32)
        self.packing.check(lanes)
        return lanes

    def encode_counts(self, counts: npt.NDArray[np.int64]) -> Lanes:
        """(n,) whole numbers, a noised histogram say, to lanes of scale 1: lanes and counts sum alike."""
        if counts.dtype != np.int64:
            raise EncodingInvalidError("counts are 64-bit integers")
        limit = self.packing.site_limit
        if counts.size and (int(counts.max()) > limit or int(counts.min()) < -limit):
            raise LaneOverflowError(f"a count is larger than ±{limit}")
        return counts.astype(np.int32)

    def sum_norm_micro(self, lanes: Lanes, *, sites: int) -> int:
        """L2 norm of the sum that (n,) lanes of `sites` sites decode to, in millionths of x, rounded up; what
        rounding alone can add (one lane a coordinate and site) is taken off. Exact, so that all machines agree.

        `sites` honest updates, each of norm at most `bound`, give at most `sites * bound`.
        """
        self.packing.check(lanes, sites=sites)
        squares = _sum_of_squares(lanes)
        rounding = sites * (math.isqrt(max(0, len(lanes) - 1)) + 1 if len(lanes) else 0)
        whole = max(0, math.isqrt(max(0, squares - 1)) + 1 - rounding) if squares else 0
        return math.ceil(Fraction(whole * 1_000_000) / Fraction(self.scale))

    def decode_sum(self, lanes: Lanes, *, sites: int) -> npt.NDArray[np.float64]:
        """(n,) summed lanes of `sites` sites to the (n,) sum of values; divided by `sites`, their mean."""
        if not 1 <= sites <= self.maximum_sites:
            raise EncodingInvalidError(f"a sum has 1 to {self.maximum_sites} sites")
        self.packing.check(lanes, sites=sites)
        decoded: npt.NDArray[np.float64] = lanes / self.scale
        return decoded


def _sum_of_squares(lanes: Lanes) -> int:
    """Exact. A square is below 2^62: its high and low halves are summed apart, a chunk at a time."""
    total = 0
    for start in range(0, len(lanes), _CHUNK):
        squares = lanes[start : start + _CHUNK].astype(np.int64) ** 2
        total += (int((squares >> 32).sum()) << 32) + int((squares & 0xFFFFFFFF).sum())
    return total
