"""Agreement: whatever a hostile sequencer and f hostile witnesses do, no two final checkpoints contradict.

State machines over the real witnesses (`tests.ledger.hostile_sequencer`), for f of n that lie or whose disks go
back. One run here is short; `pytest tests/ledger/test_agreement.py --hypothesis-profile=thorough` is 300 histories of
60 steps for each federation.
"""

from __future__ import annotations

import functools
import itertools

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from ledger.errors import VerificationError
from ledger.event import NO_PREVIOUS, Event, parse_entry, sign_event
from ledger.finality import finalized
from ledger.keys import MemorySigner
from tests.ledger.hostile_sequencer import HostileSequencer

AUTHOR = MemorySigner("author", seed=b"author")
CAP = 30


@functools.cache
def event_of(entry):
    return parse_entry(entry).event


def spent(entry) -> int:
    return event_of(entry).body["spent"]


class Budget:
    """A gate with a memory: all that was spent stays within a cap."""

    def __init__(self, left=CAP):
        self.left = left

    def advance(self, index, entry):
        if spent(entry) > self.left:
            raise VerificationError("the budget is spent")
        self.left -= spent(entry)

    replay = advance

    def fork(self):
        return Budget(self.left)


class Spending(HostileSequencer):
    """Entries spend a little, and now and then too much at once or in sum."""

    numbers = itertools.count()

    def gate(self):
        return Budget()

    def entry(self, branch, choice, time_s):
        half = CAP // 2 + 1
        event = Event(
            origin=self.origin,
            type="budget.reserved",
            institution="author",
            sequence=next(self.numbers),
            previous=NO_PREVIOUS,
            time_s=time_s,
            body={"spent": {50: CAP + 1, 51: half, 52: half, 53: half}.get(choice, int(choice % 3 == 2))},
        )
        return sign_event(event, [AUTHOR])

    def admissible(self, entries):
        return sum(map(spent, entries)) <= CAP

    def time_of(self, entry):
        return event_of(entry).time_s


@pytest.mark.parametrize(
    ("sites", "liars", "rollbacks"), [(4, 1, 0), (4, 0, 1), (5, 1, 0), (7, 2, 0), (7, 1, 1)]
)
def test_no_two_final_checkpoints_contradict(sites, liars, rollbacks):
    machine = type("Machine", (Spending,), {"sites": sites, "liars": liars, "rollbacks": rollbacks})
    run_state_machine_as_test(machine, settings=histories(40, 50))


def histories(count, steps):
    """So many histories of so many steps, or what the thorough profile says."""
    if settings.get_current_profile_name() == "thorough":
        return settings(suppress_health_check=list(HealthCheck))
    return settings(max_examples=count, stateful_step_count=steps, suppress_health_check=list(HealthCheck))


def test_an_honest_log_becomes_final_without_the_hostile(federation):
    federation.grow(5)
    note = federation.cosign(["site-b", "site-c", "site-d"])
    assert finalized(note, log_vkey=federation.log.vkey, policy=federation.policy).size == 5
