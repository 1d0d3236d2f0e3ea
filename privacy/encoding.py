"""Floats to integer lanes and back: the one fixed-point encoding that all protected sums share.

Lives here: clipping to an L2 ball, the scale, rounding, and decoding a sum. Packing lanes into ciphertext
slots is `privacy.packing`. Nothing here saturates: what does not fit is refused.

With P = floor((2^(lane_bits-1) - 1) / maximum_sites) the largest lane of one site, the scale is (P - 1) /
bound: |x| <= bound gives |x scale| <= (P - 1)(1 + 2^-52), which rounds to at most P, and maximum_sites lanes
of P fit the signed lane. Every encoded array is checked against P all the same.

Stochastic rounding is floor(x scale + u) with u uniform in [0, 1) (Gupta et al. 2015, section 3.1), in integers: with
q = x scale 2^32 cut to a whole number and w a uniform 32-bit word, the lane is floor((q + w) / 2^32). Cutting
and the one product are all that is inexact: the mean of a lane is x scale to within 2^-32 + |x scale| 2^-53,
and a whole number never moves.

Vectors pass in chunks, so that one of 125 million costs a few small buffers beside the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ledger.errors import InputError
from privacy.distributed_noise import NoiseShare
from privacy.noise import NoiseStream
from privacy.packing import LaneOverflowError, Lanes, Packing

_CHUNK: Final = 1 << 16
_DOT: Final = 1 << 13
"""Longer products (from 10,001) OpenBLAS spreads over threads, which wait for each other on a busy machine: clipping
a million values then took 130 ms in place of 3."""
_WORD: Final = 2.0**32

Vector: TypeAlias = npt.NDArray[np.float64] | npt.NDArray[np.float32]
_Float = TypeVar("_Float", np.float32, np.float64)


class ValueOutOfRangeError(InputError):
    code = "privacy.value-out-of-range"


class EncodingInvalidError(InputError):
    code = "privacy.encoding-invalid"


def clip_l2(
    vector: npt.NDArray[_Float], bound: float, *, out: npt.NDArray[_Float] | None = None
) -> npt.NDArray[_Float]:
    """Scale (n,) floats so that their L2 norm is at most `bound`; shorter vectors come back unchanged.

    The result's norm, and therefore every |x|, is at most `bound` as computed in float64, so that it encodes. It
    has the type of `vector`; what was shrunk lies a part in 2^40 (float32: 2^20) below the bound, so that neither
    rounding nor another order of summation carries it over. `out`, which may be `vector` itself, takes the result;
    otherwise it is a new array. Raises `ValueOutOfRangeError` for NaN and infinity.
    """
    if not (math.isfinite(bound) and bound > 0):
        raise EncodingInvalidError("a clipping bound is a positive number")
    if vector.ndim != 1 or vector.dtype not in (np.float32, np.float64):
        raise ValueOutOfRangeError("a vector to clip is one row of finite numbers")
    clipped = np.empty_like(vector) if out is None else out
    if clipped.shape != vector.shape or clipped.dtype != vector.dtype:
        raise EncodingInvalidError("a clipped vector has the length and type of the vector")
    shrink = _shrink(vector, bound)
    if shrink == 1.0:
        np.copyto(clipped, vector)
    slack = 2.0**-20 if vector.dtype == np.float32 else 2.0**-40
    source = vector
    while shrink < 1.0:
        for part in _parts(len(vector)):
            factor = shrink * (1.0 - slack)
            np.multiply(source[part], factor, out=clipped[part], dtype=np.float64, casting="same_kind")
        # Checked, not assumed. Only numbers so small that they cannot shrink a little need another turn.
        source, slack = clipped, min(1.0, 16.0 * slack)
        shrink = _shrink(clipped, bound)
    return clipped


def clip_coordinates(vector: Vector, bound: float) -> None:
    """Bring every coordinate of (n,) floats into ±bound, in place. What is not a number stays so, and is refused when
    it is encoded."""
    limit = vector.dtype.type(bound)
    if float(limit) > bound:  # float32 may round it up, beyond what encodes
        limit = np.nextafter(limit, vector.dtype.type(0))
    np.clip(vector, -limit, limit, out=vector)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """A fixed-point encoding: constants of the plan, the same at every site.

    `bound` is the largest |x| of a coordinate (an L2 clip bounds every coordinate too), in the units of x.
    """

    lane_bits: int
    bound: float
    maximum_sites: int
    lanes_per_unit: float | None = None
    """The scale, where it is not the largest that `bound` has room for: noise needs some of it."""

    def __post_init__(self) -> None:
        if not self.bound > 0:
            raise EncodingInvalidError("an encoding's bound is a positive number")
        if not 1e-290 <= self.scale <= 1e290:
            raise EncodingInvalidError("an encoding's bound is too small or too large for its lanes")
        if self.lanes_per_unit is not None and not self._has_room():
            raise EncodingInvalidError("an encoding's scale is too large for its bound")

    @property
    def packing(self) -> Packing:
        """The layout of the lanes; refuses widths and site counts that do not exist."""
        return Packing(lane_bits=self.lane_bits, maximum_sites=self.maximum_sites)

    def _has_room(self) -> bool:
        return Fraction(self.scale) * Fraction(self.bound) <= self.packing.site_limit - 1

    @property
    def scale(self) -> float:
        """Lanes per unit of x."""
        if self.lanes_per_unit is not None:
            return self.lanes_per_unit
        return (self.packing.site_limit - 1) / self.bound

    def encode(self, values: Vector, stream: NoiseStream | None = None, *, out: Lanes | None = None) -> Lanes:
        """(n,) floats within ±bound to (n,) lanes, in `out` if given.

        With a `stream`, rounding is stochastic: up with the probability of the fraction, so that a sum's
        error has mean zero. Without, to the nearest integer. NaN, infinity and |x| > bound are refused; `out` then
        holds nothing of use.
        """
        if values.ndim != 1 or values.dtype not in (np.float32, np.float64):
            raise EncodingInvalidError("values to encode are one row of numbers")
        lanes: Lanes = np.empty(len(values), dtype=np.int32) if out is None else out
        if lanes.shape != values.shape or lanes.dtype != np.int32:
            raise EncodingInvalidError("lanes are as many as the values, of 32 bits")
        size = min(_CHUNK, len(values))
        exact = np.empty(size, dtype=np.float64)
        fixed = np.empty(size, dtype=np.int64)
        words = np.empty(size if stream is not None else 0, dtype=np.uint32)
        for part in _parts(len(values)):
            chunk = values[part]
            if len(chunk) < size:
                exact, fixed, words = exact[: len(chunk)], fixed[: len(chunk)], words[: len(chunk)]
            # As Python's numbers, or the bound would be rounded to float32. A NaN fails either comparison.
            if not (float(chunk.max()) <= self.bound and float(chunk.min()) >= -self.bound):
                raise ValueOutOfRangeError(
                    "a value is not a number within the encoding's bound", remedy="Clip before encoding."
                )
            if stream is None:
                np.multiply(chunk, self.scale, out=exact, dtype=np.float64)
                np.rint(exact, out=exact)
                exact *= _WORD
                np.copyto(fixed, exact, casting="unsafe")
            else:
                np.multiply(chunk, self.scale * _WORD, out=exact, dtype=np.float64)
                np.copyto(fixed, exact, casting="unsafe")
                stream.fill(words)
                fixed += words
            fixed >>= 32
            lanes[part] = fixed
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

    def sum_norm_micro(self, lanes: Lanes, *, sites: int, share: NoiseShare | None = None) -> int:
        """L2 norm of the sum that (n,) lanes of `sites` sites decode to, in millionths of x, rounded up; what
        rounding alone can add (one lane a coordinate and site) is taken off, and what noise can, where each site
        added its `share`. Exact, so that all machines agree.

        `sites` honest updates, each of norm at most `bound`, give at most `sites * bound`; under noise but for a
        probability of 2^-40.
        """
        self.packing.check(lanes, sites=sites)
        squares = _sum_of_squares(lanes)
        rounding = sites * (math.isqrt(max(0, len(lanes) - 1)) + 1 if len(lanes) else 0)
        if share is None:
            norm = math.isqrt(max(0, squares - 1)) + 1 if squares else 0
        else:
            norm = share.norm_lanes(squares, coordinates=len(lanes), sites=sites)
        whole = max(0, norm - rounding)
        return math.ceil(Fraction(whole * 1_000_000) / Fraction(self.scale))

    def decode_sum(self, lanes: Lanes, *, sites: int) -> npt.NDArray[np.float64]:
        """(n,) summed lanes of `sites` sites to the (n,) sum of values; divided by `sites`, their mean.

        Lane by lane: a part of the lanes decodes to that part of the sum, for who has no room for the whole.
        """
        return self.decode_sum_into(np.empty(len(lanes), dtype=np.float64), lanes, sites=sites)

    def decode_sum_into(self, out: npt.NDArray[_Float], lanes: Lanes, *, sites: int) -> npt.NDArray[_Float]:
        """`decode_sum` into (n,) float64 or float32, the latter rounded once; returns `out`."""
        if not 1 <= sites <= self.maximum_sites:
            raise EncodingInvalidError(f"a sum has 1 to {self.maximum_sites} sites")
        self.packing.check(lanes, sites=sites)
        if out.shape != lanes.shape:
            raise EncodingInvalidError("a decoded sum is as long as its lanes")
        for part in _parts(len(lanes)):
            np.divide(lanes[part], self.scale, out=out[part], dtype=np.float64, casting="same_kind")
        return out


def _parts(length: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, length, _CHUNK))


def _shrink(vector: Vector, bound: float) -> float:
    """1.0 if the norm is at most `bound`, else their ratio, below 1.

    Squares of float64 are taken of x 2^-e with the largest |x 2^-e| in [1/2, 1), so that none overflows and none that
    counts vanishes; a power of two rounds nothing. Squares of float32 need no such care in float64.
    """
    exponent = 0
    if vector.dtype == np.float64:
        largest = max(abs(float(vector.max(initial=0.0))), abs(float(vector.min(initial=0.0))))
        exponent = max(-1000, math.frexp(largest)[1]) if math.isfinite(largest) else 0
    factor = math.ldexp(1.0, -exponent)
    scaled = np.empty(min(_CHUNK, len(vector)), dtype=np.float64)
    squares = 0.0
    for part in _parts(len(vector)):
        chunk = vector[part]
        np.multiply(chunk, factor, out=scaled[: len(chunk)], dtype=np.float64)
        for start in range(0, len(chunk), _DOT):
            few = scaled[start : min(start + _DOT, len(chunk))]
            squares += float(np.dot(few, few))
    if not math.isfinite(squares):
        raise ValueOutOfRangeError("a vector to clip is one row of finite numbers")
    norm = math.sqrt(squares)
    try:
        limit = math.ldexp(bound, -exponent)
    except OverflowError:
        return 1.0
    return 1.0 if norm <= limit else min(limit / norm, 1.0 - 2.0**-53)


def _sum_of_squares(lanes: Lanes) -> int:
    """Exact. A square is below 2^62: its high and low halves are summed apart, a chunk at a time."""
    total = 0
    for start in range(0, len(lanes), _CHUNK):
        squares = lanes[start : start + _CHUNK].astype(np.int64) ** 2
        total += (int((squares >> 32).sum()) << 32) + int((squares & 0xFFFFFFFF).sum())
    return total
