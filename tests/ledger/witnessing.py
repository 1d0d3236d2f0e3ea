"""One witness of the tests' federation: how it is made, asked and restarted, and a log that was rewritten."""

from __future__ import annotations

import pytest

from ledger.chain import EventChain
from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.memory import MemoryStorage
from ledger.witness import Witness, WitnessRefusedError

W = MemorySigner("w1", seed=b"w1")


def create(federation, storage, *, gate=None):
    return Witness.create(
        storage,
        log_vkey=federation.log.vkey,
        signer=W,
        gate=gate or EventChain(federation.log.origin),
        clock=lambda: federation.now_s,
    )


def ask(witness, log, *, start=None, end=None):
    start = witness.size if start is None else start
    return witness.add_checkpoint(log.witness_request(start), list(log.entries(start, end or log.size)))


def refused(call, error=WitnessRefusedError):
    with pytest.raises(error) as caught:
        call()
    return caught.value.code


def reopen(federation, storage, *, gate=None, signer=W):
    return Witness.open(
        storage, signer=signer, gate=gate or EventChain(federation.log.origin), clock=lambda: federation.now_s
    )


def rewritten(federation, size, *, at):
    """The same log key's other history: entry `at` says something else."""
    entries = list(federation.log.entries(0, federation.log.size))
    log = Log.create(MemoryStorage(), origin=federation.log.origin, signer=federation.log_signer)
    log.append([*entries[:at], entries[at].replace(b"a", b"b", 1), *entries[at + 1 :]][:size])
    return log
