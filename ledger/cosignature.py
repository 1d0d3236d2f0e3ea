"""Cosignatures of witnesses on a checkpoint (c2sp.org/tlog-cosignature, type 0x04 `cosignature/v1`).

    signed message               cosignature/v1\\n
                                 time 1679315147\\n
                                 <the whole checkpoint text>
    signature in the note line   u64 big-endian time || 64-byte Ed25519 signature

A cosignature says: at that time this was the largest consistent tree I had seen for this origin; our
witnesses say besides that every entry passed their gates. When to sign is `ledger.witness`'s affair.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ledger import note
from ledger.encoding import MAX_SIZE
from ledger.errors import VerificationError
from ledger.keys import BadSignatureError, Signer
from ledger.note import COSIGNATURE_V1, Note, NoteSignature, VerifierKey

HEADER = "cosignature/v1"
_BYTES = 8 + 64


class CosignatureError(VerificationError):
    code = "ledger.cosignature.invalid"


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A verified cosignature."""

    vkey: VerifierKey
    time_s: int


def message(text: bytes, time_s: int) -> bytes:
    return f"{HEADER}\ntime {time_s}\n".encode() + text


def vkey_of(name: str, signer: Signer) -> VerifierKey:
    return note.vkey_of(name, signer, kind=COSIGNATURE_V1)


def sign(text: bytes, *, name: str, signer: Signer, time_s: int) -> NoteSignature:
    """Cosign a checkpoint text at `time_s` (unix seconds)."""
    if not 0 < time_s <= MAX_SIZE:
        raise ValueError("a cosignature carries a time")
    vkey = vkey_of(name, signer)
    signature = signer.sign(message(text, time_s))
    return NoteSignature(vkey.name, vkey.key_id, struct.pack(">Q", time_s) + signature)


def find(signed: Note, vkey: VerifierKey) -> Cosignature | None:
    """The verified cosignature of `vkey`, None if it did not cosign; a wrong one raises."""
    signature = signed.by(vkey)
    if signature is None or vkey.kind != COSIGNATURE_V1:
        return None
    if len(signature.signature) != _BYTES:
        raise CosignatureError(f"the cosignature of {vkey.name} is not {_BYTES} bytes")
    (time_s,) = struct.unpack_from(">Q", signature.signature)
    if not 0 < time_s <= MAX_SIZE:
        raise CosignatureError(f"the cosignature of {vkey.name} has no valid time")
    try:
        vkey.key.verify(signature.signature[8:], message(signed.text, time_s))
    except BadSignatureError:
        raise CosignatureError(f"the cosignature of {vkey.name} does not verify") from None
    return Cosignature(vkey, time_s)
