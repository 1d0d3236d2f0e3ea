"""What a gate costs as a whole: a reservation's admission (signature, chain, kernel, rules, state) beside the bare
engine asked its rules, and the admission of a plan against pools that thousands of mechanisms drew on.

CPU time of one process, which is one core. Peers have no such gate; the aims are 1,500 decisions a second
(tests/benchmarks/test_rules.py) and 50 ms a plan.
"""

from __future__ import annotations

import statistics
import time
from typing import Final

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from policies import facts
from policies.cost import round_cost
from policies.gates import plan_violations
from policies.state import FederationState
from tests.benchmarks.test_replay import Author
from tests.benchmarks.test_rules import bare
from tests.policies import assembly, founding
from tests.policies.assembly import Assembly
from tests.policies.founding import SITES

RESERVATIONS: Final = 1000
MECHANISMS: Final = 10_000
CAP: Final = 1e6
PLANS: Final = 50


class Recorded(FederationState):
    """Keeps what was said."""

    said: list[bytes]

    def advance(self, index: int, entry: bytes) -> None:
        super().advance(index, entry)
        self.said.append(entry)


def reserving(count: int) -> tuple[Assembly, list[bytes]]:
    """A federation whose sites reserved `count` times in turns, and everything that was said."""
    state = Recorded(founding.ORIGIN)
    state.said = []
    told = Assembly(cap=CAP, state=state).reach("consented")
    for number in range(count):
        site = SITES[number % len(SITES)]
        told.say(site, told.reservation(site))
    return told, state.said


@pytest.mark.benchmark(group="gates")
def test_admission_of_a_reservation(benchmark: BenchmarkFixture) -> None:
    told, said = reserving(RESERVATIONS)
    first = len(said) - RESERVATIONS
    engine = bare("reservation")
    site = told.state.founded().sites()[0]
    known = facts.reservation_facts(
        told.state, told.plan, told.digest, site, cost=round_cost(told.plan, 1), log_time_s=founding.NOW_S
    )
    assert engine(known) == []
    rates: list[tuple[float, float]] = []

    def once() -> None:
        state = FederationState(founding.ORIGIN)
        for index, entry in enumerate(said[:first]):
            state.advance(index, entry)
        start = time.process_time()
        for index, entry in enumerate(said[first:], first):
            state.advance(index, entry)
        between = time.process_time()
        for _ in range(RESERVATIONS):
            engine(known)
        rates.append((RESERVATIONS / (between - start), RESERVATIONS / (time.process_time() - between)))

    benchmark.pedantic(once, rounds=5, warmup_rounds=1)
    speed = statistics.median(admitted for admitted, _ in rates)
    ratio = statistics.median(admitted / plain for admitted, plain in rates)
    print(f"\nadmission of a reservation, signature to state: {speed:,.0f}/s, {ratio:.2f} of the bare engine")
    benchmark.extra_info["ratio_to_bare_engine"] = ratio


def drawn_on(mechanisms: int) -> FederationState:
    """A federation of whose every pool so many mechanisms drew; each reservation is of two. Replayed, not judged."""
    told, _ = reserving(0)
    state, author = told.state, Author()
    for site in SITES:
        author.sequence[site], author.previous[site] = state.chain.position(site)
    for number in range(mechanisms * len(SITES) // 2):
        site = SITES[number % len(SITES)]
        event = {
            "institution": site,
            "origin": founding.ORIGIN,
            "time_s": founding.NOW_S,
            "type": "budget.reserved",
        }
        state.replay(
            state.size, author.entry(event, told.reservation(site, attempt=1).canonical_bytes().decode())
        )
    return state


@pytest.mark.benchmark(group="gates")
def test_a_plan_against_pools_with_a_long_past(benchmark: BenchmarkFixture) -> None:
    young, old, plan = drawn_on(0), drawn_on(MECHANISMS), assembly.plan(rounds=2)
    assert old.spent_by(SITES[0]) == round_cost(plan, 1).scaled(MECHANISMS // 2)

    def seconds(state: FederationState) -> float:
        start = time.process_time()
        for _ in range(PLANS):
            assert plan_violations(state, plan) == []
        return (time.process_time() - start) / PLANS

    pairs = [(seconds(young), seconds(old)) for _ in range(5)]
    benchmark.pedantic(lambda: seconds(old), rounds=1)
    none, many = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"\na plan against {len(SITES)} pools with {MECHANISMS:,} past mechanisms each: {many * 1e3:.1f} ms"
        f" (aim 50 ms); with none {none * 1e3:.1f} ms"
    )
    benchmark.extra_info["plan_ms"] = many * 1e3
