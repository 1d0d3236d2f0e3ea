"""What a witness remembers: it signs only after it stored, and never starts without a state."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from ledger import cosignature, note, rollback
from ledger.chain import EventChain
from ledger.errors import InputError, VerificationError
from ledger.gate import OpenGate
from ledger.keys import MemorySigner
from ledger.storage import StateConflictError, StorageExistsError, StorageFailedError, StorageMissingError
from ledger.witness import Witness, WitnessRefusedError
from ledger.witness_request import encode_request
from ledger.witness_status import read_status
from ledger.witness_storage import MemoryWitnessStorage, SqliteWitnessStorage
from tests.ledger.witnessing import ask, create, refused, reopen

ORIGIN = "ledger.example/wards"
NOW_S = 1_800_000_000


def test_without_a_state_it_does_not_start(federation, witness_storage):
    with pytest.raises(StorageMissingError):
        reopen(federation, witness_storage)
    create(federation, witness_storage)
    with pytest.raises(StorageExistsError):
        create(federation, witness_storage)
    assert (
        refused(lambda: reopen(federation, witness_storage, signer=MemorySigner("w1")))
        == "ledger.witness.key"
    )


def test_a_log_does_not_witness_itself(federation, witness_storage):
    with pytest.raises(WitnessRefusedError):
        Witness.create(
            witness_storage,
            log_vkey=federation.log.vkey,
            signer=federation.log_signer,
            gate=OpenGate(),
            clock=lambda: 0,
        )


def test_a_restarted_witness_resumes_by_replaying(federation, witness, witness_storage):
    federation.grow(6)
    ask(witness, federation.log)
    federation.grow(2)
    again = reopen(federation, witness_storage)
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


def test_two_processes_with_one_witness_state_cannot_both_sign(federation, witness, witness_storage):
    twin = reopen(federation, witness_storage)
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
    # Having seen it, it signs nothing more: neither what it is asked without the cosignature nor after a restart.
    assert refused(lambda: ask(old, federation.log)) == "ledger.witness.rolled-back"
    again = reopen(federation, SqliteWitnessStorage(tmp_path / "old.db"))
    again.resume(federation.log.entries(0, 3))
    assert refused(lambda: ask(again, federation.log)) == "ledger.witness.rolled-back"
    assert again.evidence() == ()  # that accuses the disk, not the log
    status = read_status(tmp_path / "old.db")
    assert status.rolled_back and status.alarming and status.evidence == ()
    assert any("went back" in line for line in status.lines())


def test_a_process_that_another_overtook_is_not_mistaken_for_a_rolled_back_disk(
    federation, witness, witness_storage
):
    federation.grow(3)
    twin = reopen(federation, witness_storage)
    published = federation.log.checkpoint() + ask(witness, federation.log)
    assert refused(lambda: twin.observe(published)) == "ledger.witness.rolled-back"
    federation.grow(1)
    ask(witness, federation.log)


@pytest.mark.parametrize(
    "column", ["root", "frontier", "size", "checkpoint", "log_time_s", "log_vkey", "witness_vkey"]
)
def test_a_state_that_contradicts_itself_is_refused(federation, witness, witness_storage, column):
    federation.grow(1)
    older = federation.log.checkpoint()
    federation.grow(2)
    ask(witness, federation.log)
    state = witness_storage.load()
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
        witness_storage.swap(state, changed)
        with pytest.raises((WitnessRefusedError, InputError)):
            reopen(federation, witness_storage).resume(federation.log.entries(0, 3))
        witness_storage.swap(changed, state)
    reopen(federation, witness_storage).resume(federation.log.entries(0, 3))


def test_what_proves_no_rollback_is_refused(federation, witness, witness_storage):
    federation.grow(3)
    published = federation.log.checkpoint() + ask(witness, federation.log)
    proof, vkey = rollback.encode(published), note.parse_vkey(witness.vkey)
    assert rollback.parse(proof) == published
    rollback.verify(proof, vkey, 2)
    for data, key, size in (
        (proof, vkey, 3),
        (proof, cosignature.vkey_of("x", MemorySigner("x")), 2),
        (rollback.encode(federation.log.checkpoint()), vkey, 2),
        (b'{"rolled_back":"A"}', vkey, 2),
        (b'{"rolled_back":1}', vkey, 2),
    ):
        with pytest.raises((VerificationError, InputError)):
            rollback.verify(data, key, size)
