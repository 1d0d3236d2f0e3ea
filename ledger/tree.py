"""The Merkle tree of RFC 6962 section 2.1: hashes, roots and proofs, as pure functions.

    leaf   SHA-256(0x00 || entry)
    node   SHA-256(0x01 || left || right)
    empty  SHA-256()

A *node* (height, index) is the perfect subtree over the leaves [index << height, (index+1) << height).
Proofs are generated from any function that returns nodes, and verified by the algorithms of RFC 9162
sections 2.1.3.2 and 2.1.4.2. Storage, tiles and signatures do not live here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ledger.encoding import HASH_BYTES
from ledger.errors import InputError, VerificationError

Hash: TypeAlias = bytes
NodeReader: TypeAlias = Callable[[int, int], Hash]  # (height, index) -> hash of a perfect subtree

EMPTY_ROOT: Hash = hashlib.sha256(b"").digest()
MAX_PROOF = 63


class ProofRangeError(InputError):
    code = "ledger.proof.range"


class InclusionProofError(VerificationError):
    code = "ledger.proof.inclusion"


class ConsistencyProofError(VerificationError):
    code = "ledger.proof.consistency"


def leaf_hash(entry: bytes) -> Hash:
    return hashlib.sha256(b"\x00" + entry).digest()


def leaf_hashes(entries: Iterable[bytes]) -> list[Hash]:
    sha256 = hashlib.sha256
    return [sha256(b"\x00" + entry).digest() for entry in entries]


def node_hash(left: Hash, right: Hash) -> Hash:
    return hashlib.sha256(b"\x01" + left + right).digest()


def perfect_root(hashes: Sequence[Hash]) -> Hash:
    """Root over 2^h hashes of one height."""
    row = list(hashes)
    sha256 = hashlib.sha256
    while len(row) > 1:
        row = [
            sha256(b"\x01" + left + right).digest() for left, right in zip(row[::2], row[1::2], strict=True)
        ]
    return row[0]


def cover(start: int, end: int) -> list[tuple[int, int]]:
    """The perfect subtrees (height, index) that RFC 6962 splits [start, end) into, left to right.

    `start` must be aligned to the largest of them, as every subrange of a Merkle tree is.
    """
    nodes = []
    while start < end:
        height = (end - start).bit_length() - 1
        nodes.append((height, start >> height))
        start += 1 << height
    return nodes


def fold(hashes: Sequence[Hash]) -> Hash:
    """Join the roots of the perfect subtrees of a range, right to left, into the root of the range."""
    result = hashes[-1]
    for left in reversed(hashes[:-1]):
        result = node_hash(left, result)
    return result


def range_root(start: int, end: int, node: NodeReader) -> Hash:
    """Merkle tree hash of the leaves [start, end)."""
    if start == end:
        return EMPTY_ROOT
    return fold([node(height, index) for height, index in cover(start, end)])


def root_of(leaves: Iterable[Hash]) -> Hash:
    """Root over leaf hashes; holds only the right edge in memory."""
    edge = Frontier()
    for leaf in leaves:
        edge.append(leaf)
    return edge.root()


def inclusion_proof(index: int, size: int, node: NodeReader) -> tuple[Hash, ...]:
    """PATH(index, D[size]) of RFC 6962 section 2.1.1, from the leaf's sibling up to the root's child."""
    if not 0 <= index < size:
        raise ProofRangeError(f"index {index} is not below the tree size {size}")
    start, end, path = 0, size, []
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((start, middle))
            start = middle
    return tuple(range_root(left, right, node) for left, right in reversed(path))


def consistency_proof(old: int, new: int, node: NodeReader) -> tuple[Hash, ...]:
    """PROOF(old, D[new]) of RFC 6962 section 2.1.2; empty if `old` is 0 or `new`."""
    if not 0 <= old <= new:
        raise ProofRangeError(f"no consistency proof from size {old} to size {new}")
    if old in (0, new):
        return ()
    start, end, path, complete = 0, new, [], True
    while end != old:
        middle = start + _split(end - start)
        if old <= middle:
            path.append((middle, end))
            end = middle
        else:
            path.append((start, middle))
            start, complete = middle, False
    if not complete:
        path.append((start, end))
    return tuple(range_root(left, right, node) for left, right in reversed(path))


def verify_inclusion(leaf: Hash, index: int, size: int, proof: Sequence[Hash], root: Hash) -> None:
    """Return None if `proof` leads from `leaf` at `index` to `root` of `size` leaves (RFC 9162 2.1.3.2)."""
    if not 0 <= index < size:
        raise InclusionProofError(f"index {index} is not below the tree size {size}")
    position, last, result = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise InclusionProofError("the inclusion proof is too long")
        if position & 1 or position == last:
            result = node_hash(sibling, result)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise InclusionProofError("the inclusion proof is too short")
    if result != root:
        raise InclusionProofError(f"the inclusion proof of index {index} does not lead to the root")


def verify_consistency(old: int, old_root: Hash, new: int, new_root: Hash, proof: Sequence[Hash]) -> None:
    """Return None if the tree (new, new_root) begins with the tree (old, old_root) (RFC 9162 2.1.4.2)."""
    if not 0 <= old <= new:
        raise ConsistencyProofError(f"size {new} is below the old size {old}")
    if old == 0 or old == new:
        if proof:
            raise ConsistencyProofError("the consistency proof must be empty")
        if (old == new and old_root != new_root) or (old == 0 and old_root != EMPTY_ROOT):
            raise ConsistencyProofError("two roots of one size differ")
        return
    # The old root itself is left out of the proof when the old tree is perfect.
    nodes = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    found_old, found_new = consistency_roots(old, new, nodes)
    if found_old != old_root:
        raise ConsistencyProofError("the consistency proof does not lead to the old root")
    if found_new != new_root:
        raise ConsistencyProofError("the consistency proof does not lead to the new root")


def consistency_roots(old: int, new: int, nodes: Sequence[Hash]) -> tuple[Hash, Hash]:
    """The roots of sizes `old` and `new` that the nodes of a proof, its first one included, lead to."""
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    if not nodes:
        raise ConsistencyProofError("the consistency proof is too short")
    found_old = found_new = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            raise ConsistencyProofError("the consistency proof is too long")
        if position & 1 or position == last:
            found_old, found_new = node_hash(node, found_old), node_hash(node, found_new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            found_new = node_hash(found_new, node)
        position, last = position >> 1, last >> 1
    if last != 0:
        raise ConsistencyProofError("the consistency proof is too short")
    return found_old, found_new


@dataclass(slots=True)
class Frontier:
    """The right edge of a growing tree: enough to append leaves and give the root, and nothing more.

    `nodes` are the roots of the perfect subtrees of [0, size), left to right, one per set bit of `size`.
    """

    size: int = 0
    nodes: tuple[Hash, ...] = ()

    def __post_init__(self) -> None:
        if len(self.nodes) != self.size.bit_count() or any(len(node) != HASH_BYTES for node in self.nodes):
            raise ProofRangeError("a frontier holds one hash per set bit of its size")

    def append(self, leaf: Hash) -> None:
        nodes, size = list(self.nodes), self.size
        while size & 1:
            leaf = node_hash(nodes.pop(), leaf)
            size >>= 1
        nodes.append(leaf)
        self.nodes = tuple(nodes)
        self.size += 1

    def root(self) -> Hash:
        return fold(self.nodes) if self.nodes else EMPTY_ROOT

    def fork(self) -> Frontier:
        return Frontier(self.size, self.nodes)


def _split(width: int) -> int:
    """The largest power of two below `width` (>= 2)."""
    return 1 << (width - 1).bit_length() - 1
