"""RFC 6962 trees: known vectors, a naive reference, and proofs that must not verify when altered."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import tree
from ledger.tree import ConsistencyProofError, Frontier, InclusionProofError, ProofRangeError

# The test vectors of the Certificate Transparency reference implementation.
INPUTS = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [bytes.fromhex(text) for text in (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)]  # fmt: skip


def mth(leaves):
    """RFC 6962 section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m, leaves):
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m, leaves, complete):
    if m == len(leaves):
        return [] if complete else [mth(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return [*subproof(m, leaves[:k], complete), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def hashes(count):
    return [tree.leaf_hash(b"%d" % number) for number in range(count)]


def reader(leaves):
    def node(height, index):
        chosen = leaves[index << height : (index + 1) << height]
        assert len(chosen) == 1 << height
        return mth(chosen)

    return node


@pytest.mark.parametrize("size", range(1, 9))
def test_known_roots(size):
    leaves = [tree.leaf_hash(entry) for entry in INPUTS[:size]]
    assert tree.root_of(leaves) == mth(leaves) == ROOTS[size - 1]


def test_empty_root():
    assert tree.root_of([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 13, 16, 33])
def test_every_proof_equals_the_reference_and_verifies(size):
    leaves = hashes(size)
    node, root = reader(leaves), mth(leaves)
    for index in range(size):
        proof = tree.inclusion_proof(index, size, node)
        assert list(proof) == path(index, leaves)
        tree.verify_inclusion(leaves[index], index, size, proof, root)
    for old in range(1, size + 1):
        proof = tree.consistency_proof(old, size, node)
        assert list(proof) == subproof(old, leaves, True)
        tree.verify_consistency(old, mth(leaves[:old]), size, root, proof)


@given(st.integers(1, 70), st.data())
def test_an_altered_inclusion_proof_is_refused(size, data):
    leaves = hashes(size)
    index = data.draw(st.integers(0, size - 1))
    proof, root = list(tree.inclusion_proof(index, size, reader(leaves))), mth(leaves)
    refused = [
        (tree.leaf_hash(b"another"), index, size, proof, root),
        (leaves[index], index, size, [*proof, root], root),
        (leaves[index], size, size, proof, root),
        (leaves[index], index, size, proof, leaves[0] if size > 1 else tree.EMPTY_ROOT),
    ]
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        altered = [*proof]
        altered[place] = bytes(32)
        refused += [
            (leaves[index], index, size, altered, root),
            (leaves[index], index, size, proof[:-1], root),
        ]
        other = data.draw(st.integers(0, size - 1).filter(lambda other: other != index))
        refused.append((leaves[index], other, size, proof, root))
    for case in refused:
        with pytest.raises(InclusionProofError):
            tree.verify_inclusion(*case)


@given(st.integers(1, 70), st.data())
def test_an_altered_consistency_proof_is_refused(size, data):
    leaves = hashes(size)
    old = data.draw(st.integers(1, size))
    proof = list(tree.consistency_proof(old, size, reader(leaves)))
    old_root, root = mth(leaves[:old]), mth(leaves)
    refused = [(old, bytes(32), size, root, proof), (old, old_root, size, bytes(32), proof)]
    refused += [(old, old_root, size, root, [*proof, root])]
    refused += [(size + 1, old_root, size, root, proof)]
    for place in range(len(proof)):
        refused.append((old, old_root, size, root, [*proof[:place], bytes(32), *proof[place + 1 :]]))
    if proof:
        refused.append((old, old_root, size, root, proof[:-1]))
    for case in refused:
        with pytest.raises(ConsistencyProofError):
            tree.verify_consistency(*case)


def test_from_nothing_only_the_empty_proof_holds():
    tree.verify_consistency(0, tree.EMPTY_ROOT, 3, mth(hashes(3)), [])
    with pytest.raises(ConsistencyProofError):
        tree.verify_consistency(0, tree.EMPTY_ROOT, 3, mth(hashes(3)), [bytes(32)])
    with pytest.raises(ConsistencyProofError):
        tree.verify_consistency(0, bytes(32), 3, mth(hashes(3)), [])


def test_one_size_has_one_root():
    with pytest.raises(ConsistencyProofError):
        tree.verify_consistency(3, mth(hashes(3)), 3, bytes(32), [])


def test_proofs_outside_the_tree_are_refused():
    for call in (
        lambda: tree.inclusion_proof(3, 3, reader(hashes(3))),
        lambda: tree.inclusion_proof(-1, 3, reader(hashes(3))),
        lambda: tree.consistency_proof(4, 3, reader(hashes(3))),
    ):
        with pytest.raises(ProofRangeError):
            call()


@given(st.integers(0, 200))
def test_a_frontier_grows_into_the_same_root(size):
    leaves = hashes(size)
    edge = Frontier()
    for leaf in leaves:
        edge.append(leaf)
    assert edge.root() == mth(leaves)
    assert len(edge.nodes) == size.bit_count()
    fork = edge.fork()
    fork.append(bytes(32))
    assert edge.size == size and edge.root() == mth(leaves)


def test_a_frontier_holds_one_hash_per_set_bit():
    with pytest.raises(ProofRangeError):
        Frontier(3, (bytes(32),))
    with pytest.raises(ProofRangeError):
        Frontier(1, (bytes(31),))
