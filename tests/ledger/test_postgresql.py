"""PostgreSQL alone: connections that break, servers that are not durable, passwords, every column changed."""

from __future__ import annotations

import logging
import threading

import psycopg
import pytest
import sqlalchemy as sa

from ledger.errors import CodedError
from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.postgresql import DatabaseUrlError, NotDurableError, PostgresqlStorage, open_engine, parse_url
from ledger.storage import (
    OutcomeUnknownError,
    StateConflictError,
    StorageExistsError,
    StorageFailedError,
    StorageMissingError,
)
from ledger.verify_database import verify_url
from tests.ledger.lossy_connection import LossyConnection
from tests.postgresql_server import GUARDED, PASSWORD

pytestmark = pytest.mark.xdist_group("postgresql")
SIGNER = MemorySigner("log", seed=b"log")
ORIGIN = "ledger.example/postgresql"


@pytest.fixture
def database(postgresql_server):
    name = postgresql_server.database()
    yield name
    postgresql_server.drop(name)


@pytest.fixture
def url(postgresql_server, database):
    return postgresql_server.url(database)


@pytest.fixture
def storage(url):
    made = PostgresqlStorage(url)
    yield made
    made.close()


@pytest.fixture
def lossy(postgresql_server):
    proxy = LossyConnection(postgresql_server.folder)
    yield proxy
    proxy.close()


@pytest.mark.parametrize(("lose", "stored"), [("question", False), ("answer", True)])
@pytest.mark.parametrize("then", ["refresh", "append", "open"])
def test_a_connection_lost_in_commit_leaves_the_log_right(
    postgresql_server, database, url, lossy, lose, stored, then
):
    """Nobody can say whether the batch is stored. Whatever the sequencer does next, the log is the one."""
    storage = PostgresqlStorage(postgresql_server.url(database, folder=lossy.folder))
    log = Log.create(storage, origin=ORIGIN, signer=SIGNER)
    log.append([b"first"])
    before = log.checkpoint()
    lossy.lose = lose
    with pytest.raises(OutcomeUnknownError) as caught:
        log.append([b"second", b"third"])
    assert lossy.lost.is_set() and "reload" in caught.value.remedy
    assert log.checkpoint() == before  # nothing is believed, and nothing was shown
    expected = [b"first", *([b"second", b"third"] if stored else [])]
    if then == "append" and stored:  # the same again must not be stored twice
        with pytest.raises(StateConflictError):
            log.append([b"second", b"third"])
    if then == "open":
        log = Log.open(storage, signer=SIGNER)
    elif stored or then == "refresh":
        log.refresh()
    assert list(log.entries(0, log.size)) == expected
    log.append([b"more"])
    assert list(log.entries(0, log.size)) == [*expected, b"more"]
    assert verify_url(url, events="skip").size == log.size
    storage.close()


def test_a_commit_still_under_way_decides_the_next_append(postgresql_server, database, storage):
    """The lost transaction holds the row's lock: who looks meanwhile sees the old log and cannot fork it."""
    log = Log.create(storage, origin=ORIGIN, signer=SIGNER)
    other = Log.open(storage, signer=SIGNER)
    held, go_on = threading.Event(), threading.Event()

    def commit(connection):
        held.set()
        go_on.wait(10)
        connection.commit()

    slow = PostgresqlStorage(postgresql_server.url(database))
    slow._engine.dialect.do_commit = commit
    appending = threading.Thread(target=Log.open(slow, signer=SIGNER).append, args=([b"theirs"],))
    appending.start()
    assert held.wait(10)
    other.refresh()
    assert other.size == 0
    threading.Timer(0.3, go_on.set).start()
    with pytest.raises(StateConflictError):
        other.append([b"mine"])
    assert go_on.is_set()  # it waited for the lock
    appending.join()
    other.refresh()
    assert list(other.entries(0, other.size)) == [b"theirs"]
    log.refresh()
    slow.close()


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
def test_the_compare_and_swap_holds_under_any_default_isolation(postgresql_server, database, storage, level):
    postgresql_server.execute(f"ALTER DATABASE {database} SET default_transaction_isolation = '{level}'")
    first = Log.create(storage, origin=ORIGIN, signer=SIGNER)
    second = Log.open(storage, signer=SIGNER)
    first.append([b"mine"])
    with pytest.raises(StateConflictError):
        second.append([b"theirs"])


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_can_lose_what_it_acknowledged_is_refused(postgresql_server, url, storage, setting):
    log = Log.create(storage, origin=ORIGIN, signer=SIGNER)
    log.append([b"first"])
    postgresql_server.configure(setting, "off")  # under a connection that is open
    try:
        with pytest.raises(NotDurableError) as caught:
            log.append([b"second"])
        assert setting in caught.value.public_message and setting in caught.value.remedy
        assert Log.open(storage).size == 1  # to read is no risk
    finally:
        postgresql_server.configure(setting, "on")
    log.append([b"second"])
    assert verify_url(url, events="skip").size == 2


def test_a_stronger_promise_than_ours_is_kept(postgresql_server, database, url):
    engine = open_engine(url)
    for found, kept in (("remote_apply", "remote_apply"), ("local", "on"), ("off", "on"), ("on", "on")):
        postgresql_server.execute(f"ALTER DATABASE {database} SET synchronous_commit = {found}")
        engine.dispose()
        with engine.connect().execution_options(ledger_write=True) as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == kept
    engine.dispose()


def test_a_server_that_stops_and_starts_costs_no_append(postgresql_server, url, storage):
    log = Log.create(storage, origin=ORIGIN, signer=SIGNER)
    postgresql_server.crash()
    with pytest.raises(StorageFailedError) as caught:
        log.append([b"lost"])
    assert caught.value.code == "ledger.storage.unreachable"
    with pytest.raises(StorageFailedError):
        verify_url(url)
    postgresql_server.restart()
    log.append([b"first"])
    postgresql_server.crash()
    postgresql_server.restart()
    log.append([b"second"])  # on a connection that broke while nobody looked
    assert list(log.entries(0, log.size)) == [b"first", b"second"]


def test_two_that_create_at_once_make_one_log(url):
    outcomes, start = [], threading.Barrier(4)

    def create():
        storage = PostgresqlStorage(url)
        start.wait()
        try:
            Log.create(storage, origin=ORIGIN, signer=SIGNER)
            outcomes.append("made")
        except StorageExistsError:
            outcomes.append("refused")
        storage.close()

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["made", "refused", "refused", "refused"]


def test_somebody_elses_tables_are_left_alone(postgresql_server, database, storage):
    postgresql_server.execute("CREATE TABLE log (message text)", database=database)
    for attempt in (lambda: Log.open(storage), lambda: Log.create(storage, origin=ORIGIN, signer=SIGNER)):
        with pytest.raises(StorageFailedError) as caught:
            attempt()
        assert caught.value.code == "ledger.storage.tables"


def test_a_schema_of_its_own_holds_a_log_of_its_own(postgresql_server, database, url):
    logs = []
    for name in ("one", "two"):
        postgresql_server.execute(f"CREATE SCHEMA {name}", database=database)
        storage = PostgresqlStorage(f"{url}&options=-csearch_path%3D{name}")
        logs.append(Log.create(storage, origin=f"ledger.example/{name}", signer=SIGNER))
        storage.close()
    assert [Log.open(log._storage).origin for log in logs] == ["ledger.example/one", "ledger.example/two"]
    with pytest.raises(StorageMissingError):
        Log.open(PostgresqlStorage(url))


def test_positions_beyond_32_bits_fit(storage):
    Log.create(storage, origin=ORIGIN, signer=SIGNER)
    with storage._engine.begin() as connection:
        storage._insert_entries(connection, 2**63 - 2, [b"last but one", b"last"])
    assert storage.entries(2**63 - 2, 2**63 - 1) == [b"last but one"]


# -- addresses and passwords -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("postgresql://user:hunter2@host/ledger", "password"),
        ("postgresql://user:@host/ledger", "password"),
        ("postgresql://user@host/ledger?password=hunter2", "options"),
        ("postgresql://user@host/ledger?sslpassword=hunter2", "options"),
        ("postgresql://user@host/ledger?passfile=hunter2", "options"),
        ("mysql://user:hunter2@host/ledger", "PostgreSQL"),
        ("sqlite:///hunter2", "PostgreSQL"),
        ("postgresql://user@host", "names no database"),
        ("postgresql://user@host:hunter2/ledger", "not the address"),
        ("hunter2", "not the address"),
        ("", "not the address"),
    ],
)
def test_addresses_that_are_refused_without_being_repeated(address, says):
    for refuse in (parse_url, PostgresqlStorage, verify_url):
        with pytest.raises(DatabaseUrlError) as caught:
            refuse(address)
        assert says in caught.value.public_message and caught.value.remedy
        assert "hunter2" not in f"{caught.value}{caught.value.diagnostics()}{caught.value!r}"


def test_a_password_comes_from_outside_and_goes_nowhere(
    postgresql_server, database, monkeypatch, caplog, capfd, tmp_path
):
    caplog.set_level(logging.DEBUG)
    guarded = postgresql_server.url(database, user=GUARDED)
    seen = []
    for password in ("wrong-battery-5562", PASSWORD):
        monkeypatch.setenv("PGPASSWORD", password)
        storage = PostgresqlStorage(guarded)
        seen += [repr(storage), repr(vars(storage)), repr(storage._engine), repr(storage._engine.url)]
        if password == PASSWORD:
            log = Log.create(storage, origin=ORIGIN, signer=SIGNER)
            log.append([b"first"])
            with pytest.raises(StateConflictError) as caught, storage._engine.connect() as connection:
                connection.exec_driver_sql("UPDATE log SET size = 5")
                connection.commit()
                log.append([b"second"])
        else:
            with pytest.raises(StorageFailedError) as caught:
                storage.load()
            assert caught.value.code == "ledger.storage.unreachable"
            assert "password" in caught.value.remedy
        seen += [str(caught.value), repr(caught.value), caught.value.diagnostics()]
        storage.close()
    everything = "".join([*seen, caplog.text, *capfd.readouterr()])
    assert PASSWORD not in everything and "wrong-battery-5562" not in everything
    # A file that libpq reads serves as well.
    monkeypatch.delenv("PGPASSWORD")
    (tmp_path / "passwords").write_text(f"*:*:*:{GUARDED}:{PASSWORD}\n")
    (tmp_path / "passwords").chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "passwords"))
    storage = PostgresqlStorage(guarded)
    assert storage.load() is not None
    storage.close()


# -- the verifier ------------------------------------------------------------------------------------------


def changes(value):
    """A modest number of other values of the same type."""
    if isinstance(value, int):
        return [value + 1, value - 1, value ^ 256]
    data = value if isinstance(value, bytes) else value.encode()
    places = {0, len(data) // 2, len(data) - 1}
    changed = [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in places] + [data[:-1], data + b"1"]
    return changed if isinstance(value, bytes) else [item.decode() for item in changed]


@pytest.mark.parametrize(
    ("table", "keys"), [("log", ["id"]), ("entries", ["idx"]), ("tiles", ["level", "n"])]
)
def test_every_column_changed_is_found(make_federation, postgresql_server, database, url, table, keys):
    federation = make_federation(PostgresqlStorage(url), names=())
    federation.grow(6)
    federation.storage.close()
    assert verify_url(url).size == 6
    survived, count = [], 0
    with postgresql_server.connect(database) as connection:
        cursor = connection.execute(f"SELECT * FROM {table}")  # noqa: S608 - three known tables
        columns = [column.name for column in cursor.description]
        for row in cursor.fetchall():
            where = " AND ".join(f"{key} = {row[columns.index(key)]}" for key in keys)
            for column, value in zip(columns, row, strict=True):
                for changed in changes(value):
                    try:
                        with connection.transaction():
                            update = f"UPDATE {table} SET {column} = %s WHERE {where}"  # noqa: S608
                            assert connection.execute(update, [changed]).rowcount == 1
                    except psycopg.IntegrityError:
                        continue
                    count += 1
                    try:
                        verify_url(url)
                        survived.append((table, column, changed))
                    except CodedError:
                        pass
                    back = where.replace(f"{column} = {value}", f"{column} = {changed}")
                    update = f"UPDATE {table} SET {column} = %s WHERE {back}"  # noqa: S608
                    assert connection.execute(update, [value]).rowcount == 1
    assert survived == [] and count >= 10
    assert verify_url(url).size == 6


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entries WHERE idx = 1",
        "INSERT INTO entries VALUES (6, '')",
        "INSERT INTO entries VALUES (-1, '')",
        "DELETE FROM tiles",
        "INSERT INTO tiles VALUES (9, 0, '')",
        "DELETE FROM log",
        "DROP TABLE tiles",
        "ALTER TABLE log ADD COLUMN note text",
        "ALTER TABLE entries ALTER COLUMN data TYPE text USING encode(data, 'hex')",
        "ALTER TABLE log ALTER COLUMN size TYPE text",
    ],
)
def test_rows_and_columns_that_are_not_a_ledgers(
    make_federation, postgresql_server, database, url, statement
):
    federation = make_federation(PostgresqlStorage(url), names=())
    federation.grow(6)
    federation.storage.close()
    postgresql_server.execute(statement, database=database)
    with pytest.raises(CodedError):
        verify_url(url)


def test_the_verifier_can_change_nothing(url):
    from ledger.postgresql import open_readonly_engine

    storage = PostgresqlStorage(url)
    Log.create(storage, origin=ORIGIN, signer=SIGNER)
    engine = open_readonly_engine(url)
    with engine.connect() as connection, pytest.raises(sa.exc.InternalError, match="read-only"):
        connection.exec_driver_sql("UPDATE log SET size = 1")
    engine.dispose()
    storage.close()
