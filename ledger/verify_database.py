"""Verification of a ledger's database, SQLite file or PostgreSQL: every column is recomputed or signed.

     1 state         one row; its columns have their types and the log key parses
     2 signature     the log key signed the checkpoint, which says the row's origin, size and root
     3 entries       rows 0 .. size-1 and no others, each at most 65,535 bytes
     4 tiles         exactly the rows that the entries hash to, with exactly those hashes
     5 root          the entries lead to the signed root
     6 events        every entry is an event, signed by its institution, in sequence (`ledger.chain`)

The log key in the file itself is trusted on first use unless the caller gives one. A file that was rolled
back as a whole is a valid, older ledger: compare its size with a checkpoint seen elsewhere (`Log.open`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from ledger import checkpoint, note, postgresql, sqlite, tiles, tree
from ledger.chain import EventChain
from ledger.errors import InputError
from ledger.event import check_entry_size
from ledger.note import VerifierKey
from ledger.report import Checklist, Mismatch, Report
from ledger.sql_failure import translated
from ledger.sql_storage import entries_table, log_table, metadata, tiles_table
from ledger.tile_tree import TileTree

_CHUNK = 256


class NoDatabaseError(InputError):
    code = "ledger.verify.no-database"


def verify_database(
    path: Path,
    *,
    log_vkey: VerifierKey | str | None = None,
    events: Literal["require", "skip"] = "require",
) -> Report:
    """Return the report if every check passed, else raise VerificationFailedError that carries it."""
    if not path.is_file():
        raise NoDatabaseError(f"there is no ledger database {path}")
    engine = sqlite.open_readonly_engine(path)
    try:
        return verify_engine(engine, log_vkey=log_vkey, events=events)
    finally:
        engine.dispose()


def verify_url(
    url: str,
    *,
    log_vkey: VerifierKey | str | None = None,
    events: Literal["require", "skip"] = "require",
) -> Report:
    """The same for a PostgreSQL database by its address (`ledger.postgresql`), which a reader may do."""
    engine = postgresql.open_readonly_engine(url)
    try:
        return verify_engine(engine, log_vkey=log_vkey, events=events)
    finally:
        engine.dispose()


def verify_engine(
    engine: Engine,
    *,
    log_vkey: VerifierKey | str | None = None,
    events: Literal["require", "skip"] = "require",
) -> Report:
    """The same over an open read-only engine, which stays open."""
    run = Checklist()
    with translated(), engine.connect() as connection:  # one transaction: a sequencer may append meanwhile
        with run.check("database", "the database is a ledger's"), translated():
            _schema(connection)
        _database(run, connection, log_vkey, events)
    return run.report


def _schema(connection: Connection) -> None:
    found = sa.inspect(connection)
    for table in metadata.sorted_tables:
        if not found.has_table(table.name):
            raise Mismatch(f"the table {table.name} is missing")
        if [column["name"] for column in found.get_columns(table.name)] != [c.name for c in table.columns]:
            raise Mismatch(f"the table {table.name} has other columns")


def _database(
    run: Checklist, connection: Connection, log_vkey: VerifierKey | str | None, events: str
) -> None:
    report = run.report
    with run.check("state", "the state is one well-typed row") as details, translated():
        rows = connection.execute(sa.select(log_table)).all()
        if len(rows) != 1 or rows[0].id != 1:
            raise Mismatch("the log has not exactly one state row")
        row = rows[0]
        for column in log_table.columns:
            if type(getattr(row, column.name)) is not column.type.python_type:
                raise Mismatch(f"column {column.name} has the wrong type")
        key = note.parse_vkey(row.vkey)
        if log_vkey is None:
            report.trusted_on_first_use = True
        elif str(log_vkey) != row.vkey:
            raise Mismatch("the database names another log key than the one given")
        details.append(f"log key {key}")
    with run.check("signature", "the log key signed the state") as details:
        head = checkpoint.verify(row.checkpoint, key)
        if (head.origin, head.size, head.root) != (row.origin, row.size, row.root):
            raise Mismatch("the state is not what the checkpoint says")
        if (
            checkpoint.parse(row.checkpoint)[1].encode() != row.checkpoint
            or len(checkpoint.parse(row.checkpoint)[1].signatures) != 1
        ):
            raise Mismatch("the stored checkpoint carries more than the log's signature")
        report.origin, report.size, report.root = head.origin, head.size, head.root
        details.append(f"{head.origin}, size {head.size}, root {head.root.hex()}")
    grown, chain, problem = TileTree(), EventChain(head.origin), None
    expected_tiles = 0
    with run.check("entries", "entries 0 to size-1 and no others") as details, translated():
        mismatch: Mismatch | None = None
        for start, chunk in _chunks(connection, head.size):
            changed = grown.extend(tree.leaf_hashes(chunk))
            for name, data in changed.items():
                final = name.start + name.width == tiles.level_size(head.size, name.level or 0)
                if mismatch is None and (name.width == tiles.WIDTH or final):
                    expected_tiles += 1
                    mismatch = _compare(connection, name, data)
            for index, entry in enumerate(chunk, start):
                if events == "require" and problem is None and mismatch is None:
                    problem = _advance(chain, index, entry)
        details.append(f"{head.size} entries")
    with run.check("tiles", "every tile equals the recomputed one"), translated():
        if mismatch is not None:
            raise mismatch
        count = connection.scalar(sa.select(sa.func.count()).select_from(tiles_table))
        if count != expected_tiles:
            raise Mismatch(f"there are {count} tiles where {expected_tiles} belong")
    with run.check("root", "the entries lead to the root"):
        if grown.root() != head.root:
            raise Mismatch("the root of the entries is not the checkpoint's")
    title = "every event is signed by its institution, in sequence"
    if events == "skip":
        run.skip("events", title, "asked to skip")
        return
    with run.check("events", title) as details:
        if problem is not None:
            raise problem
        details.append(f"{len(chain.members)} members")


def _chunks(connection: Connection, size: int) -> Iterator[tuple[int, list[bytes]]]:
    """Entries in order, 256 at a time; a gap, a stray row or a wrong type raises."""
    outside = sa.select(sa.func.count()).where(sa.or_(entries_table.c.idx < 0, entries_table.c.idx >= size))
    if connection.scalar(outside):
        raise Mismatch("there are entries outside the log's size")
    for start in range(0, size, _CHUNK):
        end = min(start + _CHUNK, size)
        query = sa.select(entries_table).where(entries_table.c.idx >= start, entries_table.c.idx < end)
        rows = connection.execute(query.order_by(entries_table.c.idx)).all()
        for offset in range(end - start):
            if offset >= len(rows) or rows[offset].idx != start + offset:
                raise Mismatch("an entry is missing", index=start + offset)
            if not isinstance(rows[offset].data, bytes):
                raise Mismatch("an entry is not bytes", index=start + offset)
            check_entry_size(rows[offset].data)
        yield start, [row.data for row in rows]


def _compare(connection: Connection, name: tiles.TileName, data: bytes) -> Mismatch | None:
    query = sa.select(tiles_table.c.hashes).where(
        tiles_table.c.level == name.level, tiles_table.c.n == name.n
    )
    found = connection.scalars(query).all()
    if found != [data]:
        what = "is not what the entries hash to" if found else "is missing"
        return Mismatch(f"tile {name.n} of level {name.level} {what}", index=name.n)
    return None


def _advance(chain: EventChain, index: int, entry: bytes) -> Exception | None:
    try:
        chain.advance(index, entry)
    except Exception as error:
        return error
    return None
