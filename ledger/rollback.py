"""Proof to a witness that its own state went back: a checkpoint above it that carries its own cosignature.

    {"rolled_back":"<base64 note>"}      canonical JSON, kept beside the proofs of `ledger.equivocation`

A witness whose disk was restored from an older copy may have signed anything since, so it signs nothing more: it
is one of the f hostile ones that the quorum survives, until it is founded anew under another key. Before it is
shown such a checkpoint it cannot know; nothing here, or in any other witness, notices a silent rollback.
"""

from __future__ import annotations

from ledger import canonical, checkpoint, cosignature, encoding
from ledger.errors import InputError, VerificationError
from ledger.note import VerifierKey

_FIELD = "rolled_back"


class MalformedRollbackError(InputError):
    code = "ledger.rollback.malformed"


class NotRolledBackError(VerificationError):
    code = "ledger.rollback.none"


def encode(checkpoint_note: bytes) -> bytes:
    return canonical.encode({_FIELD: encoding.encode_base64(checkpoint_note)})


def is_rollback(data: bytes) -> bool:
    """Whether kept evidence is of this kind."""
    return data.startswith(f'{{"{_FIELD}":'.encode())


def parse(data: bytes) -> bytes:
    """The checkpoint note; nothing is verified."""
    value = canonical.decode(data)
    if not isinstance(value, dict) or value.keys() != {_FIELD} or not isinstance(value[_FIELD], str):
        raise MalformedRollbackError("proof of a rollback has exactly 'rolled_back', a string")
    return encoding.decode_base64(
        str(value[_FIELD]), what="a note", error=MalformedRollbackError, code="ledger.rollback.base64"
    )


def verify(data: bytes, witness_vkey: VerifierKey, size: int) -> None:
    """Return None if the witness cosigned more than the `size` that it remembers, else raise."""
    parsed, signed = checkpoint.parse(parse(data))
    if cosignature.find(signed, witness_vkey) is None or parsed.size <= size:
        raise NotRolledBackError("this shows no cosignature that the witness forgot")
