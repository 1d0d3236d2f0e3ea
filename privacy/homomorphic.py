"""Encrypting slots, adding them up encrypted and decrypting a sum: BFV by Microsoft SEAL through TenSEAL.

Lives here: everything that SEAL is asked to do for a sum. It knows slots, residues modulo `PLAIN_MODULUS` in one row,
and ciphertexts of 4096 of them. Lanes, masks, and who may open what are `privacy.homomorphic_sum`, the bytes
`privacy.ciphertext_frame`, the keys `privacy.study_key`.

Two forms, whose ciphertexts add to each other (Brakerski 2012; Fan and Vercauteren 2012). With the public key anybody
encrypts to two polynomials. With the study's secret key the second polynomial is a uniform one that enters encryption
as it is, so that a seed stands for it and the update is half as long. SEAL draws a fresh 64-byte seed for each
ciphertext from its generator, itself seeded by the operating system, and draws the noise from another stream; whoever
used a seed twice would show the difference of two plaintexts, so that seeds never come from here. To expand a seed is
public: it is what every receiver does, and hides nothing that the whole polynomial would have hidden.

What encryption alone is worth. Every holder of the study's key reads every update that reaches him. BFV is malleable,
and not secure once chosen ciphertexts are decrypted: what a hostile site sends is added without knowledge of what it
is, and an opened sum may be any linear map of the others' slots, or of the key. Against all of this there are masks.
That slots are the points at which SEAL evaluates a polynomial, and not its coefficients, is why a ciphertext made to
decrypt to the key fills every slot with uniform residues, which are refused as a sum.

SEAL writes a seeded ciphertext to a file only. It is one in memory, where the platform has these.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol, TypeAlias

import numpy as np
import tenseal
import tenseal.sealapi as seal

from ledger.errors import CodedError, InputError
from privacy.ciphertext_frame import SLOTS, CiphertextMalformedError
from privacy.packing import Slots, SumOutOfRangeError
from privacy.study_key import CIPHERTEXT_PARAMETERS_ID, PublicContext, StudyKey

_Vector: TypeAlias = "tenseal._ts_cpp.BFVVector"
Ciphertext: TypeAlias = bytes | memoryview

# TenSEAL's protobuf around a SEAL ciphertext: field 1, packed, [4096]; field 2, length-delimited.
_WRAPPER: Final = b"\x0a\x02\x80\x20\x12"


class KeyMismatchError(InputError):
    """A ciphertext under another key than the one at hand."""

    code = "privacy.key-mismatch"


def encrypt(slots: Slots, public: PublicContext, *, key: StudyKey | None = None) -> tuple[bytes, ...]:
    """(n,) residues from 0 to PLAIN_MODULUS - 1 to ceil(n / 4096) ciphertexts as SEAL saves them.

    Seeded ones with `key`, which must be the public context's, public-key ones without. The filling is zero.
    """
    padded = np.zeros(-(-len(slots) // SLOTS) * SLOTS, dtype=np.uint64)
    padded[: len(slots)] = slots
    ciphertexts = []
    with _refusing_what_fails(), _ScratchFile() as scratch:
        context = public.context.data.seal_context()
        encoder, plain = seal.BatchEncoder(context), seal.Plaintext()
        fresh = seal.Ciphertext()
        if key is None:
            encryptor = seal.Encryptor(context, public.context.data.public_key())
        else:
            encryptor = seal.Encryptor(context, key.context.data.secret_key())
        for row in padded.reshape(-1, SLOTS):
            # SEAL takes a row of numbers, not a buffer; of a view it makes them one at a time, faster than of a list.
            encoder.encode(row.data, plain)
            if key is None:
                encryptor.encrypt(plain, fresh)
                fresh.save(scratch.path)
            else:
                encryptor.encrypt_symmetric(plain).save(scratch.path)
            ciphertexts.append(scratch.read())
    return tuple(ciphertexts)


def check(ciphertexts: Iterable[Ciphertext], public: PublicContext) -> None:
    """Refuse what is no fresh ciphertext under these parameters; raises `CiphertextMalformedError`."""
    with _refusing_what_fails():
        for ciphertext in ciphertexts:
            _load(ciphertext, public.context)


def decrypt_sum(updates: Sequence[Sequence[Ciphertext]], key: StudyKey, *, slot_count: int) -> Slots:
    """Add up updates, each as many ciphertexts, and decrypt: (slot_count,) residues of the sum.

    One ciphertext position after the other, so that memory stays at one ciphertext and the slots. Raises
    `CiphertextMalformedError`, and `SumOutOfRangeError` for a sum with too much noise or a filling that is not zero.
    """
    count = -(-slot_count // SLOTS)
    slots = np.empty(count * SLOTS, dtype=np.int64)
    with _refusing_what_fails():
        context = key.context.data.seal_context()
        encoder, plain = seal.BatchEncoder(context), seal.Plaintext()
        decryptor = seal.Decryptor(context, key.context.data.secret_key())
        for index, position in enumerate(zip(*updates, strict=True)):
            total = _load(position[0], key.context)
            for ciphertext in position[1:]:
                total.add_(_load(ciphertext, key.context))
            opened = total.ciphertext()[0]
            # Without noise budget left, what comes out is not the sum.
            if decryptor.invariant_noise_budget(opened) <= 0:
                raise SumOutOfRangeError("a ciphertext of the sum carries too much noise to be opened")
            decryptor.decrypt(opened, plain)
            slots[index * SLOTS : (index + 1) * SLOTS] = encoder.decode_uint64(plain)
    if slots[slot_count:].any():
        raise SumOutOfRangeError("the sum holds more than the announced lanes")
    return slots[:slot_count].copy()


class _ScratchFile:
    """A file of one's own that SEAL writes to by its path: in memory, or at least readable by nobody else."""

    def __enter__(self) -> _ScratchFile:
        if hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("ciphertext", os.MFD_CLOEXEC)
            self.path, self._named = f"/proc/self/fd/{self._descriptor}", False
        else:
            self._descriptor, self.path = tempfile.mkstemp(prefix="ciphertext")
            self._named = True
        return self

    def read(self) -> bytes:
        """What was written last; SEAL truncates the file before it writes."""
        return os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)

    def __exit__(self, *exception: object) -> None:
        os.close(self._descriptor)
        if self._named:
            Path(self.path).unlink()


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


def _load(ciphertext: Ciphertext, context: tenseal.Context) -> _Vector:
    """Read one ciphertext, its seed expanded: fresh in shape, of these parameters, and hiding something."""
    wrapped = b"".join((_WRAPPER, _varint(len(ciphertext)), ciphertext))
    vector = tenseal._ts_cpp.BFVVector(context.data, wrapped)
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


def _varint(value: int) -> bytes:
    """Protobuf's base-128 integer."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
