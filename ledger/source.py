"""What lies at a path, and the tree of a log in whatever holds its files.

    folder                          a static export: `static_files.Folder`
    .zip, .tar, .tar.gz             one in a file: `ledger.archive`
    {"first":...                    evidence of equivocation: `ledger.equivocation`
    SQLite format 3, or else        a ledger's database: `ledger.verify_database`

Told apart by how a file begins, not by its name. What a federation's folders hold besides is not known here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ledger import checkpoint, equivocation, note
from ledger.archive import Archive, is_archive
from ledger.errors import InputError
from ledger.export import CHECKPOINT, VKEY
from ledger.log import Log
from ledger.proof import TlogProof
from ledger.reader import ReadRangeError, TileReader, VerifiedTree
from ledger.sqlite import SqliteStorage, open_readonly_engine
from ledger.static_files import Folder, StaticFiles
from ledger.verify import NoLedgerError
from ledger.verify_database import NoDatabaseError

Kind = Literal["folder", "archive", "evidence", "database"]
_EVIDENCE_BYTES = 4 << 20


class UnreadableFileError(InputError):
    code = "ledger.source.unreadable"


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
    """What to take a path for. A file of no known kind is a database, which then says what is wrong with it."""
    if not path.is_file():
        return "folder"
    try:
        if is_archive(path):
            return "archive"
        with path.open("rb") as file:
            return "evidence" if file.read(1) == b"{" else "database"
    except OSError as error:
        raise unreadable(path, error) from None


def static_files(path: Path) -> StaticFiles:
    """The files of a folder or an archive."""
    kind = kind_of(path)
    if kind == "archive":
        return Archive(path)
    if kind != "folder":
        raise NoLedgerError(
            "this file is no static export", remedy="Name a folder or an archive of one; `export` writes it."
        )
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
    if not path.is_file():
        raise NoDatabaseError("there is no ledger database of this name")
    storage = _ReadonlyStorage(path)
    try:
        yield Log.open(storage)
    finally:
        storage.close()


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
    """Write a new file; one that is there stays as it is."""
    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise UnreadableFileError(
            f"cannot write {path}: {os.strerror(error.errno or 0)}",
            remedy="Choose another name.",
            code="ledger.source.unwritable",
        ) from None


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
