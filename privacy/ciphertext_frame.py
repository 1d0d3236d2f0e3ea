"""The bytes of an encrypted update: a header and BFV ciphertexts in one of two forms, all lengths fixed before use.

Lives here: writing and strictly reading the frame. No key and no arithmetic; `privacy.homomorphic` has those.
Integers are little-endian.

    offset  size
         0     4  magic "WRBF"
         4     1  version, 2
         5     1  form: 1 public-key, 2 seeded
         6     1  lane_bits           \\ the packing, see
         7     1  maximum_sites       / `privacy.packing`
         8     8  lane_count
        16     4  ciphertexts: ceil(ceil(lane_count / lanes_per_slot) / 4096)
        20    32  key id: SHA-256 of the public context's bytes
        52    32  label: `SumContext.label` of the sum and the site that this update is for
        84        then for each ciphertext
                      4  length
                 length  a ciphertext as Microsoft SEAL 4.x saves it:
                             0  2  magic 5e a1
                             2  1  header size, 16
                             3  2  SEAL's version
                             5  1  compression: 2, Zstandard
                             6  2  zero
                             8  8  length again
                            16  4  Zstandard's magic 28 b5 2f fd
                            20  1  60: one segment, whose size has two bytes
                            21  2  bytes before compression less 256: 65,633 of form 1, 32,946 of form 2
                            23     compressed (that is: as they are, being random)
                                   form 1: both polynomials
                                   form 2: the first, and the 64-byte seed from which SEAL draws the second

Nothing may follow. SEAL tells the two forms apart by a mark inside what is compressed, TenSEAL accepts an empty
ciphertext and ignores the header's zero bytes; this reader holds every ciphertext to the form that the frame names,
and to these headers.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ledger.errors import InputError
from privacy.packing import Packing, PackingInvalidError

Form: TypeAlias = Literal[1, 2]
PUBLIC_KEY: Final = 1
SEEDED: Final = 2
SLOTS: Final = 4096
MAXIMUM_LANES: Final = 1 << 31
LABEL_BYTES: Final = 32

_HEADER: Final = struct.Struct("<4sBBBBQI32s32s")
HEADER_BYTES: Final = _HEADER.size
_LENGTH: Final = struct.Struct("<I")
_SEAL_HEADER: Final = struct.Struct("<2sB2sBHQ4sBH")
_SEAL_HEADER_BYTES: Final = 16
_MAGIC: Final = b"WRBF"
_VERSION: Final = 2
_SEAL_MAGIC: Final = b"\x5e\xa1"
_ZSTANDARD: Final = 2
_ZSTANDARD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ONE_SEGMENT: Final = 0x60
_EXPANDED_BYTES: Final = {PUBLIC_KEY: 65_633, SEEDED: 32_946}
# A polynomial of 4096 coefficients modulo a 60-bit prime holds 30,720 bytes of entropy: none is shorter.
_LEAST_BYTES: Final = {PUBLIC_KEY: 61_440, SEEDED: 30_720}
_MOST_BYTES: Final = {PUBLIC_KEY: 66_560, SEEDED: 33_280}


class CiphertextLengthError(InputError):
    """Truncated, over-long or empty bytes where a frame or a ciphertext should be."""

    code = "privacy.ciphertext-length"


class CiphertextMalformedError(InputError):
    code = "privacy.ciphertext-malformed"


@dataclass(frozen=True, slots=True, kw_only=True)
class CiphertextFrame:
    """A parsed frame; the ciphertexts in it are only known to have the right lengths and headers."""

    form: Form
    packing: Packing
    lane_count: int
    key_id: bytes
    label: bytes
    ciphertexts: Sequence[bytes | memoryview]

    def to_bytes(self) -> bytes:
        parts: list[bytes | memoryview] = [
            _HEADER.pack(
                _MAGIC, _VERSION, self.form, self.packing.lane_bits, self.packing.maximum_sites,
                self.lane_count, len(self.ciphertexts), self.key_id, self.label,
            )
        ]  # fmt: skip
        for ciphertext in self.ciphertexts:
            parts += (_LENGTH.pack(len(ciphertext)), ciphertext)
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> CiphertextFrame:
        """Parse; raises `CiphertextLengthError` or `CiphertextMalformedError` and nothing else.

        The ciphertexts are views of `data`, not copies.
        """
        # 1. Header.
        if len(data) < _HEADER.size:
            raise CiphertextLengthError("the protected update is shorter than its header")
        magic, version, form, lane_bits, maximum_sites, lane_count, count, key_id, label = (
            _HEADER.unpack_from(data)
        )
        if magic != _MAGIC or version != _VERSION or form not in _EXPANDED_BYTES:
            raise CiphertextMalformedError("not a protected update of this format")
        # 2. Packing, and the counts that follow from it.
        try:
            packing = Packing(lane_bits=lane_bits, maximum_sites=maximum_sites)
        except PackingInvalidError:
            raise CiphertextMalformedError(
                "the protected update names a packing that does not exist"
            ) from None
        if not 1 <= lane_count <= MAXIMUM_LANES or count != ciphertexts_for(packing, lane_count=lane_count):
            raise CiphertextLengthError("the number of ciphertexts does not fit the number of lanes")
        # 3. Ciphertexts, and nothing behind them.
        view = memoryview(data).toreadonly()
        ciphertexts, at = [], _HEADER.size
        for _ in range(count):
            ciphertext = _read_ciphertext(view, at, form=form)
            ciphertexts.append(ciphertext)
            at += _LENGTH.size + len(ciphertext)
        if at != len(data):
            raise CiphertextLengthError("bytes follow the last ciphertext")
        return cls(
            form=form, packing=packing, lane_count=lane_count, key_id=key_id, label=label,
            ciphertexts=tuple(ciphertexts),
        )  # fmt: skip


def ciphertexts_for(packing: Packing, *, lane_count: int) -> int:
    """How many ciphertexts carry `lane_count` lanes."""
    return -(-packing.slots_for(lane_count) // SLOTS)


def most_bytes(packing: Packing, *, lane_count: int) -> int:
    """How long a frame of so many lanes is at the most, in either form."""
    each = _LENGTH.size + max(_MOST_BYTES.values())
    return _HEADER.size + ciphertexts_for(packing, lane_count=lane_count) * each


def _read_ciphertext(data: memoryview, at: int, *, form: Form) -> memoryview:
    # 1. A length that one of this form can have, and so many bytes.
    if len(data) - at < _LENGTH.size + _SEAL_HEADER.size:
        raise CiphertextLengthError("the protected update is truncated")
    (length,) = _LENGTH.unpack_from(data, at)
    if not _LEAST_BYTES[form] <= length <= _MOST_BYTES[form]:
        raise CiphertextLengthError("a ciphertext has an impossible length")
    at += _LENGTH.size
    if len(data) - at < length:
        raise CiphertextLengthError("the protected update is truncated")
    # 2. SEAL's header and the beginning of what is compressed.
    (
        magic, header_bytes, _, compression, zero, inner_length,
        inner_magic, segment, expanded,
    ) = _SEAL_HEADER.unpack_from(data, at)  # fmt: skip
    if magic != _SEAL_MAGIC or header_bytes != _SEAL_HEADER_BYTES or compression != _ZSTANDARD or zero:
        raise CiphertextMalformedError("a ciphertext has a header that is not SEAL's")
    if inner_length != length:
        raise CiphertextLengthError("a ciphertext contradicts its own length")
    if inner_magic != _ZSTANDARD_MAGIC or segment != _ONE_SEGMENT or expanded + 256 != _EXPANDED_BYTES[form]:
        raise CiphertextMalformedError("a ciphertext is not of the form that its update names")
    return data[at : at + length]
