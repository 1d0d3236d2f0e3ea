"""A log in a SQL database: what SQLite and PostgreSQL have in common, which is nearly everything.

    log      (id=1, origin TEXT, vkey TEXT, size BIGINT, root BLOB, checkpoint BLOB)      one row
    entries  (idx BIGINT PRIMARY KEY, data BLOB)                                          0 .. size-1
    tiles    (level INTEGER, n BIGINT, hashes BLOB, PRIMARY KEY (level, n))               derived

A batch is one transaction, and its first write compares and swaps the one row of `log`: whoever comes second
finds another row and stores nothing. Nothing here needs to be believed: `ledger.verify_database` recomputes
every column from the entries and the signed checkpoint.

How a database is opened, made durable and filled fastest lives in `ledger.sqlite` and `ledger.postgresql`;
what is stored, and when, is decided in `ledger.log`. SQLAlchemy Core only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import IntegrityError

from ledger.sql_failure import committing, translated
from ledger.storage import Batch, LogState, StateConflictError, StorageCorruptError, StorageExistsError
from ledger.tiles import TileName

# SQLite's INTEGER has 64 bits, and only a column of that very type is the row id itself.
_INT64 = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

metadata = sa.MetaData()
log_table = sa.Table(
    "log",
    metadata,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True, autoincrement=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("vkey", sa.Text, nullable=False),
    sa.Column("size", _INT64, nullable=False),
    sa.Column("root", sa.LargeBinary, nullable=False),
    sa.Column("checkpoint", sa.LargeBinary, nullable=False),
)
entries_table = sa.Table(
    "entries",
    metadata,
    sa.Column("idx", _INT64, primary_key=True, autoincrement=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
tiles_table = sa.Table(
    "tiles",
    metadata,
    sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("n", _INT64, primary_key=True, autoincrement=False),
    sa.Column("hashes", sa.LargeBinary, nullable=False),
)
# Built once: building it anew costs a tenth of an append.
_SWAP = (
    sa.update(log_table)
    .where(
        log_table.c.id == 1,
        log_table.c.size == sa.bindparam("expected_size"),
        log_table.c.root == sa.bindparam("expected_root"),
        log_table.c.origin == sa.bindparam("expected_origin"),
        log_table.c.checkpoint == sa.bindparam("expected_checkpoint"),
    )
    .values({name: sa.bindparam(name) for name in ("origin", "vkey", "size", "root", "checkpoint")})
)


class SqlStorage(ABC):
    """One log in one database; a dialect says how to insert. `writing` says what its engine must do."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def _create_alone(self, connection: Connection) -> None:
        """Keep others from making the tables now. Where a write transaction does that already, nothing is to do."""
        return

    @abstractmethod
    def _insert_entries(self, connection: Connection, first: int, entries: Sequence[bytes]) -> None:
        """Entries from index `first` on; none of them is there yet."""

    @abstractmethod
    def _upsert_tiles(self, connection: Connection, tiles: Mapping[TileName, bytes]) -> None:
        """Tiles that are new or replace a narrower one."""

    def load(self) -> LogState | None:
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
        with translated(), writing(self._engine) as connection:
            self._create_alone(connection)
            try:
                metadata.create_all(connection)
                connection.execute(sa.insert(log_table).values(id=1, **_columns(state)))
            except IntegrityError:
                raise StorageExistsError("a log exists here already") from None

    def commit(self, batch: Batch) -> None:
        """One transaction: compare and swap the state, insert the entries, replace the tiles."""
        expected = {
            f"expected_{name}": value for name, value in _columns(batch.expected).items() if name != "vkey"
        }
        with translated(), writing(self._engine) as connection:
            if connection.execute(_SWAP, {**expected, **_columns(batch.state)}).rowcount != 1:
                raise StateConflictError("the log moved on under another sequencer")
            if batch.entries:
                self._insert_entries(connection, batch.expected.size, batch.entries)
            if batch.tiles:
                self._upsert_tiles(connection, batch.tiles)

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
    def _reading(self) -> Iterator[Connection]:
        with translated(), self._engine.connect() as connection:
            yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that commits at the end of the block. An engine that is opened for a ledger sees the
    option `ledger_write` when it begins, and makes the transaction exclusive or durable as need be."""
    with engine.connect().execution_options(ledger_write=True) as connection:
        connection.begin()
        yield connection
        with committing():
            connection.commit()


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
