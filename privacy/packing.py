"""Several small signed lanes in one plaintext slot, so that adding slots adds every lane.

Lives here: the layout and its arithmetic on plain integers. Encryption is `privacy.homomorphic`; how a float
becomes a lane is `privacy.encoding`.

A slot holds k = `lanes_per_slot` lanes of L = `lane_bits` bits, lane 0 lowest, as one signed integer

    S = V_0 + V_1 2^L + ... + V_(k-1) 2^((k-1) L)

Why sums are exact. Let M = 2^(L-1) - 1, and let n = `maximum_sites`. A site's lane is refused unless |v| <=
M // n = `site_limit`, so the sum V_j of at most n sites has |V_j| <= M: no lane can overflow.
(1) Packing is linear, so the sum of slots is the slot of the sums, whatever borrows happen on the way.
(2) |S| <= M (2^(kL) - 1) / (2^L - 1) < 2^(kL-1) <= 2^43, because M / (2^L - 1) < 1/2 and kL <= 44. The prime
    t of `PLAIN_MODULUS` is above 2^44, and slots are read centred in (-t/2, t/2): S does not wrap.
(3) Reading back is unique. V_0 is congruent to S modulo 2^L and lies in [-M, M], which is shorter than 2^L, so
    exactly one number does. (S - V_0) / 2^L is the slot of the remaining lanes; go on by induction. Taking the
    digit as ((S + 2^(L-1)) mod 2^L) - 2^(L-1) is what stops a negative lane from borrowing from the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from ledger.errors import InputError

Lanes: TypeAlias = npt.NDArray[np.int32]
Slots: TypeAlias = npt.NDArray[np.int64]

PLAIN_MODULUS: Final = 35_184_371_884_033
"""A prime just below 2^45, congruent to 1 modulo 8192, so that batching has 4096 slots."""
PACKED_BITS: Final = 44
MINIMUM_LANE_BITS: Final = 8
MAXIMUM_LANE_BITS: Final = 32
MAXIMUM_SITES: Final = 50
"""Sums of so many ciphertexts were measured to decrypt exactly, with noise budget to spare."""


class PackingInvalidError(InputError):
    code = "privacy.packing-invalid"


class LaneOverflowError(InputError):
    """A lane is larger than the announced number of sites can add without overflow."""

    code = "privacy.lane-overflow"


class SumOutOfRangeError(InputError):
    """An opened sum holds what no honest sum can hold: foreign key, tampering or too many summands."""

    code = "privacy.sum-out-of-range"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """How lanes lie in slots: `lane_bits` 8 to 32, `maximum_sites` 1 to 50."""

    lane_bits: int
    maximum_sites: int

    def __post_init__(self) -> None:
        if not MINIMUM_LANE_BITS <= self.lane_bits <= MAXIMUM_LANE_BITS:
            raise PackingInvalidError(f"a lane has {MINIMUM_LANE_BITS} to {MAXIMUM_LANE_BITS} bits")
        if not 1 <= self.maximum_sites <= MAXIMUM_SITES:
            raise PackingInvalidError(f"a sum has 1 to {MAXIMUM_SITES} sites")

    @property
    def lanes_per_slot(self) -> int:
        return PACKED_BITS // self.lane_bits

    @property
    def lane_limit(self) -> int:
        """The largest absolute value of a summed lane."""
        return (1 << (self.lane_bits - 1)) - 1

    @property
    def site_limit(self) -> int:
        """The largest absolute value that one site may put into a lane: at least 2 (8 bits, 50 sites)."""
        return self.lane_limit // self.maximum_sites

    def slots_for(self, lane_count: int) -> int:
        """How many slots `lane_count` lanes fill."""
        return -(-lane_count // self.lanes_per_slot)

    def check(self, lanes: Lanes, *, sites: int = 1) -> None:
        """Refuse lanes that are not (n,) int32 within what `sites` sites may add up to."""
        if lanes.ndim != 1 or lanes.dtype != np.int32:
            raise PackingInvalidError("lanes are one row of 32-bit integers")
        limit = self.site_limit * sites
        if lanes.size and (int(lanes.max()) > limit or int(lanes.min()) < -limit):
            raise LaneOverflowError(
                f"a lane is larger than ±{limit}", remedy="Clip or scale before encoding."
            )

    def pack(self, lanes: Lanes) -> Slots:
        """(n,) lanes of one site, each within `site_limit`, to (slots_for(n),) slots, zero-filled."""
        self.check(lanes)
        padded = np.zeros(self.slots_for(len(lanes)) * self.lanes_per_slot, dtype=np.int64)
        padded[: len(lanes)] = lanes
        columns = padded.reshape(-1, self.lanes_per_slot)
        slots = columns[:, -1].copy()
        for lane in range(self.lanes_per_slot - 2, -1, -1):
            slots <<= self.lane_bits
            slots += columns[:, lane]
        return slots

    def unpack(self, slots: Slots, *, lane_count: int, sites: int) -> Lanes:
        """Summed slots to (lane_count,) summed lanes.

        Raises `SumOutOfRangeError` where a slot, a lane or the zero filling holds what `sites` sites that
        each kept to `site_limit` cannot have added up to.
        """
        if slots.ndim != 1 or slots.dtype != np.int64 or len(slots) != self.slots_for(lane_count):
            raise PackingInvalidError("the slots do not hold that many lanes")
        if not 1 <= sites <= self.maximum_sites:
            raise PackingInvalidError(f"a sum has 1 to {self.maximum_sites} sites")
        half = 1 << (self.lane_bits - 1)
        columns = np.empty((len(slots), self.lanes_per_slot), dtype=np.int64)
        rest = slots.copy()
        for lane in range(self.lanes_per_slot):
            digit = ((rest + half) & ((1 << self.lane_bits) - 1)) - half
            columns[:, lane] = digit
            rest -= digit
            rest >>= self.lane_bits
        wide = columns.reshape(-1)
        limit = self.site_limit * sites
        outside = rest.any() or (wide.size and (int(wide.max()) > limit or int(wide.min()) < -limit))
        if outside or wide[lane_count:].any():
            raise SumOutOfRangeError(
                "the opened sum is not one of this many sites under this key and packing"
            )
        return wide[:lane_count].astype(np.int32)
