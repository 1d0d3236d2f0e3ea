"""A hospital in quarantine, and three others that take it back, as people give the commands."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from policies.events import SiteQuarantined
from tasks.coordinator.party import Coordinator
from tests.consortium import SITES, Consortium
from tests.wardround.conftest import Command

A, B, C, D = SITES


@contextmanager
def at_work(consortium: Consortium) -> Iterator[None]:
    """All institutions serve, on a thread of their own, once D is in quarantine."""
    ready, stop = threading.Event(), threading.Event()

    async def work(coordinator: Coordinator) -> None:
        await coordinator.say(SiteQuarantined(site=D, code="test.drill"))
        ready.set()
        while not stop.is_set():
            await asyncio.sleep(0.05)

    thread = threading.Thread(target=lambda: asyncio.run(consortium.serve(work)))
    thread.start()
    try:
        assert ready.wait(60)
        yield
    finally:
        stop.set()
        thread.join()


def test_three_of_four_take_the_fourth_back_one_by_one(tmp_path: Path, wardround: Command) -> None:
    consortium = Consortium.found(tmp_path)
    homes = consortium.founded.sites
    for command in (("phase", "status"), ("federation", "quarantine"), ("site", "vote-release", D)):
        fresh = wardround(*command, "--home", homes[A])
        assert fresh.code == 1 and fresh.error.startswith("[ledger.unavailable]")
        assert "Start the coordinator" in fresh.error and f"site run --home {homes[A]}" in fresh.error
    with at_work(consortium):
        shown = wardround("federation", "quarantine", "--home", homes[A])
        assert shown.code == 0 and D in shown.out and "test.drill" in shown.out and "3 votes" in shown.out
        own = wardround("site", "vote-release", D, "--home", homes[D])
        assert own.code == 3 and "quarantine.own" in own.error
        free = wardround("site", "vote-release", B, "--home", homes[A])
        assert free.code == 3 and "quarantine.none" in free.error
        first = wardround("site", "vote-release", D, "--home", homes[A])
        assert first.code == 0 and "1 of 3 votes" in first.out, first.err
        twice = wardround("site", "vote-release", D, "--home", homes[A])
        assert twice.code == 0 and "1 of 3 votes" in twice.out
        for home in (consortium.founded.coordinator, homes[D]):  # everybody sees the same
            told = json.loads(wardround("federation", "quarantine", "--home", home, "--json").out)
            assert told["needed"] == 3 and told["quarantined"][D]["votes"] == [A]
        assert "2 of 3 votes" in wardround("site", "vote-release", D, "--home", homes[B]).out
        last = wardround("site", "vote-release", D, "--home", homes[C])
        assert last.code == 0 and f"{D} is back" in last.out
    assert not consortium.state().quarantined
    assert "Nobody is" in wardround("federation", "quarantine", "--home", homes[A]).out
