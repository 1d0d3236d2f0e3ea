"""Every byte of everything that is stored, flipped one at a time: verification refuses each."""

from __future__ import annotations

import sqlite3

import pytest

from ledger import checkpoint
from ledger.checkpoint import Checkpoint
from ledger.errors import CodedError
from ledger.export import export
from ledger.sqlite import SqliteStorage, open_readonly_engine
from ledger.verify import verify_database, verify_directory
from ledger.verify_database import verify_engine

SITES = ("site-a",)  # with the coordinator: two members, one witness; every byte counts


@pytest.fixture
def small(make_federation, tmp_path):
    federation = make_federation(SqliteStorage(tmp_path / "ledger.db"), names=SITES)
    federation.grow(2)
    note = federation.cosign()
    yield federation, note
    federation.storage.close()


@pytest.mark.parametrize("files", ["checkpoint", "log.vkey", "policy", "tile"])
def test_every_byte_of_every_exported_file(small, tmp_path, files):
    federation, note = small
    directory = tmp_path / "x"
    federation_policy = federation.policy
    export(federation.log, directory, note, policy=federation_policy)
    verify_directory(directory)
    survived, count = [], 0
    assert {item.name for item in directory.iterdir()} == {"checkpoint", "log.vkey", "policy", "tile"}
    for path in [directory / files] if files != "tile" else list((directory / files).rglob("*/*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        for at in range(len(data)):
            mask = 1 << at % 8
            path.write_bytes(data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :])
            count += 1
            try:
                verify_directory(directory)
            except CodedError:
                continue
            survived.append((path.name, at))
        path.write_bytes(data)
    assert survived == [] and count > 60
    verify_directory(directory)


def test_every_file_removed_or_emptied(small, tmp_path):
    federation, note = small
    directory = tmp_path / "x"
    export(federation.log, directory, note, policy=federation.policy)
    for path in sorted(item for item in directory.rglob("*") if item.is_file()):
        data = path.read_bytes()
        path.write_bytes(b"")
        with pytest.raises(CodedError):
            verify_directory(directory)
        path.unlink()
        if path.name not in ("policy", "log.vkey"):  # without them the caller's keys, or none, are used
            with pytest.raises(CodedError):
                verify_directory(directory)
        path.write_bytes(data)


@pytest.mark.parametrize(("table", "key"), [("log", "id"), ("entries", "idx"), ("tiles", "rowid")])
def test_every_byte_of_every_database_column(make_federation, tmp_path, table, key):
    path = tmp_path / "ledger.db"
    federation = make_federation(SqliteStorage(path), names=())
    federation.log.append([federation.founding(), federation.coordinator.event("x.y")])
    federation.storage.close()
    assert verify_database(path).size == 2
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("UPDATE log SET size = 0")
    engine = open_readonly_engine(path)
    with pytest.raises(CodedError):
        verify_engine(engine)
    connection.execute("UPDATE log SET size = 2")
    verify_engine(engine)
    survived, count = [], 0
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    update = f"UPDATE {table} SET {{column}} = ? WHERE {key} = ?"  # noqa: S608 - three known tables
    select = f"SELECT {key}, * FROM {table}"  # noqa: S608
    for rowid, *row in connection.execute(select).fetchall():
        for column, value in zip(columns, row, strict=True):
            for altered in _alterations(value):
                try:
                    connection.execute(update.format(column=column), (altered, rowid))
                except sqlite3.IntegrityError:
                    continue
                count += 1
                try:
                    verify_engine(engine)
                except CodedError:
                    pass
                else:
                    survived.append((table, column, rowid, altered))
                where = altered if column == key else rowid
                connection.execute(update.format(column=column), (value, where))
    connection.close()
    engine.dispose()
    assert survived == [] and count > 60
    verify_database(path)


def _alterations(value):
    """Every byte flipped; integers and types changed."""
    if isinstance(value, int):
        return [value + 1, value - 1, value ^ 256, str(value) + "x", None, value + 0.5]
    data = value if isinstance(value, bytes) else value.encode()
    flipped = [data[:at] + bytes([data[at] ^ (1 << at % 7)]) + data[at + 1 :] for at in range(len(data))]
    flipped += [data + b"\0", data[:-1], b""]
    if isinstance(value, bytes):
        return [*flipped, value.decode("latin-1"), None]
    return [*(item.decode("latin-1") for item in flipped), data, None]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM entries WHERE idx = 0",
        "DELETE FROM entries WHERE idx = 1",
        "INSERT INTO entries VALUES (2, x'00')",
        "INSERT INTO entries VALUES (-1, x'00')",
        "DELETE FROM tiles",
        "INSERT INTO tiles VALUES (0, 1, x'00')",
        "INSERT INTO tiles VALUES (9, 0, x'')",
        "DELETE FROM log",
        "DROP TABLE tiles",
        "ALTER TABLE log ADD COLUMN note TEXT",
    ],
)
def test_rows_that_are_missing_or_too_many(small, tmp_path, statement):
    federation, _ = small
    federation.storage.close()
    connection = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    connection.execute(statement)
    connection.close()
    with pytest.raises(CodedError):
        verify_database(tmp_path / "ledger.db")


def test_other_files_are_no_database(tmp_path):
    for name, data in (("none.db", None), ("text.db", b"hello" * 500), ("empty.db", b"")):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(CodedError):
            verify_database(tmp_path / name)


def test_verifying_changes_nothing(small, tmp_path):
    federation, _ = small
    federation.storage.close()
    before = {path.name: path.read_bytes() for path in tmp_path.glob("ledger.db*")}
    tmp_path.chmod(0o500)
    try:
        assert verify_database(tmp_path / "ledger.db").size == 2
    finally:
        tmp_path.chmod(0o700)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("ledger.db*")} == before


def test_a_signed_root_that_is_not_the_entries(small, tmp_path):
    """Even the holder of the log key cannot make a database that says one thing and holds another."""
    federation, _ = small
    federation.storage.close()
    signed = checkpoint.sign(Checkpoint(federation.log.origin, 2, bytes(32)), federation.log_signer)
    connection = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    connection.execute("UPDATE log SET root = ?, checkpoint = ?", (bytes(32), signed))
    connection.close()
    with pytest.raises(CodedError) as caught:
        verify_database(tmp_path / "ledger.db")
    assert caught.value.code == "ledger.verify.root"
