"""Faults of the machine: kill -9 between any two writes, a full disk, two sequencers at once.

Real processes and real files: children are forked, and what they left is judged from outside.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time

import pytest
import sqlalchemy as sa

from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.sqlite import SqliteStorage
from ledger.storage import StateConflictError, StorageFailedError
from ledger.verify import verify_database

FORK = multiprocessing.get_context("fork")
SIGNER = MemorySigner("log", seed=b"log")
BATCH = 300  # crosses a tile, so that a batch is several writes


def created(path):
    storage = SqliteStorage(path)
    Log.create(storage, origin="ledger.example/crash", signer=SIGNER).append([b"first"])
    storage.close()
    return path


def run(target, *arguments):
    child = FORK.Process(target=target, args=arguments)
    child.start()
    child.join(60)
    assert not child.is_alive()
    return child.exitcode


def judge(path, acknowledged):
    """The log opens, nothing acknowledged is lost, nothing unacknowledged is half there."""
    assert verify_database(path, events="skip").size >= acknowledged
    storage = SqliteStorage(path)
    log = Log.open(storage, signer=SIGNER)
    size = log.size
    assert (size - 1) % BATCH == 0
    entries = list(log.entries(0, size))
    assert entries == [b"first", *(b"entry %d" % number for number in range(size - 1))]
    log.append([b"and on"])
    storage.close()


def append_batches(log, count, report):
    for _ in range(count):
        start = log.size - 1
        log.append([b"entry %d" % number for number in range(start, start + BATCH)])
        report(log.size)


def die_at_write(path, nth, acknowledged):
    """Append two batches, and die by SIGKILL just before or after the nth statement or commit."""
    storage = SqliteStorage(path)
    log = Log.open(storage, signer=SIGNER)
    seen = [0]

    def step(*_arguments):
        seen[0] += 1
        if seen[0] == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    engine = storage._engine
    for moment in ("before_cursor_execute", "after_cursor_execute", "commit"):
        sa.event.listen(engine, moment, step)
    append_batches(log, 2, lambda size: setattr(acknowledged, "value", size))
    os._exit(0)


def test_kill_between_every_two_writes(tmp_path):
    exits = []
    for nth in range(1, 60):
        path = created(tmp_path / f"{nth}.db")
        acknowledged = FORK.Value("i", 0)
        exits.append(run(die_at_write, path, nth, acknowledged))
        judge(path, acknowledged.value)
        if exits[-1] == 0:
            break
    assert exits[-1] == 0 and len(exits) > 15
    assert set(exits[:-1]) == {-signal.SIGKILL}


def append_forever(path, acknowledged):
    log = Log.open(SqliteStorage(path), signer=SIGNER)
    append_batches(log, 10_000, lambda size: setattr(acknowledged, "value", size))


def test_kill_at_any_moment(tmp_path):
    for attempt in range(6):
        path = created(tmp_path / f"{attempt}.db")
        acknowledged = FORK.Value("i", 0)
        child = FORK.Process(target=append_forever, args=(path, acknowledged))
        child.start()
        deadline = time.monotonic() + 30
        while acknowledged.value < 1 + BATCH and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.003 * attempt)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert acknowledged.value > 1
        judge(path, acknowledged.value)


def append_until_full(path, acknowledged):
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    log = Log.open(SqliteStorage(path), signer=SIGNER)
    try:
        append_batches(log, 1_000, lambda size: setattr(acknowledged, "value", size))
    except StorageFailedError as error:
        assert "acknowledged" in error.remedy
        os._exit(7 if log.size == acknowledged.value else 8)
    os._exit(9)


def test_a_full_disk_refuses_the_batch_and_loses_nothing(tmp_path):
    path = created(tmp_path / "ledger.db")
    acknowledged = FORK.Value("i", 0)
    assert run(append_until_full, path, acknowledged) == 7
    assert acknowledged.value > 1
    judge(path, acknowledged.value)


def append_beside_another(path, name, count):
    log = Log.open(SqliteStorage(path), signer=SIGNER)
    for number in range(count):
        while True:
            try:
                log.append([b"%s %d" % (name, number)])
                break
            except StateConflictError:
                log.refresh()
    os._exit(0)


@pytest.mark.parametrize("count", [40])
def test_two_sequencers_at_once_never_fork_the_log(tmp_path, count):
    path = created(tmp_path / "ledger.db")
    children = [
        FORK.Process(target=append_beside_another, args=(path, name, count)) for name in (b"one", b"two")
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert verify_database(path, events="skip").size == 1 + 2 * count
    log = Log.open(SqliteStorage(path))
    entries = list(log.entries(1, log.size))
    for name in (b"one", b"two"):
        assert [entry for entry in entries if entry.startswith(name)] == [
            b"%s %d" % (name, n) for n in range(count)
        ]
