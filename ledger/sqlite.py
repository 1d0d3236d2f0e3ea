"""The SQLite store: the default. One file, WAL, every commit fsynced before it returns.

    log      (id=1, origin TEXT, vkey TEXT, size INTEGER, root BLOB, checkpoint BLOB)     one row
    entries  (idx INTEGER PRIMARY KEY, data BLOB)                                         0 .. size-1
    tiles    (level INTEGER, n INTEGER, hashes BLOB, PRIMARY KEY (level, n))              derived

Nothing in it needs to be believed: `ledger.verify.verify_database` recomputes every column from the entries
and the signed checkpoint. SQLAlchemy Core only; what is stored, and when, is decided in `ledger.log`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DatabaseError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from ledger.storage import (
    Batch,
    LogState,
    StateConflictError,
    StorageCorruptError,
    StorageExistsError,
    StorageFailedError,
    StorageMissingError,
)

_BUSY_TIMEOUT_S = 30.0

metadata = sa.MetaData()
log_table = sa.Table(
    "log",
    metadata,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("vkey", sa.Text, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("root", sa.LargeBinary, nullable=False),
    sa.Column("checkpoint", sa.LargeBinary, nullable=False),
)
entries_table = sa.Table(
    "entries",
    metadata,
    sa.Column("idx", sa.Integer, primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
tiles_table = sa.Table(
    "tiles",
    metadata,
    sa.Column("level", sa.Integer, primary_key=True),
    sa.Column("n", sa.Integer, primary_key=True),
    sa.Column("hashes", sa.LargeBinary, nullable=False),
)
_INSERT_ENTRY = "INSERT INTO entries (idx, data) VALUES (?, ?)"
_UPSERT_TILE = (
    "INSERT INTO tiles (level, n, hashes) VALUES (?, ?, ?) "
    "ON CONFLICT (level, n) DO UPDATE SET hashes = excluded.hashes"
)


class SqliteStorage:
    """One log in one SQLite file. `create` makes the file's tables; opening alone changes nothing."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise StorageMissingError("the ledger's folder does not exist")
        self._engine = open_engine(self.path)

    def load(self) -> LogState | None:
        if not self.path.exists():
            return None
        with self._reading() as connection:
            if not sa.inspect(connection).has_table("log"):
                return None
            row = connection.execute(sa.select(log_table)).one_or_none()
        if row is None:
            return None
        state = LogState(row.origin, row.vkey, row.size, row.root, row.checkpoint)
        if not (
            isinstance(state.origin, str)
            and isinstance(state.vkey, str)
            and isinstance(state.size, int)
            and isinstance(state.root, bytes)
            and isinstance(state.checkpoint, bytes)
        ):
            raise StorageCorruptError("a column of the log's state has the wrong type")
        return state

    def create(self, state: LogState) -> None:
        with self._writing() as connection:
            metadata.create_all(connection)
            try:
                connection.execute(sa.insert(log_table).values(id=1, **_columns(state)))
            except IntegrityError:
                raise StorageExistsError("a log exists here already") from None

    def commit(self, batch: Batch) -> None:
        """One transaction: compare and swap the state, insert the entries, replace the tiles."""
        expected = batch.expected
        swap = (
            sa.update(log_table)
            .where(
                log_table.c.id == 1,
                log_table.c.size == expected.size,
                log_table.c.root == expected.root,
                log_table.c.origin == expected.origin,
                log_table.c.checkpoint == expected.checkpoint,
            )
            .values(**_columns(batch.state))
        )
        rows = list(enumerate(batch.entries, expected.size))
        tiles = [(name.level, name.n, data) for name, data in batch.tiles.items()]
        with self._writing() as connection:
            if connection.execute(swap).rowcount != 1:
                raise StateConflictError("the log moved on under another sequencer")
            if rows:
                connection.exec_driver_sql(_INSERT_ENTRY, rows)
            if tiles:
                connection.exec_driver_sql(_UPSERT_TILE, tiles)

    def entries(self, start: int, end: int) -> list[bytes]:
        query = sa.select(entries_table.c.data).where(entries_table.c.idx >= start, entries_table.c.idx < end)
        with self._reading() as connection:
            return [_blob(data) for data in connection.scalars(query.order_by(entries_table.c.idx))]

    def tile(self, level: int, n: int) -> bytes:
        query = sa.select(tiles_table.c.hashes).where(tiles_table.c.level == level, tiles_table.c.n == n)
        with self._reading() as connection:
            found = connection.scalars(query).one_or_none()
        return b"" if found is None else _blob(found)

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with translated(), writing(self._engine) as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translated(), self._engine.connect() as connection:
            yield connection


def open_engine(path: Path) -> Engine:
    """An engine whose commits are durable and whose write transactions take the lock at once."""
    engine = sa.create_engine(
        f"sqlite:///{path}", connect_args={"timeout": _BUSY_TIMEOUT_S, "isolation_level": None}
    )

    @sa.event.listens_for(engine, "connect")
    def _durable(connection: sa.engine.interfaces.DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("ledger_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def open_readonly_engine(path: Path) -> Engine:
    """An engine that changes nothing, not even beside the file; also for media that cannot be written."""
    frozen = not path.with_name(f"{path.name}-wal").exists()  # nobody has it open
    uri = f"file:{quote(str(path.absolute()))}?mode=ro" + ("&immutable=1" if frozen else "")
    return sa.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S),
        poolclass=QueuePool,
    )


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that holds the write lock from its first statement on."""
    with engine.connect().execution_options(ledger_write=True) as connection, connection.begin():
        yield connection


@contextmanager
def translated() -> Iterator[None]:
    """Turn the database's errors into ours; its texts may hold paths and stay in the diagnostics."""
    try:
        yield
    except SQLAlchemyError as error:
        text = str(error)
        if isinstance(error, DatabaseError) and ("malformed" in text or "not a database" in text):
            raise StorageCorruptError("the ledger database is damaged", diagnostics=text) from None
        raise StorageFailedError(
            "the ledger database did not store or return the data",
            remedy="Check the disk, then try again: nothing was acknowledged.",
            diagnostics=text,
        ) from None


def _columns(state: LogState) -> dict[str, str | int | bytes]:
    return {
        "origin": state.origin,
        "vkey": state.vkey,
        "size": state.size,
        "root": state.root,
        "checkpoint": state.checkpoint,
    }


def _blob(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise StorageCorruptError("a stored value is not bytes")
    return value
