"""A static export inside one file, read where it lies: .zip, .tar and .tar.gz, nothing is unpacked beside it.

    [any/leading/folders/]checkpoint, log.vkey, policy, tile/...      the one `checkpoint` says where the log is

An archive comes from somebody else, so every member is judged before any is read:

    ledger.archive.path         absolute, with "..", "\\", a drive, control characters or empty parts
    ledger.archive.member       a link, a device, a sparse or an encrypted member, an unknown compression
    ledger.archive.duplicate    two members of one name, or several checkpoints
    ledger.archive.bomb         too many members, too long headers, or it unpacks to far more than its size allows

A plain tar is read through an index of its members; a compressed one is decompressed once, into a temporary
file without a name; a zip member is decompressed when it is read, up to `static_files.byte_limit`. The formats
live in `ledger.archive_members`; how archives are written, in `ledger.archive_writer`.
"""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ledger.archive_members import (
    ArchiveDuplicateError,
    ArchiveError,
    Members,
    Tar,
    Zip,
    allowed_bytes,
    decompressed,
)
from ledger.export import CHECKPOINT
from ledger.static_files import OversizedFileError, StaticFiles, byte_limit

# What the libraries raise over bytes that are no archive; recursion, over headers about headers about headers.
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)


class Archive(StaticFiles):
    """The files of the log in an archive (`static_files.StaticFiles`). Any thread may read."""

    def __init__(self, path: Path) -> None:
        try:
            self._members = _opened(path)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else "it is damaged"
            raise ArchiveError(f"the archive cannot be read: {reason}") from None
        except _DAMAGED:
            raise ArchiveError(
                "the archive is damaged or cut short", remedy="Fetch it again, or pack it again with tar."
            ) from None
        roots = [name for name in self._members.names if name.rpartition("/")[2] == CHECKPOINT]
        if len(roots) != 1:
            self.close()
            if roots:
                raise ArchiveDuplicateError("the archive holds several checkpoints: which log is meant?")
            raise ArchiveError("the archive holds no checkpoint", remedy="Pack a static export of a ledger.")
        self._root = roots[0].removesuffix(CHECKPOINT)

    def read(self, path: str) -> bytes | None:
        name = self._root + path
        if name not in self._members.names:
            return None
        try:
            data = self._members.read(name, byte_limit(path))
        except (OSError, *_DAMAGED):
            raise ArchiveError(f"{path} is damaged in the archive") from None
        if data is None:
            raise OversizedFileError(path)
        return data

    def names(self, under: str) -> Iterator[str]:
        start = f"{self._root}{under}/"
        found = (name for name in self._members.names if name.startswith(start))
        return iter(sorted(name.removeprefix(self._root) for name in found))

    def expect(self, paths: Iterable[str]) -> None:
        """What is indexed needs no telling."""

    def close(self) -> None:
        self._members.close()


def is_archive(path: Path) -> bool:
    """Whether the file begins like one of the formats."""
    with path.open("rb") as file:
        head = file.read(512)
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"\x1f\x8b")) or _is_tar(path, head)


def _is_tar(path: Path, head: bytes) -> bool:
    return head[257:262] == b"ustar" or path.suffix == ".tar"


def _opened(path: Path) -> Members:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(512)
        if head.startswith(b"\x1f\x8b"):
            file.seek(0)
            return Tar(decompressed(file, allowed_bytes(size)), allowed_bytes(size))
    if head.startswith(b"PK"):
        return Zip(path, allowed_bytes(size))
    if _is_tar(path, head):
        return Tar(path.open("rb"), allowed_bytes(size))
    raise ArchiveError("neither .zip, .tar nor .tar.gz", remedy="Pack the static export as one of them.")
