"""Agreement with the real policy: a hostile sequencer and f hostile witnesses finalise nothing that it refuses.

The machine is `tests.ledger.hostile_sequencer`; its entries are those of whole rounds that part ways at some stage,
and lies that are well signed and in sequence, so that nothing but the policy refuses them.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from ledger.event import parse_entry
from policies.events import TrainingReceipt
from policies.state import FederationState
from tests.ledger.hostile_sequencer import HostileSequencer
from tests.policies.assembly import STAGES, Assembly
from tests.policies.founding import COORDINATOR, ORIGIN, SITES, named

TIME_S = 1_700_000_000
A, B = SITES[:2]


class Telling(Assembly):
    """Keeps what it says; everything said from `late` on claims a second more than in other tellings."""

    def __init__(self, late):
        super().__init__()
        self.late, self.entries, self.states = late, [], [self.state.fork()]
        self.claimed_s = TIME_S
        for stage in STAGES:
            if stage == late:
                self.claimed_s += 1
            self._take(stage)

    def entry(self, institution, body, /, **changed):
        return super().entry(institution, body, **{"time_s": self.claimed_s, **changed})

    def say(self, institution, body):
        self.entries.append(self.entry(institution, body))
        self.state.advance(self.state.size, self.entries[-1])
        self.states.append(self.state.fork())
        return parse_entry(self.entries[-1]).digest


TOLD = [Telling(stage) for stage in ("published", "approved", "reserved", "closed", "judged", None)]
STATES = {tuple(told.entries[:size]): state for told in TOLD for size, state in enumerate(told.states)}
"""The state after every beginning of every telling: what is admissible."""

LIES = [
    lambda a: a.entry(B, a.approval(), signer=COORDINATOR),
    lambda a: a.entry(A, a.reservation(A, epsilon_total_micro=0)),
    lambda a: a.entry(A, TrainingReceipt(statement=a.receipt(A, code_digest=named("other code")).statement)),
    lambda a: a.entry(COORDINATOR, a.closing(receipts=(named("no receipt"),))),
    lambda a: a.entry(COORDINATOR, a.release(openings=a.openings("training", named("sum 1"), SITES[:1]))),
    lambda a: a.entry(COORDINATOR, a.evaluation(auc_micro=1_000_000)),
    lambda a: a.entry(COORDINATOR, a.registration(model_digest=named("another model"))),
    lambda a: a.entry("stranger", a.approval()),
]


class Refused(HostileSequencer):
    origin, start_s, past_s = ORIGIN, TIME_S, 10**9  # log time stands still here

    def __init__(self):
        super().__init__()
        self.branches += [self.new_log(told.entries[:size]) for told in TOLD[-2:] for size in (12, 24)]

    def gate(self):
        return FederationState(ORIGIN)

    def entry(self, branch, choice, time_s):
        before = tuple(branch.entries(0, branch.size))
        if before not in STATES:  # somebody lied in it already
            return TOLD[0].entries[choice % len(TOLD[0].entries)]
        coming = [told.entries[len(before)] for told in TOLD if before == tuple(told.entries[: len(before)]) != ()
                  and len(before) < len(told.entries)] or [TOLD[0].entries[0]]  # fmt: skip
        if choice % 9 == 4 and before:
            return LIES[choice % len(LIES)](Assembly(state=STATES[before]))
        return coming[choice % len(coming)]

    def admissible(self, entries):
        return tuple(entries) in STATES

    def time_of(self, entry):
        return parse_entry(entry).event.time_s


def test_nothing_that_the_policy_refuses_becomes_final():
    run_state_machine_as_test(
        Refused,
        settings=settings(
            max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
