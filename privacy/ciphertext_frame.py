"""The bytes of a protected update and of a sum: a header and BFV ciphertexts, all lengths fixed before use.

Lives here: writing and strictly reading the frame. No key and no arithmetic; `privacy.homomorphic` has those.
Integers are little-endian.

    offset  size
         0     4  magic "WRBF"
         4     1  version, 1
         5     1  kind: 1 a site's update, 2 a sum of updates
         6     1  lane_bits           \\ the packing, see
         7     1  maximum_sites       / `privacy.packing`
         8     2  sites: how many updates are in it (1 for kind 1)
        10     2  zero
        12     8  lane_count
        20     4  ciphertexts: ceil(ceil(lane_count / lanes_per_slot) / 4096)
        24    32  key id: SHA-256 of the public context's bytes
        56        then for each ciphertext
                      4  length
                 length  a ciphertext as Microsoft SEAL 4.x saves it:
                             0  2  magic 5e a1
                             2  1  header size, 16
                             3  2  SEAL's version
                             5  1  compression: 2, Zstandard
                             6  2  zero
                             8  8  length again
                            16     the two polynomials, compressed (that is: as they are, being random)

Nothing may follow. TenSEAL accepts an empty ciphertext and ignores the header's zero bytes; this reader does
not, so two different frames never carry the same update.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Literal

from ledger.errors import InputError
from privacy.packing import Packing, PackingInvalidError

UPDATE: Final = 1
SUM: Final = 2
SLOTS: Final = 4096
MAXIMUM_LANES: Final = 1 << 31

_HEADER: Final = struct.Struct("<4sBBBBHHQI32s")
_LENGTH: Final = struct.Struct("<I")
_SEAL_HEADER: Final = struct.Struct("<2sB2sBHQ")
_MAGIC: Final = b"WRBF"
_VERSION: Final = 1
# Two polynomials of 4096 coefficients modulo a 60-bit prime hold 61,440 bytes of entropy: none is shorter.
MINIMUM_CIPHERTEXT_BYTES: Final = 61_440
MAXIMUM_CIPHERTEXT_BYTES: Final = 66_560


class CiphertextLengthError(InputError):
    """Truncated, over-long or empty bytes where a frame or a ciphertext should be."""

    code = "privacy.ciphertext-length"


class CiphertextMalformedError(InputError):
    code = "privacy.ciphertext-malformed"


@dataclass(frozen=True, slots=True, kw_only=True)
class CiphertextFrame:
    """A parsed frame; the ciphertexts in it are only known to have the right lengths and headers."""

    kind: Literal[1, 2]
    packing: Packing
    sites: int
    lane_count: int
    key_id: bytes
    ciphertexts: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        parts = [
            _HEADER.pack(
                _MAGIC, _VERSION, self.kind, self.packing.lane_bits, self.packing.maximum_sites, self.sites,
                0, self.lane_count, len(self.ciphertexts), self.key_id,
            )
        ]  # fmt: skip
        for ciphertext in self.ciphertexts:
            parts += (_LENGTH.pack(len(ciphertext)), ciphertext)
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> CiphertextFrame:
        """Parse; raises `CiphertextLengthError` or `CiphertextMalformedError` and nothing else."""
        # 1. Header.
        if len(data) < _HEADER.size:
            raise CiphertextLengthError("the protected update is shorter than its header")
        magic, version, kind, lane_bits, maximum_sites, sites, zero, lane_count, count, key_id = (
            _HEADER.unpack_from(data)
        )
        if magic != _MAGIC or version != _VERSION or kind not in (UPDATE, SUM) or zero:
            raise CiphertextMalformedError("not a protected update of this format")
        # 2. Packing, and the counts that follow from it.
        try:
            packing = Packing(lane_bits=lane_bits, maximum_sites=maximum_sites)
        except PackingInvalidError:
            raise CiphertextMalformedError(
                "the protected update names a packing that does not exist"
            ) from None
        if not 1 <= sites <= maximum_sites or (kind == UPDATE and sites != 1):
            raise CiphertextMalformedError("the protected update names an impossible number of sites")
        if not 1 <= lane_count <= MAXIMUM_LANES or count != ciphertexts_for(packing, lane_count=lane_count):
            raise CiphertextLengthError("the number of ciphertexts does not fit the number of lanes")
        # 3. Ciphertexts, and nothing behind them.
        ciphertexts, at = [], _HEADER.size
        for _ in range(count):
            ciphertext = _read_ciphertext(data, at)
            ciphertexts.append(ciphertext)
            at += _LENGTH.size + len(ciphertext)
        if at != len(data):
            raise CiphertextLengthError("bytes follow the last ciphertext")
        return cls(
            kind=kind, packing=packing, sites=sites, lane_count=lane_count, key_id=key_id,
            ciphertexts=tuple(ciphertexts),
        )  # fmt: skip


def ciphertexts_for(packing: Packing, *, lane_count: int) -> int:
    """How many ciphertexts carry `lane_count` lanes."""
    return -(-packing.slots_for(lane_count) // SLOTS)


def _read_ciphertext(data: bytes, at: int) -> bytes:
    if len(data) - at < _LENGTH.size + _SEAL_HEADER.size:
        raise CiphertextLengthError("the protected update is truncated")
    (length,) = _LENGTH.unpack_from(data, at)
    if not MINIMUM_CIPHERTEXT_BYTES <= length <= MAXIMUM_CIPHERTEXT_BYTES:
        raise CiphertextLengthError("a ciphertext has an impossible length")
    at += _LENGTH.size
    if len(data) - at < length:
        raise CiphertextLengthError("the protected update is truncated")
    magic, header_bytes, _, compression, zero, inner_length = _SEAL_HEADER.unpack_from(data, at)
    if magic != b"\x5e\xa1" or header_bytes != _SEAL_HEADER.size or compression != 2 or zero:
        raise CiphertextMalformedError("a ciphertext has a header that is not SEAL's")
    if inner_length != length:
        raise CiphertextLengthError("a ciphertext contradicts its own length")
    return data[at : at + length]
