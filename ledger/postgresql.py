"""The PostgreSQL store: for a ledger that outgrew one file, or a site whose databases are one team's affair.

    postgresql://[user@][host][:port]/database[?option=value&…]

One log per database; more than one only in schemas of their own, each with its user whose `search_path` leads
there. Tables, compare-and-swap and reading are `ledger.sql_storage`'s; here: the address, durability, and how
rows go in fastest.

    password      never in the address, which is written in files and shown; libpq finds it: PGPASSFILE, PGPASSWORD
    isolation     READ COMMITTED: the compare-and-swap waits for the row's lock, then looks at the row anew
    durability    every write transaction sets `synchronous_commit` and refuses a server without `fsync` or
                  `full_page_writes`: both can be switched while it runs, and without the second a power cut
                  tears pages that hold rows acknowledged long ago
    time limits   a lock is waited for, and a silent sequencer's lock kept, for half a minute, as on SQLite
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import ArgumentError

from ledger.errors import InputError
from ledger.sql_storage import SqlStorage
from ledger.storage import StorageFailedError
from ledger.tiles import TileName

_DRIVER = "postgresql+psycopg"
_CONNECT_TIMEOUT_S = 10
# By allow-list, so that no spelling of a secret gets through.
_OPTIONS = frozenset(
    ("application_name", "channel_binding", "connect_timeout", "gssencmode", "host", "options", "port")
) | frozenset(
    ("require_auth", "service", "sslcert", "sslcrl", "sslkey", "sslmode", "sslrootcert", "tcp_user_timeout")
)
_CHUNK = 4096  # entries a statement: far below PostgreSQL's limit of 1 GiB a message
# `remote_apply` asks for more than `on`; every other value for less, or the same.
_SETTINGS = """
    SELECT current_setting('fsync'), current_setting('full_page_writes'),
           set_config('synchronous_commit',
                      CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply'
                      ELSE 'on' END, true),
           set_config('lock_timeout', '30s', true),
           set_config('idle_in_transaction_session_timeout', '30s', true)
"""
# One statement with arrays: as fast as COPY (within a tenth), and half of what `executemany` takes.
_INSERT_ENTRIES = """
    INSERT INTO entries (idx, data)
    SELECT %b::bigint + (place - 1), data FROM unnest(%b::bytea[]) WITH ORDINALITY AS given (data, place)
"""
_UPSERT_TILES = """
    INSERT INTO tiles (level, n, hashes) SELECT * FROM unnest(%b::integer[], %b::bigint[], %b::bytea[])
    ON CONFLICT (level, n) DO UPDATE SET hashes = excluded.hashes
"""


class DatabaseUrlError(InputError):
    code = "ledger.storage.url"


class NotDurableError(StorageFailedError):
    code = "ledger.storage.not-durable"


class PostgresqlStorage(SqlStorage):
    """One log in one database. `create` makes its tables; the database itself must be there."""

    def __init__(self, url: str) -> None:
        super().__init__(open_engine(url))

    def _create_alone(self, connection: Connection) -> None:
        # CREATE TABLE of two at once fails in the catalogue, whichever words it uses.
        connection.execute(
            sa.text("SELECT pg_advisory_xact_lock(hashtext('wardround ledger ' || current_schema()))")
        )

    def _insert_entries(self, connection: Connection, first: int, entries: Sequence[bytes]) -> None:
        for start in range(0, len(entries), _CHUNK):
            chunk = list(entries[start : start + _CHUNK])
            connection.exec_driver_sql(_INSERT_ENTRIES, (first + start, chunk))

    def _upsert_tiles(self, connection: Connection, tiles: Mapping[TileName, bytes]) -> None:
        names = list(tiles)
        columns = [name.level for name in names], [name.n for name in names], [tiles[name] for name in names]
        connection.exec_driver_sql(_UPSERT_TILES, columns)


def parse_url(text: str) -> URL:
    """The address of a ledger's database, or DatabaseUrlError, which never repeats any of it."""
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):
        raise DatabaseUrlError(
            "this is not the address of a database", remedy="Write postgresql://user@host/database."
        ) from None
    if url.drivername not in ("postgresql", _DRIVER):
        raise DatabaseUrlError(
            "the address is not that of a PostgreSQL database",
            remedy="Write postgresql://user@host/database; without an address the ledger is a SQLite file.",
        )
    if url.password is not None:
        raise DatabaseUrlError(
            "the address holds a password",
            remedy="Take it out; put it in a file that PGPASSFILE names, or in PGPASSWORD.",
        )
    if not url.database and "service" not in url.query:
        raise DatabaseUrlError(
            "the address names no database", remedy="Write postgresql://user@host/database."
        )
    if not url.query.keys() <= _OPTIONS:
        raise DatabaseUrlError(
            "the address holds options that a ledger does not take",
            remedy=f"After the question mark these may stand: {', '.join(sorted(_OPTIONS))}.",
        )
    return url.set(drivername=_DRIVER)


def open_engine(url: str) -> Engine:
    """An engine whose write transactions are durable, or refused."""
    engine = _engine(url, isolation_level="READ COMMITTED")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if not connection.get_execution_options().get("ledger_write", False):
            return
        fsync, full_page_writes, *_ = connection.exec_driver_sql(_SETTINGS).one()
        for setting, value in (("fsync", fsync), ("full_page_writes", full_page_writes)):
            if value != "on":
                raise NotDurableError(
                    f"the ledger's PostgreSQL server runs with {setting} = {value}: it can lose what it"
                    " acknowledged",
                    remedy=f"Set {setting} = on in its postgresql.conf and reload it. Nothing was stored.",
                )

    return engine


def open_readonly_engine(url: str) -> Engine:
    """An engine that changes nothing. All that one connection reads is of one moment."""
    return _engine(url, isolation_level="REPEATABLE READ").execution_options(postgresql_readonly=True)


def _engine(url: str, *, isolation_level: str) -> Engine:
    parsed = parse_url(url)
    limits = {} if "connect_timeout" in parsed.query else {"connect_timeout": _CONNECT_TIMEOUT_S}
    return sa.create_engine(
        parsed,
        isolation_level=isolation_level,
        connect_args={"client_encoding": "utf8", **limits},
        pool_pre_ping=True,  # a server that was restarted meanwhile costs no failed append
        hide_parameters=True,
    )
