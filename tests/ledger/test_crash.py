"""Faults of the machine: kill -9 between any two writes, of the sequencer and of the database server.

Real processes, files and servers: children are forked, and what they left is judged from outside.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import pytest
import sqlalchemy as sa

from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.storage import StateConflictError, StorageFailedError
from tests.ledger.places import KINDS, POSTGRESQL, maker

FORK = multiprocessing.get_context("fork")
SIGNER = MemorySigner("log", seed=b"log")
BATCH = 300  # crosses a tile, so that a batch is several writes
LOST = 7  # exit code of a child that was told that its append failed


def counter():
    """Shared with a child. It has no lock: one that is killed while it holds it would keep it for ever."""
    return FORK.Value("i", 0, lock=False)


@pytest.fixture(params=KINDS)
def new_place(request):
    return maker(request.param, request)


def created(place):
    storage = place.open()
    Log.create(storage, origin="ledger.example/crash", signer=SIGNER).append([b"first"])
    storage.close()
    return place


def run(target, *arguments):
    child = FORK.Process(target=target, args=arguments)
    child.start()
    child.join(60)
    assert not child.is_alive()
    return child.exitcode


def judge(place, acknowledged):
    """The log opens, nothing acknowledged is lost, nothing unacknowledged is half there."""
    assert place.verify().size >= acknowledged
    storage = place.open()
    log = Log.open(storage, signer=SIGNER)
    size = log.size
    assert (size - 1) % BATCH == 0
    entries = list(log.entries(0, size))
    assert entries == [b"first", *(b"entry %d" % number for number in range(size - 1))]
    log.append([b"and on"])
    storage.close()
    return size


def append_batches(log, count, report):
    for _ in range(count):
        start = log.size - 1
        log.append([b"entry %d" % number for number in range(start, start + BATCH)])
        report(log.size)


def at_step(storage, nth, act):
    """Call `act` just before or after the nth statement or commit from now on."""
    seen = [0]

    def step(*_arguments):
        seen[0] += 1
        if seen[0] == nth:
            act()

    engine = storage._engine
    for moment in ("before_cursor_execute", "after_cursor_execute"):
        sa.event.listen(engine, moment, step)
    commit = engine.dialect.do_commit

    def do_commit(connection):
        step()
        commit(connection)
        step()

    engine.dialect.do_commit = do_commit


def append_with_fault(place, nth, acknowledged, act):
    """Append two batches, and let `act` happen at the nth step."""
    storage = place.open()
    log = Log.open(storage, signer=SIGNER)
    at_step(storage, nth, act)
    try:
        append_batches(log, 2, lambda size: setattr(acknowledged, "value", size))
    except StorageFailedError as error:
        os._exit(LOST if error.remedy else 1)
    os._exit(0)


def test_kill_the_sequencer_between_every_two_writes(new_place):
    exits, sizes = [], set()
    for nth in range(1, 60):
        place = created(new_place())
        acknowledged = counter()
        kill = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
        exits.append(run(append_with_fault, place, nth, acknowledged, kill))
        size = judge(place, acknowledged.value)
        sizes.add(size - acknowledged.value)
        if exits[-1] == 0:
            break
    assert exits[-1] == 0 and len(exits) > 15
    assert set(exits[:-1]) == {-signal.SIGKILL}
    assert BATCH in sizes  # one died between the commit and the acknowledgement


@pytest.mark.parametrize("new_place", [POSTGRESQL], indirect=True)
def test_kill_the_server_between_every_two_writes(new_place, postgresql_server):
    """pg_ctl stop -m immediate, then recovery from the write-ahead log."""
    exits = []
    for nth in range(1, 60):
        place = created(new_place())
        acknowledged = counter()
        exits.append(run(append_with_fault, place, nth, acknowledged, postgresql_server.crash))
        if exits[-1] == 0 and acknowledged.value == 1 + 2 * BATCH:
            try:
                judge(place, acknowledged.value)
                break  # nothing crashed: there is no nth step
            except StorageFailedError:
                pass  # it crashed after the very last commit
        postgresql_server.restart()
        judge(place, acknowledged.value)
    assert len(exits) > 15 and set(exits) == {0, LOST}


def append_forever(place, acknowledged):
    log = Log.open(place.open(), signer=SIGNER)
    try:
        append_batches(log, 10_000, lambda size: setattr(acknowledged, "value", size))
    except StorageFailedError:
        os._exit(LOST)


def appending(place):
    acknowledged = counter()
    child = FORK.Process(target=append_forever, args=(place, acknowledged))
    child.start()
    deadline = time.monotonic() + 30
    while acknowledged.value < 1 + BATCH and time.monotonic() < deadline:
        time.sleep(0.001)
    assert acknowledged.value > 1
    return child, acknowledged


def test_kill_the_sequencer_at_any_moment(new_place):
    for attempt in range(6):
        place = created(new_place())
        child, acknowledged = appending(place)
        time.sleep(0.003 * attempt)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        judge(place, acknowledged.value)


@pytest.mark.parametrize("new_place", [POSTGRESQL], indirect=True)
def test_kill_the_server_at_any_moment(new_place, postgresql_server):
    for attempt in range(4):
        place = created(new_place())
        child, acknowledged = appending(place)
        time.sleep(0.007 * attempt)
        postgresql_server.crash()
        child.join(60)
        assert child.exitcode == LOST
        postgresql_server.restart()
        judge(place, acknowledged.value)


@pytest.mark.parametrize("new_place", [POSTGRESQL], indirect=True)
def test_a_server_that_would_acknowledge_early_loses_nothing(new_place, postgresql_server):
    """The database's default is to acknowledge before anything is on the disk; the ledger overrides it."""
    place = created(new_place())
    name = place.url.split("/")[3].split("?")[0]
    postgresql_server.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    storage = place.open()
    log = Log.open(storage, signer=SIGNER)
    append_batches(log, 3, lambda _size: None)
    postgresql_server.crash()
    postgresql_server.restart()
    storage.close()
    assert judge(place, log.size) == 1 + 3 * BATCH


def append_little_by_little(place):
    log = Log.open(place.open(), signer=SIGNER)
    for number in range(2_000):
        log.append([b"entry %d" % number])


def test_a_log_verifies_at_every_moment_while_it_grows(new_place):
    """The verifier sees the log of one moment, not half of an append."""
    place = created(new_place())
    child = FORK.Process(target=append_little_by_little, args=(place,))
    child.start()
    try:
        sizes = [place.verify().size for _ in range(30)]
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


def append_beside_others(place, name, count):
    log = Log.open(place.open(), signer=SIGNER)
    for number in range(count):
        while True:
            try:
                log.append([b"%s %d" % (name, number)])
                break
            except StateConflictError:
                log.refresh()
    os._exit(0)


def test_sequencers_at_once_never_fork_the_log(new_place):
    place, count, names = created(new_place()), 40, (b"one", b"two", b"three")
    join_all(FORK.Process(target=append_beside_others, args=(place, name, count)) for name in names)
    assert place.verify().size == 1 + len(names) * count
    storage = place.open()
    log = Log.open(storage)
    entries = list(log.entries(1, log.size))
    for name in names:
        assert [entry for entry in entries if entry.startswith(b"%s " % name)] == [
            b"%s %d" % (name, n) for n in range(count)
        ]
    storage.close()


def race(place, number, rounds, start, wins):
    log = Log.open(place.open(), signer=SIGNER)
    for turn in range(rounds):
        log.refresh()
        start.wait(30)
        try:
            log.append([b"%d of turn %d" % (number, turn)])
            wins[turn * 3 + number] = 1
        except StateConflictError:
            wins[turn * 3 + number] = 2
        start.wait(30)
    os._exit(0)


def test_of_sequencers_that_append_to_one_size_exactly_one_wins(new_place):
    place, rounds = created(new_place()), 60
    start, wins = FORK.Barrier(3), FORK.Array("i", 3 * rounds)
    join_all(FORK.Process(target=race, args=(place, number, rounds, start, wins)) for number in range(3))
    storage = place.open()
    log = Log.open(storage)
    assert place.verify().size == log.size == 1 + rounds
    for turn, entry in enumerate(log.entries(1, log.size)):
        outcome = wins[turn * 3 : turn * 3 + 3]
        assert sorted(outcome) == [1, 2, 2]
        assert entry == b"%d of turn %d" % (outcome.index(1), turn)
    storage.close()


def join_all(children):
    children = list(children)
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
