"""What lies at a path, and the tree of a log in whatever holds its files.

    folder                          a static export: `static_files.Folder`
    .zip, .tar, .tar.gz             one in a file: `ledger.archive`
    {"first":...                    evidence of equivocation: `ledger.equivocation`
    SQLite format 3                 a ledger's database: `ledger.verify_database`

Told apart by how a file begins, not by its name. What a federation's folders hold besides is not known here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import sqlalchemy as sa

from ledger import checkpoint, equivocation, note
from ledger.archive import Archive, is_archive
from ledger.errors import InputError
from ledger.export import CHECKPOINT, VKEY
from ledger.log import Log
from ledger.proof import TlogProof
from ledger.reader import ReadRangeError, TileReader, VerifiedTree
from ledger.sql_storage import metadata
from ledger.sqlite import SqliteStorage, open_readonly_engine
from ledger.static_files import Folder, StaticFiles
from ledger.storage import StorageCorruptError
from ledger.verify import NoLedgerError
from ledger.verify_database import NoDatabaseError

Kind = Literal["folder", "archive", "evidence", "database"]
_EVIDENCE_BYTES = 4 << 20
_MAGIC = b"SQLite format 3\0"
_URL = re.compile(r"(https?|postgresql(\+psycopg)?):/")


class UnreadableFileError(InputError):
    code = "ledger.source.unreadable"


class UnknownFileError(InputError):
    """Says nothing of any log, so it is not called damage."""

    code = "ledger.source.unknown"


class UnwritableFileError(InputError):
    code = "ledger.source.unwritable"


@dataclass(frozen=True, slots=True)
class OpenedLog:
    """A log's tree under the checkpoint that lies there, whose note travels with every proof."""

    tree: VerifiedTree
    note: bytes

    def prove(self, index: int) -> tuple[TlogProof, bytes]:
        """The proof of one entry, and the entry."""
        if not 0 <= index < self.tree.size:
            raise ReadRangeError(f"there is no entry {index}: the ledger has {self.tree.size}, from 0")
        return TlogProof(index, self.tree.inclusion_proof(index), self.note), self.tree.entry(index)


def kind_of(path: Path) -> Kind:
    """What to take a path for; "folder" also if nothing is there. UnknownFileError for a file of no known kind."""
    refuse_url(path)
    try:
        if not path.is_file():
            return "folder"
        if is_archive(path):
            return "archive"
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except OSError as error:
        raise unreadable(path, error) from None
    if head == _MAGIC:
        return "database"
    if head.startswith(b"{"):
        return "evidence"
    raise UnknownFileError(f"{path} is not a ledger database, an archive or evidence")


def static_files(path: Path) -> StaticFiles:
    """The files of a folder or an archive."""
    kind = kind_of(path)
    if kind == "archive":
        return Archive(path)
    if kind != "folder":
        raise NoLedgerError(
            f"{path} is no static export", remedy="Name a folder or an archive of one; `export` writes it."
        )
    try:
        if not (path / CHECKPOINT).exists():
            why = "holds no checkpoint" if path.exists() else "does not exist"
            raise NoLedgerError(f"{path} {why}", remedy="Name a static export of a ledger.")
    except OSError as error:
        raise unreadable(path, error) from None
    return Folder(path)


def opened(files: StaticFiles) -> OpenedLog:
    """The tree of the log in these files. Its other signatures are `verify`'s affair."""
    data = files.read(CHECKPOINT)
    if data is None:
        raise NoLedgerError("there is no checkpoint here", remedy="Name a static export of a ledger.")
    vkey = files.read(VKEY)
    if vkey is None:
        head, _ = checkpoint.parse(data)
    else:
        head = checkpoint.verify(data, note.parse_vkey_line(vkey))
    return OpenedLog(TileReader(files.read).at_checkpoint(head), data)


@contextmanager
def readonly_log(path: Path) -> Iterator[Log]:
    """The log in a SQLite file, which is not changed; also on media that cannot be written."""
    require_database(path)
    storage = _ReadonlyStorage(path)
    try:
        try:
            log = Log.open(storage)
        except StorageCorruptError as error:
            raise StorageCorruptError(
                f"{path}: {error.public_message}", diagnostics=error.diagnostics()
            ) from None
        yield log
    finally:
        storage.close()


def require_sqlite(path: Path) -> None:
    """Raise unless the file begins like a database; if more of it is wrong, it is damaged."""
    refuse_url(path)
    try:
        if not path.is_file():
            raise NoDatabaseError(f"there is no database {path}")
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except OSError as error:
        raise unreadable(path, error) from None
    if head != _MAGIC:
        raise UnknownFileError(f"{path} is no database")


def require_database(path: Path) -> None:
    """Raise unless this is a database with any of a ledger's tables. One that lacks a few is damaged."""
    require_sqlite(path)
    engine = open_readonly_engine(path)
    try:
        with engine.connect() as connection:
            inspected = sa.inspect(connection)
            found = any(inspected.has_table(table) for table in metadata.tables)
    except sa.exc.SQLAlchemyError:
        return  # damaged: whoever reads it next finds out how
    finally:
        engine.dispose()
    if not found:
        raise UnknownFileError(f"{path} is a database, but not of a ledger")


def refuse_url(path: Path) -> None:
    """What was given as a path may be an address, of which `Path` has kept one slash."""
    if _URL.match(str(path)):
        raise InputError(
            f"{path.parts[0]}//… is an address, and this command reads files alone",
            remedy="Use `wardround ledger`, which reads addresses too.",
            code="ledger.source.url",
        )


class _ReadonlyStorage(SqliteStorage):
    """The same rows through an engine that changes nothing, not even beside the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = open_readonly_engine(path)


def read_file(path: Path, *, limit: int = _EVIDENCE_BYTES) -> bytes:
    """A small file that was named on a command line: a policy, a proof, an entry."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise unreadable(path, error) from None
    if len(data) > limit:
        raise UnreadableFileError(f"{path} is too large for what it should be")
    return data


def write_file(path: Path, data: bytes) -> None:
    """Write a new file, whole or not at all; one that is there stays as it is."""
    try:
        with path.open("xb") as file:
            try:
                file.write(data)
                file.flush()
            except OSError:
                path.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise unwritable(path, error) from None


def write_files(files: Sequence[tuple[Path, bytes]]) -> None:
    """Write several new files, or none of them."""
    if len({path.resolve() for path, _ in files}) < len(files):
        raise UnwritableFileError(
            f"{files[0][0]} cannot hold two files at once", remedy="Give each a name of its own."
        )
    written: list[Path] = []
    try:
        for path, data in files:
            write_file(path, data)
            written.append(path)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def verify_evidence(path: Path, vkey: str) -> str:
    """Return in words what the evidence proves of the key's holder, or raise."""
    found = equivocation.parse(read_file(path))
    found.verify(note.parse_vkey(vkey))
    sizes = [checkpoint.parse(data)[0].size for data in (found.first, found.second)]
    return (
        "proven: the log key signed two checkpoints that contradict each other, of sizes "
        f"{sizes[0]} and {sizes[1]}"
    )


def unreadable(path: Path, error: OSError) -> UnreadableFileError:
    return UnreadableFileError(f"{path} cannot be read: {os.strerror(error.errno or 0)}")


def unwritable(path: Path, error: OSError) -> UnwritableFileError:
    reason = os.strerror(error.errno or 0)
    return UnwritableFileError(f"cannot write {path}: {reason}", remedy="Choose another name.")
