"""Durable appends a second beside the same bytes written raw with one fsync a batch, in interleaved rounds.

256 entries of 600 bytes a batch. A round is 50 batches, so that SQLite's checkpoints (about every 100) and
PostgreSQL's background writing are in the figures.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.postgresql import PostgresqlStorage
from ledger.sqlite import SqliteStorage
from ledger.storage import Storage
from tests.postgresql_server import PostgresqlServer

BATCH = 256
ENTRY_BYTES = 600
BATCHES = 50
ROUNDS = 9
Append = Callable[[list[bytes]], object]


@pytest.fixture
def raw(tmp_path: Path) -> Iterator[Append]:
    descriptor = os.open(tmp_path / "raw", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def write(entries: list[bytes]) -> None:
        os.write(descriptor, b"".join(entries))
        os.fsync(descriptor)

    yield write
    os.close(descriptor)


def log_in(storage: Storage) -> Log:
    return Log.create(storage, origin="ledger.example/bench", signer=MemorySigner("log", seed=b"log"))


def entries_per_s(append: Append) -> float:
    batches = [[os.urandom(ENTRY_BYTES) for _ in range(BATCH)] for _ in range(BATCHES)]
    start = time.perf_counter()
    for batch in batches:
        append(batch)
    return BATCHES * BATCH / (time.perf_counter() - start)


@pytest.mark.benchmark(group="append")
def test_append(
    benchmark: BenchmarkFixture, tmp_path: Path, raw: Append, postgresql_server: PostgresqlServer
) -> None:
    server = postgresql_server
    stores = {
        "SQLite": SqliteStorage(tmp_path / "ledger.sqlite"),
        "PostgreSQL": PostgresqlStorage(server.url(server.database())),
    }
    ways: dict[str, Append] = {"raw": raw, **{name: log_in(store).append for name, store in stores.items()}}
    for append in ways.values():
        entries_per_s(append)
    rounds: list[dict[str, float]] = []
    benchmark.pedantic(
        lambda: rounds.append({name: entries_per_s(append) for name, append in ways.items()}), rounds=ROUNDS
    )
    for store in stores.values():
        store.close()
    for name in ways:
        speeds = [one[name] for one in rounds]
        ratio = statistics.median(one[name] / one["raw"] for one in rounds)
        print(
            f"\n{name:<11} {statistics.median(speeds):>9,.0f} entries/s, median of {ROUNDS} rounds"
            f" ({min(speeds):,.0f} to {max(speeds):,.0f}); {ratio:.2f} of raw",
            end="",
        )
    print()
    benchmark.extra_info.update({name: statistics.median(one[name] for one in rounds) for name in ways})
