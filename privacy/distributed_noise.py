"""Noise that is shared out: each site adds its part on integers, and the sum carries the whole.

Lives here: how finely updates are encoded, how much noise a site adds, and that both fit the lanes. Drawing it is
`privacy.discrete_gaussian`; what it costs, and why, `privacy.mechanisms.DistributedGaussian`.

After Kairouz, Liu, Steinke 2021 ("The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure
Aggregation", arXiv:2102.06387), without their rotation and conditional rounding, which lanes of 8 bits need and wide
ones do not. With

    z   noise multiplier that the plan claims
    D   L2 sensitivity of a site's update: one patient moves it so far
    h   shares that are counted on: the plan's smallest set of sites less the colluding
    s   lanes per unit of the update; a share has a sigma of 2^m lanes
    d   coordinates

a site rounds s u to whole numbers, to the nearest, and adds noise of sigma 2^m to each. One patient moves the rounded
vector by at most s D + sqrt(d) (each coordinate of either vector is rounded by at most 1/2), which must be at most
s D (1 + 2^-10). h shares have a sigma of 2^m sqrt(h). So

    s = 2^m sqrt(h) / (z D (1 + 2^-10)), rounded down to a double

gives h shares at least z times the sensitivity. More shares than h, of sites that neither collude nor drop out, are
noise on top. m is the largest up to 24 with s bound + 13 2^m + 1 within what one site may put in a lane: a share goes
beyond 13 sigma with a probability below 2 exp(-84.5) < 2^-120 (a discrete Gaussian is subgaussian: Canonne, Kamath,
Steinke 2020), so that in 2^30 coordinates of 50 sites over 1000 rounds one does with less than 2^-74. Such a share
is refused, which tells nothing of the data but with that probability.

Everything is a function of the plan's numbers, in whole numbers and fractions: all parties have the same s and m.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Final

import numpy as np

from ledger.errors import CodedError, InputError
from privacy.discrete_gaussian import MAXIMUM_BITS, discrete_gaussian
from privacy.mechanisms import MAXIMUM_COORDINATES, MINIMUM_SHARE_BITS
from privacy.noise import NoiseStream
from privacy.packing import LaneOverflowError, Lanes, Packing

_SLACK: Final = Fraction(1, 1024)
"""Of the sensitivity, for rounding to whole lanes."""
_TAIL_SIGMAS: Final = 13
_NORM_NATS: Final = 29
"""Each of two bounds of a sum's norm fails with a probability of exp(-29) < 2^-41."""


class ResolutionError(InputError, ValueError):
    """The lanes are too narrow for the noise and what it is to hide. A `ValueError`, so that a plan is refused for it
    with all its other faults."""

    code = "privacy.resolution"


class ShareOutOfRangeError(CodedError):
    """The noise left its bounds; with a probability below 2^-74 in any plan."""

    code = "privacy.share-out-of-range"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseShare:
    """One site's part of the noise: constants of the plan, the same at every site."""

    shares: int
    """h: how many are counted on."""
    bits: int
    """m: a share's sigma is 2^m lanes."""
    scale: float
    """s: lanes per unit of the update."""
    sensitivity: Fraction
    """D, in units of the update."""

    def require_resolution(self, coordinates: int, *, clip_l2: float) -> None:
        """Rounding so many coordinates must not move one patient's part by more than is charged for. `clip_l2` is the
        update's."""
        most = math.floor(Fraction(self.scale) * self.sensitivity * _SLACK)
        # What is clipped lies 2^-40 below the bound, as `privacy.encoding` computes it, and what is not does not:
        # between the two a patient may move the update so much further. One lane more for scaling in doubles.
        most -= 1 + math.ceil(Fraction(self.scale) * Fraction(clip_l2) / 2**39)
        if coordinates > MAXIMUM_COORDINATES or _root_up(coordinates) > most:
            raise ResolutionError(
                f"{coordinates} weights cannot be rounded finely enough beside this noise; "
                f"the lanes are good for {max(0, most) ** 2}",
                remedy="Widen update.lane_bits, lower update.maximum_sites, or set update.coordinate_clip: "
                "a few times learning_rate * clip_l2 / nominal_batch_patients.",
            )

    def added(self, lanes: Lanes, stream: NoiseStream, *, packing: Packing) -> Lanes:
        """(n,) lanes of one site with its share of the noise on each, drawn here and once."""
        limit = packing.site_limit
        room = limit - (_TAIL_SIGMAS << self.bits)
        if lanes.size and max(int(lanes.max()), -int(lanes.min())) > room:
            raise LaneOverflowError(f"a lane is larger than ±{room}", remedy="Clip before encoding.")
        noised = discrete_gaussian(stream, len(lanes), bits=self.bits)
        noised += lanes
        if noised.size and max(int(noised.max()), -int(noised.min())) > limit:
            raise ShareOutOfRangeError(
                "the noise left its bounds", remedy="Run the plan again as another edition."
            )
        return noised.astype(np.int32)

    def norm_lanes(self, squares: int, *, coordinates: int, sites: int) -> int:
        """A lower bound of what noise left of the L2 norm V of n `sites` updates' sum, from the sum of squares of its
        noised lanes: at most V with a probability of at least 1 - 2^-40, whatever the updates are. Exact.

        The noise N of n sites is subgaussian in every direction, of variance v = n 4^m. So with t = 29,
        |N|^2 <= v (d + 2 sqrt(d t) + 2 t) (Hsu, Kakade, Zhang 2012, theorem 2.1) and <V, N> <= |V| sqrt(2 t v), each
        but for exp(-t): the squares are at most |V|^2 + 2 |V| c + v (d + ...) with c = sqrt(2 t v), which is solved
        for |V|.
        """
        variance = sites << (2 * self.bits)
        spread = 2 * _root_up(coordinates * _NORM_NATS) + 2 * _NORM_NATS
        beyond = squares - variance * (coordinates + spread)
        across = 2 * _NORM_NATS * variance
        return max(0, math.isqrt(max(0, beyond) + across) - _root_up(across))


@lru_cache(maxsize=256)
def noise_share(
    *, noise_multiplier: float, sensitivity: Fraction, bound: float, shares: int, packing: Packing
) -> NoiseShare:
    """The finest share that fits: `bound` is the most that a coordinate of an update may be, in its units.

    Raises `ResolutionError` where none does.
    """
    if shares < 1:
        raise ResolutionError("noise of which no honest site has a share hides nothing")
    square = shares / (Fraction(noise_multiplier) * sensitivity * (1 + _SLACK)) ** 2
    for bits in range(MAXIMUM_BITS, MINIMUM_SHARE_BITS - 1, -1):
        try:
            scale = _root_down(square * 4**bits)
        except OverflowError:  # of a plan with numbers that no double tells from nothing
            continue
        largest = math.floor(Fraction(scale) * Fraction(bound)) + 1
        if scale > 0 and largest + (_TAIL_SIGMAS << bits) <= packing.site_limit:
            return NoiseShare(shares=shares, bits=bits, scale=scale, sensitivity=sensitivity)
    raise ResolutionError(
        "the lanes have no room for an update and its share of the noise",
        remedy="Widen update.lane_bits, lower update.maximum_sites, or set update.coordinate_clip.",
    )


def _root_up(value: int) -> int:
    return math.isqrt(value - 1) + 1 if value > 0 else 0


def _root_down(square: Fraction) -> float:
    """The largest double that is not above the root of a positive `square`."""
    # Scaled by 4^k the root has 60 bits or more before the point, of which a double has 53.
    shift = max(0, 60 - (square.numerator.bit_length() - square.denominator.bit_length()) // 2)
    root = math.isqrt((square.numerator << (2 * shift)) // square.denominator)
    cut = root.bit_length() - 53
    return math.ldexp(root >> cut, cut - shift)
