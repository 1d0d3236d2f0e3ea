"""The witness: what it refuses, what it remembers, and that it signs only after it stored."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from ledger import checkpoint, cosignature, equivocation, note
from ledger.chain import EventChain
from ledger.errors import InputError, VerificationError
from ledger.event import parse_entry
from ledger.gate import OpenGate
from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.memory import MemoryStorage
from ledger.storage import StateConflictError, StorageExistsError, StorageFailedError, StorageMissingError
from ledger.witness import (
    GateRefusedError,
    Witness,
    WitnessConflictError,
    WitnessRefusedError,
)
from ledger.witness_request import MalformedRequestError, encode_request, parse_request
from ledger.witness_storage import MemoryWitnessStorage, SqliteWitnessStorage

ORIGIN = "ledger.example/wards"
NOW_S = 1_800_000_000
W = MemorySigner("w1", seed=b"w1")


@pytest.fixture(params=["memory", "sqlite"])
def storage(request, tmp_path):
    made = MemoryWitnessStorage() if request.param == "memory" else SqliteWitnessStorage(tmp_path / "w.db")
    yield made
    made.close()


@pytest.fixture
def witness(federation, storage):
    return create(federation, storage)


def create(federation, storage, *, gate=None):
    return Witness.create(
        storage,
        log_vkey=federation.log.vkey,
        signer=W,
        gate=gate or EventChain(ORIGIN),
        clock=lambda: federation.now_s,
    )


def ask(witness, log, *, start=None, end=None):
    start = witness.size if start is None else start
    return witness.add_checkpoint(log.witness_request(start), list(log.entries(start, end or log.size)))


def refused(call, error=WitnessRefusedError):
    with pytest.raises(error) as caught:
        call()
    return caught.value.code


# -- requests ------------------------------------------------------------------------------------------------


def test_a_request_comes_back_as_it_was_written(federation):
    federation.grow(7)
    body = federation.log.witness_request(3)
    assert body.startswith(b"old 3\n")
    assert encode_request(*parse_request(body)) == body


NOTE = b"\n\norigin\n"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "malformed"),
        (b"old 1\n", "malformed"),
        ("old ü\n\n".encode(), "malformed"),
        (b"new 1" + NOTE, "old"),
        (b"old 01" + NOTE, "old"),
        (b"old" + NOTE, "old"),
        (b"old 1\nAAAA" + NOTE, "hash"),
        (b"old 1\n" + b"A" * 43 + NOTE, "hash"),
        (b"old 1" + (b"\n" + b"A" * 43 + b"=") * 64 + NOTE, "too-long"),
    ],
)
def test_malformed_requests(data, code):
    assert refused(lambda: parse_request(data), MalformedRequestError) == f"ledger.witness-request.{code}"


# -- cosigning -----------------------------------------------------------------------------------------------


def test_it_cosigns_what_it_checked(federation, witness):
    federation.grow(5)
    line = ask(witness, federation.log)
    assert (witness.size, witness.root) == (5, federation.log.root)
    signed = note.parse(federation.log.checkpoint() + line)
    found = cosignature.find(signed, note.parse_vkey(witness.vkey))
    assert found is not None and found.time_s == NOW_S
    federation.grow(300)
    federation.now_s += 60
    assert ask(witness, federation.log) != line
    assert witness.size == 305
    assert ask(witness, federation.log) == ask(witness, federation.log)  # the same again, without entries


def test_an_empty_log_can_be_cosigned(federation, witness):
    ask(witness, federation.log)
    assert witness.size == 0
    federation.grow(3)
    ask(witness, federation.log)


def test_it_says_where_it_stands(federation, witness):
    federation.grow(5)
    ask(witness, federation.log)
    federation.grow(2)
    with pytest.raises(WitnessConflictError) as caught:
        ask(witness, federation.log, start=0)
    assert caught.value.size == 5 == witness.size
    stale = encode_request(9, [], federation.log.checkpoint())
    assert refused(lambda: witness.add_checkpoint(stale, []), InputError) == "ledger.witness.old-size"


def test_rollback_to_an_older_checkpoint_is_refused(federation, witness):
    federation.grow(3)
    old = federation.log.witness_request(0)
    entries = list(federation.log.entries(0, 3))
    federation.grow(2)
    ask(witness, federation.log)
    assert refused(lambda: witness.add_checkpoint(old, entries)) == "ledger.witness.conflict"


@pytest.mark.parametrize("change", ["missing", "extra", "swapped", "altered", "none"])
def test_the_entries_are_exactly_those_of_the_checkpoint(federation, witness, change):
    federation.grow(4)
    entries = list(federation.log.entries(0, 4))
    given = {
        "missing": entries[:3],
        "extra": [*entries, entries[3]],
        "swapped": [entries[0], entries[2], entries[1], entries[3]],
        "altered": [*entries[:3], entries[3][:-1] + b"]"],
        "none": [],
    }[change]
    request = federation.log.witness_request(0)
    assert refused(lambda: witness.add_checkpoint(request, given)) == "ledger.witness.entries"
    assert witness.size == 0
    ask(witness, federation.log)


def test_the_consistency_proof_must_hold(federation, witness):
    federation.grow(5)
    ask(witness, federation.log)
    federation.grow(3)
    _, proof, data = parse_request(federation.log.witness_request(5))
    entries = list(federation.log.entries(5, 8))
    for altered in ([bytes(32), *proof[1:]], proof[:-1], [*proof, bytes(32)], []):
        request = encode_request(5, altered, data)
        assert (
            refused(lambda r=request: witness.add_checkpoint(r, entries), VerificationError)
            == "ledger.proof.consistency"
        )
    assert witness.evidence() == ()  # a bad proof alone blames nobody
    ask(witness, federation.log)


def test_other_origins_and_keys_are_refused(federation, witness):
    other = Log.create(MemoryStorage(), origin="other.example/log", signer=MemorySigner("x"))
    assert refused(lambda: ask(witness, other)) == "ledger.witness.origin"
    impostor = Log.create(MemoryStorage(), origin=ORIGIN, signer=MemorySigner("x"))
    assert refused(lambda: ask(witness, impostor), VerificationError) == "ledger.note.unsigned"


# -- the gate ------------------------------------------------------------------------------------------------


def test_a_refused_entry_leaves_no_trace(federation, witness):
    federation.grow(3)
    ask(witness, federation.log)
    good = federation.sites["site-a"].event("x.y")
    bad = federation.sites["site-b"].event("x.y", sequence=7)
    state = (witness.size, witness.root, witness.gate)
    federation.log.append([good, bad])
    with pytest.raises(GateRefusedError) as caught:
        ask(witness, federation.log)
    assert caught.value.index == 4
    assert caught.value.__cause__.code == "ledger.chain.sequence"
    assert (witness.size, witness.root, witness.gate) == state
    assert witness.gate.size == 3


def test_any_exception_of_the_gate_is_a_refusal(federation, storage):
    class Broken(OpenGate):
        def advance(self, index, entry):
            raise RuntimeError("patient name")

        def fork(self):
            return Broken()

    witness = create(federation, storage, gate=Broken())
    federation.grow(1)
    with pytest.raises(GateRefusedError) as caught:
        ask(witness, federation.log)
    assert "patient" not in str(caught.value)


def test_entries_that_are_no_events_are_refused_by_any_gate(federation, storage):
    witness = create(federation, storage, gate=OpenGate())
    federation.log.append([b"not an event"])
    assert refused(lambda: ask(witness, federation.log), InputError) == "json.not-canonical"


# -- time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset_s", "code"),
    [
        (300, None),
        (301, "time-ahead"),
        (10**9, "time-ahead"),
        (-7 * 86400, None),
        (-7 * 86400 - 1, "time-behind"),
    ],
)
def test_log_time_is_bounded_by_the_witnesss_clock(federation, storage, offset_s, code):
    witness = create(federation, storage)
    federation.now_s = NOW_S - offset_s
    federation.grow(3)  # the events claim NOW_S
    if code is None:
        ask(witness, federation.log)
        return
    assert refused(lambda: ask(witness, federation.log)) == f"ledger.witness.{code}"
    assert witness.size == 0


def test_old_entries_catch_up_if_a_fresh_one_follows(federation, witness):
    federation.grow(3)
    federation.now_s += 30 * 86400
    assert refused(lambda: ask(witness, federation.log)) == "ledger.witness.time-behind"
    federation.log.append([federation.sites["site-a"].event("x.y", time_s=federation.now_s)])
    ask(witness, federation.log)


def test_cosignature_times_never_go_back(federation, witness):
    federation.grow(3)
    ask(witness, federation.log)
    federation.now_s -= 100
    found = cosignature.find(
        note.parse(federation.log.checkpoint() + ask(witness, federation.log)), note.parse_vkey(witness.vkey)
    )
    assert found is not None and found.time_s == NOW_S


# -- memory --------------------------------------------------------------------------------------------------


def reopen(federation, storage, *, gate=None, signer=W):
    return Witness.open(
        storage, signer=signer, gate=gate or EventChain(ORIGIN), clock=lambda: federation.now_s
    )


def test_without_a_state_it_does_not_start(federation, storage):
    with pytest.raises(StorageMissingError):
        reopen(federation, storage)
    create(federation, storage)
    with pytest.raises(StorageExistsError):
        create(federation, storage)
    assert refused(lambda: reopen(federation, storage, signer=MemorySigner("w1"))) == "ledger.witness.key"


def test_a_log_does_not_witness_itself(federation, storage):
    with pytest.raises(WitnessRefusedError):
        Witness.create(
            storage,
            log_vkey=federation.log.vkey,
            signer=federation.log_signer,
            gate=OpenGate(),
            clock=lambda: 0,
        )


def test_a_restarted_witness_resumes_by_replaying(federation, witness, storage):
    federation.grow(6)
    ask(witness, federation.log)
    federation.grow(2)
    again = reopen(federation, storage)
    assert again.size == 6
    assert refused(lambda: ask(again, federation.log)) == "ledger.witness.not-resumed"
    entries = list(federation.log.entries(0, 8))
    for wrong in (
        entries[:5],
        entries[:7],
        [*entries[:5], entries[6]],
        [entries[1], entries[0], *entries[2:6]],
    ):
        with pytest.raises(WitnessRefusedError):
            again.resume(wrong)
        assert refused(lambda: ask(again, federation.log)) == "ledger.witness.not-resumed"
    again.resume(iter(entries[:6]))
    assert again.gate.size == 6
    ask(again, federation.log)
    assert again.size == 8


class FailingStorage(MemoryWitnessStorage):
    failing = False

    def swap(self, expected, state):
        if self.failing:
            raise StorageFailedError("the disk is full")
        super().swap(expected, state)


class CountingSigner:
    """Counts signatures, to see that none is made before the state is stored."""

    def __init__(self):
        self.signer, self.count = MemorySigner("w1", seed=b"w1"), 0
        self.name, self.public = self.signer.name, self.signer.public

    def sign(self, message):
        self.count += 1
        return self.signer.sign(message)


def test_nothing_is_signed_that_was_not_stored(federation):
    storage, signer = FailingStorage(), CountingSigner()
    witness = Witness.create(
        storage, log_vkey=federation.log.vkey, signer=signer, gate=EventChain(ORIGIN), clock=lambda: NOW_S
    )
    federation.grow(3)
    storage.failing = True
    with pytest.raises(StorageFailedError):
        ask(witness, federation.log)
    assert signer.count == 0 and witness.size == 0 and witness.gate.size == 0
    storage.failing = False
    ask(witness, federation.log)
    assert signer.count == 1


def test_two_processes_with_one_witness_state_cannot_both_sign(federation, witness, storage):
    twin = reopen(federation, storage)
    federation.grow(3)
    ask(witness, federation.log)
    with pytest.raises(StateConflictError):
        ask(twin, federation.log)


def test_a_witness_whose_state_was_rolled_back_refuses_to_sign(federation, tmp_path):
    storage = SqliteWitnessStorage(tmp_path / "w.db")
    witness = create(federation, storage)
    federation.grow(3)
    ask(witness, federation.log)
    storage.close()
    shutil.copy(tmp_path / "w.db", tmp_path / "old.db")
    federation.grow(2)
    published = federation.log.checkpoint() + ask(witness, federation.log)
    old = reopen(federation, SqliteWitnessStorage(tmp_path / "old.db"))
    old.resume(federation.log.entries(0, 3))
    assert refused(lambda: old.observe(published)) == "ledger.witness.rolled-back"
    request = encode_request(3, federation.log.consistency_proof(3, 5), published)
    entries = list(federation.log.entries(3, 5))
    assert refused(lambda: old.add_checkpoint(request, entries)) == "ledger.witness.rolled-back"
    witness.observe(published)


@pytest.mark.parametrize(
    "column", ["root", "frontier", "size", "checkpoint", "log_time_s", "log_vkey", "witness_vkey"]
)
def test_a_state_that_contradicts_itself_is_refused(federation, witness, storage, column):
    federation.grow(1)
    older = federation.log.checkpoint()
    federation.grow(2)
    ask(witness, federation.log)
    state = storage.load()
    value = getattr(state, column)
    if isinstance(value, int):
        altered = [value + 1, value - 1]
    elif isinstance(value, bytes):
        altered = [value[:at] + bytes([value[at] ^ 1]) + value[at + 1 :] for at in range(len(value))]
        altered += [b"", older]
    else:
        altered = [value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1 :] for at in range(len(value))]
    for item in altered:
        changed = dataclasses.replace(state, **{column: item})
        storage.swap(state, changed)
        with pytest.raises((WitnessRefusedError, InputError)):
            reopen(federation, storage).resume(federation.log.entries(0, 3))
        storage.swap(changed, state)
    reopen(federation, storage).resume(federation.log.entries(0, 3))


# -- equivocation --------------------------------------------------------------------------------------------


def rewritten(federation, size, *, at):
    """The same log key's other history: entry `at` says something else."""
    entries = list(federation.log.entries(0, federation.log.size))
    log = Log.create(MemoryStorage(), origin=ORIGIN, signer=federation.log_signer)
    log.append([*entries[:at], entries[at].replace(b"a", b"b", 1), *entries[at + 1 :]][:size])
    return log


def test_two_roots_of_one_size_are_kept_and_end_the_witness(federation, witness, storage):
    federation.grow(6)
    ask(witness, federation.log)
    fork = rewritten(federation, 6, at=3)
    assert refused(lambda: ask(witness, fork, start=6)) == "ledger.witness.equivocation"
    check_evidence(federation, storage)
    federation.grow(1)
    assert refused(lambda: ask(witness, federation.log)) == "ledger.witness.equivocation"
    again = reopen(federation, storage)
    again.resume(federation.log.entries(0, 6))
    assert refused(lambda: ask(again, federation.log)) == "ledger.witness.equivocation"


def test_a_rewritten_past_under_a_larger_size_is_proven_too(federation, witness, storage):
    federation.grow(6)
    ask(witness, federation.log)
    federation.grow(3)
    fork = rewritten(federation, 9, at=2)
    assert refused(lambda: ask(witness, fork)) == "ledger.witness.equivocation"
    check_evidence(federation, storage)


def test_a_rewritten_past_is_refused_even_if_nothing_can_be_proven(federation, witness):
    federation.grow(4)  # at a power of two the proof leaves the old root out
    ask(witness, federation.log)
    federation.grow(3)
    fork = rewritten(federation, 7, at=2)
    assert refused(lambda: ask(witness, fork), VerificationError) == "ledger.proof.consistency"
    assert witness.size == 4


def test_an_equivocation_seen_elsewhere_counts(federation, witness, storage):
    federation.grow(6)
    ask(witness, federation.log)
    fork = rewritten(federation, 5, at=2)
    witness.observe(fork.checkpoint())  # an older size proves nothing without nodes
    nodes = federation.log.consistency_proof(5, 6)
    assert refused(lambda: witness.observe(fork.checkpoint(), nodes)) == "ledger.witness.equivocation"
    check_evidence(federation, storage)


def check_evidence(federation, storage):
    (data,) = storage.evidence()
    found = equivocation.parse(data)
    assert found.encode() == data
    found.verify(note.parse_vkey(federation.log.vkey))
    with pytest.raises(VerificationError):
        found.verify(note.vkey_of(ORIGIN, MemorySigner("other")))


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


def test_the_story_of_a_rewritten_event(federation):
    """A coordinator rewrites one past event; every witness catches it."""
    federation.grow(11)
    federation.cosign()
    federation.grow(2)
    fork = rewritten(federation, 13, at=4)
    assert parse_entry(fork.entry(0)).event.type == "federation.founded"
    for witness in federation.witnesses.values():
        assert refused(lambda w=witness: ask(w, fork)) == "ledger.witness.equivocation"
        assert len(witness.evidence()) == 1
