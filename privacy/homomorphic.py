"""Exact sums of encrypted updates: BFV through TenSEAL. Nobody between the sites decrypts an update.

Lives here: encrypting lanes, adding updates without any secret, opening a sum with the study's key. The frame
is `privacy.ciphertext_frame`, the layout of slots `privacy.packing`, the keys `privacy.study_key`.

What it protects, and what not (Brakerski 2012; Fan and Vercauteren 2012): without the study's key, an update
is hidden. Every key holder can read every update that reaches him, so the adder and one holder together can
read everything; masking the slots is what will close that. `open_sum` refuses a frame that calls itself an
update, which stops a mistake and not an attacker: a holder must add up the updates named in the final closed
set himself and open only what comes out, which works because `add` is deterministic, byte for byte.

Updates travel as BFV and not as CKKS: a released CKKS decryption reveals the key (Li and Micciancio 2021).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol, TypeAlias

import numpy as np
import tenseal

from ledger.errors import CodedError, InputError
from privacy.ciphertext_frame import SLOTS, SUM, UPDATE, CiphertextFrame, CiphertextMalformedError
from privacy.packing import Lanes, Packing, SumOutOfRangeError
from privacy.study_key import CIPHERTEXT_PARAMETERS_ID, PublicContext, StudyKey

__all__ = [
    "HomomorphicSum",
    "KeyMismatchError",
    "PublicContext",
    "StudyKey",
    "SumRefusedError",
    "add",
    "encrypt",
    "open_sum",
]

MINIMUM_OPENED_SITES: Final = 2
"""A sum of one is that site's update. How many more a study demands is its policy's matter."""

# tenseal.BFVVector spends a quarter of an encryption on wrapping lists; what it wraps is called directly.
_Vector: TypeAlias = "tenseal._ts_cpp.BFVVector"

# TenSEAL's protobuf around a SEAL ciphertext: field 1, packed, [4096]; field 2, length-delimited.
_WRAPPER: Final = b"\x0a\x02\x80\x20\x12"


class SumRefusedError(InputError):
    """Updates that must not be added, or a sum that must not be opened."""

    code = "privacy.sum-refused"


class KeyMismatchError(InputError):
    """A ciphertext under another key than the one at hand."""

    code = "privacy.key-mismatch"


def encrypt(lanes: Lanes, public: PublicContext, *, packing: Packing) -> bytes:
    """Encrypt (n,) lanes, each within `packing.site_limit`, into an update frame.

    Raises `LaneOverflowError` for a lane that `maximum_sites` sites could not add up without overflow.
    """
    if not len(lanes):
        raise SumRefusedError("there is nothing to encrypt")
    slots = packing.pack(lanes)
    padded = np.zeros(-(-len(slots) // SLOTS) * SLOTS, dtype=np.int64)
    padded[: len(slots)] = slots
    ciphertexts = []
    with _refusing_what_fails():
        for row in padded.reshape(-1, SLOTS):
            vector = tenseal._ts_cpp.BFVVector(public.context.data, row.tolist())
            ciphertexts.append(_unwrap(vector.serialize()))
    return CiphertextFrame(
        kind=UPDATE,
        packing=packing,
        sites=1,
        lane_count=len(lanes),
        key_id=public.key_id,
        ciphertexts=tuple(ciphertexts),
    ).to_bytes()


def add(updates: Sequence[bytes], public: PublicContext, *, packing: Packing | None = None) -> bytes:
    """Add update frames without decrypting any. The same updates in the same order give the same bytes.

    Raises `CiphertextLengthError` and `CiphertextMalformedError` for bytes that are no update,
    `KeyMismatchError` for another study's, `SumRefusedError` for sums, repeated updates, too many, or unlike
    lane counts or packings. Pass the plan's `packing` so that the updates cannot agree on another one.
    """
    # 1. How many, and none twice.
    if not updates:
        raise SumRefusedError("there is no update to add")
    if len({hashlib.sha256(update).digest() for update in updates}) != len(updates):
        raise SumRefusedError("an update appears twice")
    # 2. Each frame by itself and against the key; all frames against the first, before any arithmetic.
    frames = [CiphertextFrame.from_bytes(update) for update in updates]
    first = frames[0]
    for frame in frames:
        if frame.kind != UPDATE:
            raise SumRefusedError("a sum cannot be added again")
        if frame.key_id != public.key_id:
            raise KeyMismatchError("an update is encrypted under another study's key")
        if frame.lane_count != first.lane_count or frame.packing != (packing or first.packing):
            raise SumRefusedError(
                "the updates differ in lane count or packing, from each other or from the plan"
            )
    if len(frames) > first.packing.maximum_sites:
        raise SumRefusedError(
            f"more updates than the {first.packing.maximum_sites} that the lanes have room for"
        )
    # 3. Add, one ciphertext position after the other, so that memory stays at one ciphertext.
    sums = []
    with _refusing_what_fails():
        for position in zip(*(frame.ciphertexts for frame in frames), strict=True):
            total = _load(position[0], public.context)
            for ciphertext in position[1:]:
                total.add_(_load(ciphertext, public.context))
            sums.append(_unwrap(total.serialize()))
    return CiphertextFrame(
        kind=SUM, packing=first.packing, sites=len(frames), lane_count=first.lane_count, key_id=public.key_id,
        ciphertexts=tuple(sums),
    ).to_bytes()  # fmt: skip


def open_sum(combined: bytes, key: StudyKey, *, sites: int, packing: Packing | None = None) -> Lanes:
    """Decrypt a sum of exactly `sites` updates to (n,) summed lanes.

    Raises `SumRefusedError` for an update, a lone summand or another number of sites, `KeyMismatchError` for
    another key's, and `SumOutOfRangeError` for what no honest sum decrypts to. Pass the plan's `packing` to
    have it enforced.
    """
    # 1. A sum, of the announced sites, under this key.
    frame = CiphertextFrame.from_bytes(combined)
    if frame.kind != SUM:
        raise SumRefusedError("only a sum is opened, never one site's update")
    if frame.sites != sites or sites < MINIMUM_OPENED_SITES:
        raise SumRefusedError("the sum is not one of the announced number of sites")
    if packing not in (None, frame.packing):
        raise SumRefusedError("the sum has another packing than the plan's")
    if frame.key_id != key.key_id:
        raise KeyMismatchError("the sum is encrypted under another study's key")
    # 2. Decrypt; without noise budget left, what comes out is not the sum.
    slots = np.empty(len(frame.ciphertexts) * SLOTS, dtype=np.int64)
    with _refusing_what_fails():
        secret, decryptor = key.context.data.secret_key(), key.context.data.decryptor()
        for index, ciphertext in enumerate(frame.ciphertexts):
            vector = _load(ciphertext, key.context)
            if decryptor.invariant_noise_budget(vector.ciphertext()[0]) <= 0:
                raise SumOutOfRangeError("a ciphertext of the sum carries too much noise to be opened")
            slots[index * SLOTS : (index + 1) * SLOTS] = vector.decrypt(secret)
    # 3. The filling is zero and every lane is what so many sites can add up to.
    used = frame.packing.slots_for(frame.lane_count)
    if slots[used:].any():
        raise SumOutOfRangeError("the opened sum is not one of this many sites under this key and packing")
    return frame.packing.unpack(slots[:used], lane_count=frame.lane_count, sites=sites)


class HomomorphicSum:
    """The `ProtectedSum` of this scheme. The coordinator's has no `key` and opens nothing."""

    scheme: Final = "homomorphic"

    def __init__(self, public: PublicContext, packing: Packing, *, key: StudyKey | None = None) -> None:
        if key is not None and key.key_id != public.key_id:
            raise KeyMismatchError("the secret key does not belong to the public context")
        self.public = public
        self.packing = packing
        self._key = key

    def protect(self, lanes: Lanes) -> bytes:
        """See `encrypt`."""
        return encrypt(lanes, self.public, packing=self.packing)

    def combine(self, updates: Sequence[bytes]) -> bytes:
        """See `add`; updates of another packing than this study's are refused too."""
        return add(updates, self.public, packing=self.packing)

    def open(self, combined: bytes, *, sites: int) -> Lanes:
        """See `open_sum`; only a key holder can."""
        if self._key is None:
            raise KeyMismatchError("this party holds no key and opens nothing")
        return open_sum(combined, self._key, sites=sites, packing=self.packing)


@contextmanager
def _refusing_what_fails() -> Iterator[None]:
    """Whatever TenSEAL raises inside becomes a coded error, without TenSEAL's text in public."""
    try:
        yield
    except CodedError:
        raise
    except Exception as error:  # TenSEAL raises ValueError, RuntimeError and more, depending on the byte.
        raise CiphertextMalformedError(
            "a ciphertext is not valid under this context", diagnostics=f"{type(error).__name__}: {error}"
        ) from None


def _load(ciphertext: bytes, context: tenseal.Context) -> _Vector:
    """Read one ciphertext: fresh in shape, of these parameters, and hiding something."""
    vector = tenseal._ts_cpp.BFVVector(context.data, _WRAPPER + _varint(len(ciphertext)) + ciphertext)
    _check_shape(vector.ciphertext())
    return vector


class _SealCiphertext(Protocol):
    """What is asked of SEAL's ciphertext."""

    def size(self) -> int: ...
    def is_ntt_form(self) -> bool: ...
    def is_transparent(self) -> bool: ...
    def parms_id(self) -> list[int]: ...


def _check_shape(inner: Sequence[_SealCiphertext]) -> None:
    if len(inner) != 1 or inner[0].size() != 2 or inner[0].parms_id() != CIPHERTEXT_PARAMETERS_ID:
        raise CiphertextMalformedError("a ciphertext has another shape than a fresh one")
    if inner[0].is_ntt_form() or inner[0].is_transparent():
        raise CiphertextMalformedError("a ciphertext hides nothing or is in a foreign form")


def _unwrap(wrapped: bytes) -> bytes:
    ciphertext = wrapped[len(_WRAPPER) + 3 :]
    if wrapped != _WRAPPER + _varint(len(ciphertext)) + ciphertext:
        raise CiphertextMalformedError("TenSEAL's wrapping of a ciphertext has changed")
    return ciphertext


def _varint(value: int) -> bytes:
    """Protobuf's base-128 integer; three bytes for every length that a ciphertext may have."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
