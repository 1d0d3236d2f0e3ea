"""Replaying a ledger into state, as every institution does when it starts, beside plain `json.loads` of the entries.

The entries are those of whole rounds of four sites, with round numbers, plans and chains of their own; signatures are
blanks, which a replay does not look at: the root over the entries vouches for them. CPU time of one process, which is
one core. WARDROUND_BENCH_EVENTS says how many there are.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import resource
import time
from collections.abc import Iterator
from typing import Final

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ledger import canonical
from ledger.allocation import without_collection
from ledger.event import NO_PREVIOUS, entry_digest, parse_entry
from ledger.tree import Frontier, leaf_hash
from policies.state import FederationState
from tests.policies import assembly, founding
from tests.policies.founding import SITES, named

EVENTS: Final = int(os.environ.get("WARDROUND_BENCH_EVENTS", "1000000"))
CHUNK: Final = 20_000
AIM_S: Final = 30.0
ROUNDS_OF_A_PLAN: Final = 1000
BLANK: Final = base64.b64encode(bytes(64)).decode()


class Recorded(FederationState):
    """Keeps what was said."""

    said: list[bytes]

    def advance(self, index: int, entry: bytes) -> None:
        super().advance(index, entry)
        self.said.append(entry)


def recorded_round() -> list[bytes]:
    """Everything that is said up to a registered model, and the settlements after it."""
    state = Recorded(founding.ORIGIN)
    state.said = []
    told = assembly.Assembly(state=state).reach("registered")
    for site in SITES:
        told.say(site, told.settlement(site, "training", "evaluation"))
    return state.said


class Author:
    """Continues the chains of all institutions with blank signatures."""

    def __init__(self) -> None:
        self.sequence: dict[str, int] = {}
        self.previous: dict[str, str] = {}

    def entry(self, event: dict[str, object], body: str) -> bytes:
        name = str(event["institution"])
        sequence, previous = self.sequence.get(name, 0), self.previous.get(name, NO_PREVIOUS)
        payload = (
            f'{{"body":{body},"institution":"{name}","origin":"{event["origin"]}","previous":"{previous}",'
            f'"schema_version":1,"sequence":{sequence},"time_s":{event["time_s"]},"type":"{event["type"]}"}}'
        )
        entry = (
            f'{{"payload":"{base64.b64encode(payload.encode()).decode()}","payloadType":'
            f'"application/vnd.wardround.event+json","signatures":[{{"keyid":"{"0" * 64}","sig":"{BLANK}"}}]}}'
        ).encode()
        self.sequence[name], self.previous[name] = sequence + 1, entry_digest(entry)
        return entry


def ledger_of(events: int) -> Iterator[bytes]:
    """The founding, and then plan after plan, each of a thousand rounds."""
    recorded = [parse_entry(entry).event.to_json() for entry in recorded_round()]
    bodies = [canonical.encode(event["body"]).decode() for event in recorded]
    author, plan = Author(), assembly.Assembly().digest
    first_of_round = next(n for n, event in enumerate(recorded) if event["type"] == "budget.reserved")
    count = 0
    for edition in range(events):
        mine = named(f"plan {edition}")
        for round_number in range(1, ROUNDS_OF_A_PLAN + 1):
            for number, (event, body) in enumerate(zip(recorded, bodies, strict=True)):
                beginning = number < first_of_round
                if (beginning and round_number > 1) or (event["type"] == "federation.founded" and edition):
                    continue
                yield author.entry(
                    event, body.replace(plan, mine).replace('"round":1,', f'"round":{round_number},')
                )
                count += 1
                if count == events:
                    return


def test_the_entries_are_those_that_a_strict_reader_takes() -> None:
    """Not a benchmark: what is replayed here is a ledger, and its state is that of the recorded one."""
    recorded, made = recorded_round(), list(ledger_of(len(recorded_round())))
    one, other = FederationState(founding.ORIGIN), FederationState(founding.ORIGIN)
    for index, (entry, copied) in enumerate(zip(recorded, made, strict=True)):
        assert parse_entry(copied).event.type == parse_entry(entry).event.type
        one.advance(index, entry)
        other.replay(index, copied)
    assert (one.spent, one.phase, one.federation) == (other.spent, other.phase, other.federation)
    assert len(one.receipts) == len(other.receipts) and one.log_time_s == other.log_time_s


@pytest.mark.benchmark(group="replay")
def test_replay(benchmark: BenchmarkFixture) -> None:
    state, frontier = FederationState(founding.ORIGIN), Frontier()
    seconds = {"replay": 0.0, "hashing": 0.0, "json": 0.0}
    chunk: list[bytes] = []

    def timed_chunk() -> None:
        start = time.process_time()
        with without_collection():  # as whoever opens a log does
            for entry in chunk:
                state.replay(state.size, entry)
        replayed = time.process_time()
        for entry in chunk:
            frontier.append(leaf_hash(entry))
        hashed = time.process_time()
        for entry in chunk:
            json.loads(entry)
        seconds["json"] += time.process_time() - hashed
        seconds["hashing"] += hashed - replayed
        seconds["replay"] += replayed - start
        chunk.clear()

    def whole() -> None:
        for entry in ledger_of(EVENTS):
            chunk.append(entry)
            if len(chunk) == CHUNK:
                timed_chunk()
        timed_chunk()

    benchmark.pedantic(whole, rounds=1)
    assert state.size == EVENTS
    replay, plain = seconds["replay"], seconds["json"]
    print(
        f"\nreplay of {EVENTS:,} events: {replay:.1f} s, {EVENTS / replay:,.0f} events/s"
        f" (aim {AIM_S * EVENTS / 1e6:.0f} s); root over them {seconds['hashing']:.1f} s"
        f"\n  plain json.loads of the entries {EVENTS / plain:,.0f}/s; ratio {plain / replay:.2f}"
        f"\n  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"
    )
    benchmark.extra_info["events_per_s"] = EVENTS / replay
    benchmark.extra_info["ratio_to_json"] = plain / replay
    gc.collect()
