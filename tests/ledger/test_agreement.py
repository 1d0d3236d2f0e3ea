"""Agreement: whatever a hostile sequencer and f hostile witnesses do, no two final checkpoints contradict.

A state machine over the real witnesses. The sequencer holds the log key and forks, rewrites, withholds,
replays and loses messages as Hypothesis likes; hostile witnesses cosign everything; honest ones crash and
resume from whatever they are shown.
"""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from ledger import checkpoint, cosignature
from ledger.errors import CodedError
from ledger.event import Event, sign_event
from ledger.finality import QuorumError, finalized, merge_cosignatures
from ledger.gate import OpenGate
from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.memory import MemoryStorage
from ledger.policy import quorum_policy
from ledger.witness import EquivocationError, Witness
from ledger.witness_storage import MemoryWitnessStorage

ORIGIN = "ledger.example/agreement"
NOW_S = 1_800_000_000
LOG = MemorySigner("log", seed=b"log")
AUTHOR = MemorySigner("author", seed=b"author")
EVENT = Event(
    origin=ORIGIN, type="x.y", institution="author", sequence=0, previous="0" * 64, time_s=NOW_S, body={}
)
TEMPLATE = sign_event(EVENT, [AUTHOR])


def entry(number):
    """A new entry that parses; the gate of this test looks no further."""
    return TEMPLATE.replace(
        b'"keyid":"' + TEMPLATE.partition(b'"keyid":"')[2][:16], b'"keyid":"%016x' % number
    )


class Agreement(RuleBasedStateMachine):
    sites, hostile = 4, 1

    def __init__(self):
        super().__init__()
        self.numbers = itertools.count()
        self.branches = [Log.create(MemoryStorage(), origin=ORIGIN, signer=LOG)]
        signers = [MemorySigner(f"w{number}", seed=b"%d" % number) for number in range(self.sites)]
        self.liars, self.signers = signers[: self.hostile], signers[self.hostile :]
        self.stores = [MemoryWitnessStorage() for _ in self.signers]
        self.witnesses = [
            Witness.create(
                store, log_vkey=self.branches[0].vkey, signer=signer, gate=OpenGate(), clock=lambda: NOW_S
            )
            for store, signer in zip(self.stores, self.signers, strict=True)
        ]
        vkeys = [cosignature.vkey_of(signer.name, signer) for signer in signers]
        self.policy = quorum_policy(self.branches[0].vkey, vkeys)
        self.sent = []
        self.notes = {}  # checkpoint text -> note with every cosignature that was ever made
        self.finals = {}  # checkpoint text -> (size, the branch)

    def branch(self, number):
        return self.branches[number % len(self.branches)]

    @rule(number=st.integers(0, 9), count=st.integers(1, 3))
    def append(self, number, count):
        self.branch(number).append([entry(next(self.numbers)) for _ in range(count)])

    @rule(number=st.integers(0, 9), kept=st.integers(0, 9))
    def rewrite(self, number, kept):
        source = self.branch(number)
        kept = min(kept, source.size)
        fork = Log.create(MemoryStorage(), origin=ORIGIN, signer=LOG)
        fork.append([*source.entries(0, kept), entry(next(self.numbers))])
        self.branches.append(fork)

    @rule(number=st.integers(0, 9), site=st.integers(0, 9), told=st.integers(0, 9), honest=st.booleans())
    def ask(self, number, site, told, honest):
        """Ask for a cosignature; an honest request starts where the witness stands, others start anywhere."""
        branch, site = self.branch(number), site % len(self.witnesses)
        start = min(self.witnesses[site].size if honest else told, branch.size)
        request = branch.witness_request(start)
        self.deliver(site, request, list(branch.entries(start, branch.size)), branch)

    @rule(number=st.integers(0, 9), first=st.integers(0, 9), count=st.integers(1, 9))
    def ask_several(self, number, first, count):
        for site in range(first, first + count):
            self.ask(number, site, 0, True)

    @rule(which=st.integers(0, 99), site=st.integers(0, 9))
    def replay(self, which, site):
        if self.sent:
            self.deliver(site % len(self.witnesses), *self.sent[which % len(self.sent)])

    @rule(number=st.integers(0, 9), site=st.integers(0, 9))
    def withhold(self, number, site):
        branch, site = self.branch(number), site % len(self.witnesses)
        start = min(self.witnesses[site].size, branch.size)
        self.deliver(
            site, branch.witness_request(start), list(branch.entries(start, branch.size))[1:], branch
        )

    @rule(number=st.integers(0, 9), site=st.integers(0, 9))
    def crash(self, number, site):
        """The witness restarts and is shown some branch's past to resume from."""
        site = site % len(self.witnesses)
        self.witnesses[site] = Witness.open(
            self.stores[site], signer=self.signers[site], gate=OpenGate(), clock=lambda: NOW_S
        )
        for branch in (self.branch(number), *self.branches):
            with contextlib.suppress(CodedError):
                self.witnesses[site].resume(branch.entries(0, self.witnesses[site].size))

    def deliver(self, site, request, entries, branch):
        self.sent.append((request, entries, branch))
        try:
            line = self.witnesses[site].add_checkpoint(request, entries)
        except CodedError as error:
            if isinstance(error, EquivocationError):
                assert self.witnesses[site].evidence()
            return
        data = request.partition(b"\n\n")[2]
        head, signed = checkpoint.parse(data)
        lies = [
            cosignature.sign(signed.text, name=liar.name, signer=liar, time_s=NOW_S).line()
            for liar in self.liars
        ]
        note = merge_cosignatures(self.notes.get(signed.text, data), [line, *lies], policy=self.policy)
        self.notes[signed.text] = note
        with contextlib.suppress(QuorumError):
            finalized(note, log_vkey=None, policy=self.policy)
            self.finals[signed.text] = (head, branch)

    @invariant()
    def no_two_final_checkpoints_contradict(self):
        for (one, _), (other, branch) in itertools.permutations(self.finals.values(), 2):
            if one.size <= other.size:
                assert branch.root_at(one.size) == one.root


@pytest.mark.parametrize(("sites", "hostile"), [(4, 1), (5, 1), (7, 2)])
def test_no_two_final_checkpoints_contradict(sites, hostile):
    machine = type("Machine", (Agreement,), {"sites": sites, "hostile": hostile})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=15, stateful_step_count=30, deadline=None)
    )


def test_an_honest_log_becomes_final_without_the_hostile(federation):
    federation.grow(5)
    note = federation.cosign(["site-b", "site-c", "site-d"])
    assert finalized(note, log_vkey=federation.log.vkey, policy=federation.policy).size == 5
