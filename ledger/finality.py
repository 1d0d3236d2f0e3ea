"""Finality: a checkpoint is final when a quorum of known witnesses cosigned it, and covers its entries then.

Lives here: merging the cosignature lines that witnesses return into a checkpoint note, and judging a note
by a policy. The formats are `note`'s, `cosignature`'s and `policy`'s; how the lines travel is nobody's here.
"""

from __future__ import annotations

from collections.abc import Iterable

from ledger import checkpoint, cosignature, note
from ledger.checkpoint import Checkpoint
from ledger.cosignature import Cosignature
from ledger.errors import VerificationError
from ledger.note import Note, VerifierKey
from ledger.policy import Policy


class QuorumError(VerificationError):
    code = "ledger.finality.quorum"


class UnknownLogError(VerificationError):
    code = "ledger.finality.unknown-log"


class NotFinalError(VerificationError):
    code = "ledger.finality.not-covered"


def cosignatures(signed: Note, policy: Policy) -> tuple[Cosignature, ...]:
    """The verified cosignatures of the policy's witnesses; a wrong one of a known witness raises."""
    found = (cosignature.find(signed, witness.vkey) for witness in policy.witnesses)
    return tuple(item for item in found if item is not None)


def merge_cosignatures(checkpoint_note: bytes, lines: Iterable[bytes], *, policy: Policy) -> bytes:
    """Add the cosignature lines that verify and whose witness the policy knows; drop all others.

    A witness that is in the note already keeps its line unless the new one is later.
    """
    merged = note.parse(checkpoint_note)
    for block in lines:
        try:
            signatures = note.parse_signatures(block)
        except note.MalformedNoteError:
            continue
        for signature in signatures:
            merged = _merged(merged, signature, policy)
    return merged.encode()


def _merged(signed: Note, signature: note.NoteSignature, policy: Policy) -> Note:
    for witness in policy.witnesses:
        vkey = witness.vkey
        if (signature.name, signature.key_id) != (vkey.name, vkey.key_id):
            continue
        try:
            offered = cosignature.find(Note(signed.text, (signature,)), vkey)
            present = cosignature.find(signed, vkey)
        except cosignature.CosignatureError:
            return signed
        if offered is None or (present is not None and present.time_s >= offered.time_s):
            return signed
        others = tuple(item for item in signed.signatures if item != signed.by(vkey))
        return Note(signed.text, (*others, signature))
    return signed


def finalized(checkpoint_note: bytes, *, log_vkey: VerifierKey | str | None, policy: Policy) -> Checkpoint:
    """Return the checkpoint if the log signed it and a quorum of the policy cosigned it, else raise.

    Without `log_vkey` the policy's logs are trusted; with it, that key alone.
    """
    # 1. The log key that the origin names.
    parsed, signed = checkpoint.parse(checkpoint_note)
    key = note.parse_vkey(log_vkey) if isinstance(log_vkey, str) else log_vkey
    if key is None:
        key = next((log.vkey for log in policy.logs if log.vkey.name == parsed.origin), None)
        if key is None:
            raise UnknownLogError("the policy knows no log of this origin")
    # 2. Its signature.
    checkpoint.verify(checkpoint_note, key)
    # 3. Every cosignature of a known witness, each counted once.
    cosigned = cosignatures(signed, policy)
    # 4. The quorum.
    if not policy.satisfied_by({item.vkey for item in cosigned}):
        names = ", ".join(item.vkey.name for item in cosigned) or "nobody"
        raise QuorumError(f"cosigned by {names}; the quorum is {policy.describe()}")
    return parsed


def require_final(
    index: int, checkpoint_note: bytes, *, log_vkey: VerifierKey | str | None, policy: Policy
) -> None:
    """Return None if the entry at `index` is final under this note, else raise."""
    size = finalized(checkpoint_note, log_vkey=log_vkey, policy=policy).size
    if not 0 <= index < size:
        raise NotFinalError(f"the final checkpoint of size {size} does not cover index {index}")


def is_final(
    index: int, checkpoint_note: bytes, *, log_vkey: VerifierKey | str | None, policy: Policy
) -> bool:
    """Whether the entry at `index` is final; a note that is not valid at all raises."""
    try:
        require_final(index, checkpoint_note, log_vkey=log_vkey, policy=policy)
    except (QuorumError, NotFinalError):
        return False
    return True
