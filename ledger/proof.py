"""Transparency log proofs: one entry's inclusion, verifiable offline (c2sp.org/tlog-proof).

    c2sp.org/tlog-proof@v1
    extra <base64>                      optional, not authenticated
    index <decimal>
    <base64 inclusion proof hash> ...
    <empty line>
    <checkpoint, with the log's signature and the witnesses' cosignatures>

The entry itself travels beside the proof. Which keys count is the verifier's policy.
"""

from __future__ import annotations

from dataclasses import dataclass

from ledger import checkpoint, encoding, tree
from ledger.checkpoint import Checkpoint
from ledger.errors import InputError
from ledger.finality import finalized
from ledger.note import VerifierKey, parse_vkey
from ledger.policy import Policy
from ledger.tree import MAX_PROOF, Hash

HEADER = "c2sp.org/tlog-proof@v1"


class MalformedProofError(InputError):
    code = "ledger.tlog-proof.malformed"


@dataclass(frozen=True, slots=True)
class TlogProof:
    index: int
    hashes: tuple[Hash, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def encode(self) -> bytes:
        lines = [HEADER]
        if self.extra is not None:
            lines.append(f"extra {encoding.encode_base64(self.extra)}")
        lines.append(f"index {self.index}")
        lines += [encoding.encode_base64(item) for item in self.hashes]
        return ("\n".join(lines) + "\n\n").encode() + self.checkpoint

    def verify(
        self, entry: bytes, *, log_vkey: VerifierKey | str | None, policy: Policy | None
    ) -> Checkpoint:
        """Return the checkpoint that includes `entry`, else raise.

        With a policy the checkpoint must be final by it; without one, the log key's signature must do.
        """
        # 1. The leaf hash.
        leaf = tree.leaf_hash(entry)
        # 2. The log's signature, and 3. the quorum.
        if policy is not None:
            head = finalized(self.checkpoint, log_vkey=log_vkey, policy=policy)
        elif log_vkey is not None:
            vkey = parse_vkey(log_vkey) if isinstance(log_vkey, str) else log_vkey
            head = checkpoint.verify(self.checkpoint, vkey)
        else:
            raise ValueError("a proof is verified with a log key or a policy")
        # 4. The inclusion proof.
        tree.verify_inclusion(leaf, self.index, head.size, self.hashes, head.root)
        return head


def parse(data: bytes) -> TlogProof:
    """Parse a proof; nothing is verified."""
    head, separator, note_bytes = data.partition(b"\n\n")
    if not separator:
        raise MalformedProofError("a proof ends in an empty line and a checkpoint")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise MalformedProofError("a proof is ASCII before its checkpoint") from None
    if lines.pop(0) != HEADER:
        raise MalformedProofError(f"the first line is '{HEADER}'", code="ledger.tlog-proof.header")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = encoding.decode_base64(
            lines.pop(0)[6:],
            what="the extra data",
            error=MalformedProofError,
            code="ledger.tlog-proof.extra",
        )
    if not lines or not lines[0].startswith("index "):
        raise MalformedProofError("the index line is missing", code="ledger.tlog-proof.index")
    index = encoding.decimal(
        lines.pop(0)[6:], what="the index", error=MalformedProofError, code="ledger.tlog-proof.index"
    )
    if len(lines) > MAX_PROOF:
        raise MalformedProofError(f"more than {MAX_PROOF} hashes", code="ledger.tlog-proof.too-long")
    hashes = tuple(
        encoding.decode_hash(
            line, what="a proof line", error=MalformedProofError, code="ledger.tlog-proof.hash"
        )
        for line in lines
    )
    checkpoint.parse(note_bytes)
    return TlogProof(index, hashes, note_bytes, extra)
