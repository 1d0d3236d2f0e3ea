"""Proof that a log key signed two checkpoints that contradict each other.

    {"first":"<base64 note>","proof":["<base64 hash>",...],"second":"<base64 note>"}      canonical JSON

    same size        the roots differ; the proof is empty
    sizes a < b      `proof` is the RFC 6962 consistency proof from a to b inside the tree of `second`, its first
                     node always written out: it leads to the root of `second`, and to a root of size a that is
                     not that of `first`. Nobody but the log can make such a pair: nodes that lead to a signed
                     root are that tree's own.

A consistency proof that merely fails proves nothing, since anybody on the way may have altered it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ledger import canonical, checkpoint, encoding, tree
from ledger.errors import InputError, VerificationError
from ledger.note import VerifierKey
from ledger.reader import VerifiedTree
from ledger.tree import Hash


class MalformedEvidenceError(InputError):
    code = "ledger.equivocation.malformed"


class NoContradictionError(VerificationError):
    code = "ledger.equivocation.none"


@dataclass(frozen=True, slots=True)
class Equivocation:
    first: bytes
    second: bytes
    proof: tuple[Hash, ...] = ()

    def verify(self, log_vkey: VerifierKey) -> None:
        """Return None if this proves that the log key signed a contradiction, else raise."""
        # 1. The same key signed both, for the same origin.
        first, second = checkpoint.verify(self.first, log_vkey), checkpoint.verify(self.second, log_vkey)
        # 2. Two roots of one size.
        if first.size == second.size:
            if self.proof or first.root == second.root:
                raise NoContradictionError("the two checkpoints agree")
            return
        # 3. The tree of the second begins otherwise than the first.
        if not 0 < first.size < second.size:
            raise NoContradictionError("the first checkpoint is not the smaller one, or is empty")
        old, new = tree.consistency_roots(first.size, second.size, self.proof)
        if new != second.root or old == first.root:
            raise NoContradictionError("the proof shows no contradiction")

    def encode(self) -> bytes:
        return canonical.encode(
            {
                "first": encoding.encode_base64(self.first),
                "proof": [encoding.encode_base64(node) for node in self.proof],
                "second": encoding.encode_base64(self.second),
            }
        )


def parse(data: bytes) -> Equivocation:
    value = canonical.decode(data)
    if not isinstance(value, dict) or value.keys() != {"first", "proof", "second"}:
        raise MalformedEvidenceError("evidence has exactly 'first', 'proof' and 'second'")
    first, proof, second = value["first"], value["proof"], value["second"]
    if not isinstance(first, str) or not isinstance(second, str) or not isinstance(proof, list):
        raise MalformedEvidenceError("an evidence field has the wrong type")
    nodes = []
    for node in proof:
        if not isinstance(node, str):
            raise MalformedEvidenceError("a proof node is a string")
        nodes.append(
            encoding.decode_hash(
                node, what="a proof node", error=MalformedEvidenceError, code="ledger.equivocation.node"
            )
        )
    return Equivocation(_note(first), _note(second), tuple(nodes))


def find(one: bytes, other: bytes, nodes: Sequence[Hash], log_vkey: VerifierKey) -> Equivocation | None:
    """The proof that two checkpoints contradict each other, if `nodes` (or their sizes) show it."""
    first, second = sorted((one, other), key=lambda data: checkpoint.parse(data)[0].size)
    sizes = {checkpoint.parse(data)[0].size for data in (one, other)}
    candidate = Equivocation(first, second, () if len(sizes) == 1 else tuple(nodes))
    try:
        candidate.verify(log_vkey)
    except (VerificationError, InputError):
        return None
    return candidate


def nodes_within(opened: VerifiedTree, size: int) -> list[Hash]:
    """What `find` needs to show that the tree of a larger checkpoint begins otherwise than one of `size`."""
    nodes = list(opened.consistency_proof(size))
    if size & (size - 1) == 0:
        nodes.insert(0, opened.root_at(size))  # a perfect tree's root is left out of the proof
    return nodes


def _note(text: str) -> bytes:
    return encoding.decode_base64(
        text, what="a note", error=MalformedEvidenceError, code="ledger.equivocation.base64"
    )
