"""The witness cosigns what it checked: consistency, entries, gate and time, in that order."""

from __future__ import annotations

import pytest

from ledger import cosignature, note
from ledger.chain import ChainError
from ledger.errors import InputError, VerificationError
from ledger.gate import OpenGate
from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.memory import MemoryStorage
from ledger.witness import GateRefusedError, WitnessConflictError
from ledger.witness_request import encode_request, parse_request
from tests.ledger.witnessing import ask, create, refused

ORIGIN = "ledger.example/wards"
NOW_S = 1_800_000_000


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


# -- the gate ---------------------------------------------------------------------------------------------------


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
    assert isinstance(caught.value.__cause__, ChainError)
    assert (witness.size, witness.root, witness.gate) == state
    assert witness.gate.size == 3


def test_any_exception_of_the_gate_is_a_refusal(federation, witness_storage):
    class Broken(OpenGate):
        def advance(self, index, entry):
            raise RuntimeError("patient name")

        def fork(self):
            return Broken()

    witness = create(federation, witness_storage, gate=Broken())
    federation.grow(1)
    with pytest.raises(GateRefusedError) as caught:
        ask(witness, federation.log)
    assert "patient" not in str(caught.value)


def test_entries_that_are_no_events_are_refused_by_any_gate(federation, witness_storage):
    witness = create(federation, witness_storage, gate=OpenGate())
    federation.log.append([b"not an event"])
    assert refused(lambda: ask(witness, federation.log), InputError) == "json.not-canonical"


# -- time -------------------------------------------------------------------------------------------------------


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
def test_log_time_is_bounded_by_the_witnesss_clock(federation, witness_storage, offset_s, code):
    witness = create(federation, witness_storage)
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
