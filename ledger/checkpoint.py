"""Checkpoints: what a log says about itself (c2sp.org/tlog-checkpoint), as the text of a signed note.

    example.com/behind-the-sofa                        origin
    20852163                                           tree size, canonical decimal, <= 2^63 - 1
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=       base64 of the RFC 6962 root
    <extension lines, kept as they are>

Signatures are `ledger.note`'s and `ledger.cosignature`'s affair; when a checkpoint is final, `finality`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from ledger import encoding, note
from ledger.encoding import HASH_BYTES, MAX_SIZE
from ledger.errors import InputError, VerificationError
from ledger.keys import Signer
from ledger.note import Note, VerifierKey
from ledger.tree import EMPTY_ROOT, Hash


class MalformedCheckpointError(InputError):
    code = "ledger.checkpoint.malformed"


class CheckpointOriginError(VerificationError):
    code = "ledger.checkpoint.wrong-origin"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    origin: str
    size: int
    root: Hash
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_SIZE:
            raise MalformedCheckpointError("the tree size is out of range", code="ledger.checkpoint.size")
        if len(self.root) != HASH_BYTES:
            raise MalformedCheckpointError("the root is not 32 bytes", code="ledger.checkpoint.root")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise MalformedCheckpointError(
                "the root of an empty tree is SHA-256 of nothing", code="ledger.checkpoint.empty-root"
            )
        for line in (self.origin, *self.extensions):
            if not line or any(character < " " for character in line):
                raise MalformedCheckpointError(
                    "a checkpoint line is empty or holds control characters", code="ledger.checkpoint.line"
                )

    def text(self) -> bytes:
        """The note text that is signed."""
        lines = (self.origin, str(self.size), encoding.encode_base64(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines).encode()


def parse_text(text: bytes) -> Checkpoint:
    """Parse a note text as a checkpoint; unknown extension lines are kept."""
    try:
        lines = text.decode().split("\n")
    except UnicodeDecodeError:
        raise MalformedCheckpointError("the checkpoint is not UTF-8") from None
    if lines.pop() != "" or len(lines) < 3:
        raise MalformedCheckpointError("a checkpoint has an origin, a size and a root, one a line")
    size = encoding.decimal(
        lines[1], what="the tree size", error=MalformedCheckpointError, code="ledger.checkpoint.size"
    )
    root = encoding.decode_hash(
        lines[2], what="the root", error=MalformedCheckpointError, code="ledger.checkpoint.root"
    )
    return Checkpoint(lines[0], size, root, tuple(lines[3:]))


def parse(data: bytes) -> tuple[Checkpoint, Note]:
    """Parse a signed checkpoint; no signature is verified."""
    signed = note.parse(data)
    return parse_text(signed.text), signed


def sign(checkpoint: Checkpoint, signer: Signer) -> bytes:
    """The checkpoint as a note signed by the log key, whose name is the origin."""
    text = checkpoint.text()
    return Note(text, (note.sign(text, checkpoint.origin, signer),)).encode()


def verify(data: bytes, log_vkey: VerifierKey | str) -> Checkpoint:
    """Return the checkpoint if the log key signed it and its origin is the key's name, else raise."""
    vkey = note.parse_vkey(log_vkey) if isinstance(log_vkey, str) else log_vkey
    checkpoint, signed = parse(data)
    note.verify(signed, [vkey])
    if checkpoint.origin != vkey.name:
        raise CheckpointOriginError("the checkpoint's origin is not the log key's name")
    return checkpoint
