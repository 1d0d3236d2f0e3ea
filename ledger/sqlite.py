"""The SQLite store: the default. One file, WAL, every commit fsynced before it returns.

Tables, compare-and-swap and reading are `ledger.sql_storage`'s. Here: how the file is opened, and how rows go
in fastest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import QueuePool

from ledger.sql_storage import SqlStorage
from ledger.storage import LogState, StorageMissingError
from ledger.tiles import TileName

_BUSY_TIMEOUT_S = 30.0
_PAGE_BYTES = 16384  # of a new file: a batch of entries is fewer, larger writes
_INSERT = "INSERT INTO entries (idx, data) VALUES "
# Rows a statement: half of what single rows take, and no more with more of them.
_ROWS = 32
_UPSERT_TILE = (
    "INSERT INTO tiles (level, n, hashes) VALUES (?, ?, ?) "
    "ON CONFLICT (level, n) DO UPDATE SET hashes = excluded.hashes"
)


class SqliteStorage(SqlStorage):
    """One log in one SQLite file. `create` makes the file's tables; opening alone changes nothing."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise StorageMissingError("the ledger's folder does not exist")
        super().__init__(open_engine(self.path, page_bytes=_PAGE_BYTES))

    def load(self) -> LogState | None:
        return super().load() if self.path.exists() else None

    def _insert_entries(self, connection: Connection, first: int, entries: Sequence[bytes]) -> None:
        whole = len(entries) - len(entries) % _ROWS
        groups = [
            tuple(chain.from_iterable(enumerate(entries[at : at + _ROWS], first + at)))
            for at in range(0, whole, _ROWS)
        ]
        if groups:
            connection.exec_driver_sql(_INSERT + ", ".join(["(?, ?)"] * _ROWS), groups)
        rest = list(enumerate(entries[whole:], first + whole))
        if rest:
            connection.exec_driver_sql(_INSERT + "(?, ?)", rest)

    def _upsert_tiles(self, connection: Connection, tiles: Mapping[TileName, bytes]) -> None:
        connection.exec_driver_sql(_UPSERT_TILE, [(name.level, name.n, data) for name, data in tiles.items()])


def open_engine(path: Path, *, page_bytes: int = 4096) -> Engine:
    """An engine whose commits are durable and whose write transactions take the lock at once.

    `page_bytes` holds for a file that it makes; one that is there keeps its own.
    """
    engine = sa.create_engine(
        f"sqlite:///{path}",
        connect_args={"timeout": _BUSY_TIMEOUT_S, "isolation_level": None},
        hide_parameters=True,
    )

    @sa.event.listens_for(engine, "connect")
    def _durable(connection: sa.engine.interfaces.DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA page_size = {page_bytes:d}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("ledger_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def open_readonly_engine(path: Path) -> Engine:
    """An engine that changes nothing, not even beside the file; also for media that cannot be written.

    All that one connection reads is of one moment, whoever appends meanwhile.
    """
    frozen = not path.with_name(f"{path.name}-wal").exists()  # nobody has it open
    uri = f"file:{quote(str(path.absolute()))}?mode=ro" + ("&immutable=1" if frozen else "")
    engine = sa.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None),
        poolclass=QueuePool,
        hide_parameters=True,
    )

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine
