"""One rehearsal of so many sites, measured in a process of its own: what a round costs as the federation grows.

All sites of a rehearsal share one process and take turns to compute, so that wall seconds are an upper bound for
hospitals that have machines of their own; processor seconds, bytes and entries are what they would be there.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from adapters.bell import Ringing
from adapters.exchange import Exchange
from adapters.home import Home
from adapters.institution_log import ledger_storage
from flows.rehearsal import Rehearsal, rehearsing
from ledger.log import Log
from policies.plan import Plan
from tasks.rehearsal.cast import site_worker
from tasks.rehearsal.founding import PATIENTS
from tasks.rehearsal.plan import rehearsal_plan
from tasks.worker.site_session import SiteSession

ROUNDS = 2
SLOW_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    name: str
    sites: int
    straggler: bool = False
    absent: int = 0
    uneven: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Of one round, on average; bytes sent and memory of one site."""

    wall_s: float
    cpu_s: float
    site_bytes: float
    ledger_bytes: float
    site_mib: float
    reported: int


class Slow(SiteSession):
    """A site whose machine is older than the others'."""

    def train(self, plan: Plan, base: bytes, round_number: int, attempt: int) -> float:
        time.sleep(SLOW_S)
        return super().train(plan, base, round_number, attempt)


class Counting:
    """What one site puts on the exchange, in bytes."""

    def __init__(self, inner: Exchange) -> None:
        self.sent, self._inner = 0, inner
        if isinstance(inner, Ringing):
            self.bell = inner.bell

    def put(self, name: str, data: bytes) -> None:
        self.sent += len(data)
        self._inner.put(name, data)

    def replace(self, name: str, data: bytes) -> None:
        self.sent += len(data)
        self._inner.replace(name, data)

    def get(self, name: str, *, at_most_bytes: int | None = None) -> bytes | None:
        return self._inner.get(name, at_most_bytes=at_most_bytes)

    def names(self, prefix: str) -> list[str]:
        return self._inner.names(prefix)


def measure(scenario: Scenario) -> Measured:
    """Play it; blocking. The first run, of a plan of its own, warms whatever is imported late."""
    names = tuple(f"hospital-{number:02}" for number in range(scenario.sites))
    uneven = {name: 40 + 40 * (number % 10) for number, name in enumerate(names)}
    patients = uneven if scenario.uneven else dict.fromkeys(names, PATIENTS)
    with rehearsing(names, patients=patients) as rehearsal:
        asyncio.run(rehearsal.run(rehearsal_plan({"edition": "warm"}), wait_s=120.0))
        counters = _counted(rehearsal)
        if scenario.straggler:
            rehearsal.workers[names[-1]] = site_worker(Slow)
        absent = names[
            scenario.sites - scenario.absent :
        ]  # the first ones hold keys, and of those one may be away
        plan = rehearsal_plan(
            {
                "rounds": ROUNDS,
                "evaluation": {"bins": 16, "noise_std": 1.0, "every": ROUNDS},
                "participation": {"required": [], "minimum_sites": 3, "deadline_s": 15 if absent else 120},
            }
        )
        before, cpu_s, began = _ledger_bytes(rehearsal), time.process_time(), time.monotonic()
        outcome = asyncio.run(rehearsal.run(plan, absent=absent, wait_s=120.0))
        wall_s, cpu_s = time.monotonic() - began, time.process_time() - cpu_s
        assert not outcome.errors, {name: outcome.code(name) for name in outcome.errors}
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            1 if sys.platform == "darwin" else 1024
        )
        return Measured(
            wall_s=wall_s / ROUNDS,
            cpu_s=cpu_s / ROUNDS,
            site_bytes=sum(one.sent for one in counters) / ROUNDS / (scenario.sites - scenario.absent),
            ledger_bytes=(_ledger_bytes(rehearsal) - before) / ROUNDS,
            site_mib=peak_mib / scenario.sites,
            reported=len(outcome.state.reported(plan.content_digest(), ROUNDS)),
        )


def _counted(rehearsal: Rehearsal) -> list[Counting]:
    counters: list[Counting] = []

    def counting() -> Callable[[Exchange], Exchange]:
        def begin(shared: Exchange) -> Exchange:
            counters.append(Counting(shared))
            return counters[-1]

        return begin

    rehearsal.exchanges.update({name: counting() for name in rehearsal.founded.sites})
    return counters


def _ledger_bytes(rehearsal: Rehearsal) -> int:
    storage = ledger_storage(Home(rehearsal.founded.coordinator))
    try:
        log = Log.open(storage)
        return sum(len(entry) for entry in log.entries(0, log.size))
    finally:
        storage.close()
