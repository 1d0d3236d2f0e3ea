"""Equivocation: what proves that a log key contradicted itself, and that a witness ends with it."""

from __future__ import annotations

import pytest

from ledger import checkpoint, equivocation, note
from ledger.errors import InputError, VerificationError
from ledger.keys import MemorySigner
from tests.ledger.witnessing import ask, refused, reopen, rewritten


def test_two_roots_of_one_size_are_kept_and_end_the_witness(federation, witness, witness_storage):
    federation.grow(6)
    ask(witness, federation.log)
    fork = rewritten(federation, 6, at=3)
    assert refused(lambda: ask(witness, fork, start=6)) == "ledger.witness.equivocation"
    check_evidence(federation, witness_storage)
    federation.grow(1)
    assert refused(lambda: ask(witness, federation.log)) == "ledger.witness.equivocation"
    again = reopen(federation, witness_storage)
    again.resume(federation.log.entries(0, 6))
    assert refused(lambda: ask(again, federation.log)) == "ledger.witness.equivocation"


def test_a_rewritten_past_under_a_larger_size_is_proven_too(federation, witness, witness_storage):
    federation.grow(6)
    ask(witness, federation.log)
    federation.grow(3)
    fork = rewritten(federation, 9, at=2)
    assert refused(lambda: ask(witness, fork)) == "ledger.witness.equivocation"
    check_evidence(federation, witness_storage)


def test_a_rewritten_past_is_refused_even_if_nothing_can_be_proven(federation, witness):
    federation.grow(4)  # at a power of two the proof leaves the old root out
    ask(witness, federation.log)
    federation.grow(3)
    fork = rewritten(federation, 7, at=2)
    assert refused(lambda: ask(witness, fork), VerificationError) == "ledger.proof.consistency"
    assert witness.size == 4


def test_an_equivocation_seen_elsewhere_counts(federation, witness, witness_storage):
    federation.grow(6)
    ask(witness, federation.log)
    fork = rewritten(federation, 5, at=2)
    witness.observe(fork.checkpoint())  # an older size proves nothing without nodes
    nodes = federation.log.consistency_proof(5, 6)
    assert refused(lambda: witness.observe(fork.checkpoint(), nodes)) == "ledger.witness.equivocation"
    check_evidence(federation, witness_storage)


def check_evidence(federation, witness_storage):
    (data,) = witness_storage.evidence()
    found = equivocation.parse(data)
    assert found.encode() == data
    found.verify(note.parse_vkey(federation.log.vkey))
    with pytest.raises(VerificationError):
        found.verify(note.vkey_of(federation.log.origin, MemorySigner("other")))


def test_honest_checkpoints_are_no_equivocation(federation):
    vkey = note.parse_vkey(federation.log.vkey)
    notes = []
    for _ in range(9):
        federation.grow(1)
        notes.append(federation.log.checkpoint())
    for old in range(1, 10):
        for new in range(old, 10):
            proof = list(federation.log.consistency_proof(old, new))
            seed = [checkpoint.parse(notes[old - 1])[0].root] if old & (old - 1) == 0 else []
            for nodes in (seed + proof, proof, [bytes(32), *proof], [bytes(32)] * len(proof)):
                assert equivocation.find(notes[old - 1], notes[new - 1], nodes, vkey) is None


@pytest.mark.parametrize(
    "data", [b"{}", b'{"first":"","proof":[1],"second":""}', b'{"first":"","proof":["AA=="],"second":""}',
             b'{"first":"A","proof":[],"second":""}', b'{"first":1,"proof":[],"second":""}'],
)  # fmt: skip
def test_malformed_evidence(data):
    with pytest.raises(InputError):
        equivocation.parse(data)
