"""The one file of an evidence package: a zip of which there is exactly one spelling.

    every member     stored, not compressed; 1980-01-01 00:00, regular file of mode 0644, no extra field, no comment
    their order      sorted by name
    the archive      local headers with their contents, the central directory, its end record: nothing before,
                     between or after them, and no zip64 (so at most 4 GiB and 65,535 members)

Any unzip reads it. Whoever packs the same files gets the same bytes on every machine, and a reader refuses every
other spelling: hidden, doubled, compressed or renamed members have no place to be. Names, sizes and numbers of
members are judged by `ledger.archive_members` before one is read. What the files mean is `evidence_package`'s affair.
Format: PKWARE's APPNOTE.TXT, 4.3.7, 4.3.12 and 4.3.16.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from types import TracebackType
from typing import Self

from ledger.archive_members import ArchiveError, ArchiveMemberError, Zip, allowed_bytes
from ledger.errors import InputError

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_VERSION, _ON_UNIX, _1980 = 20, 3 << 8, 1 << 5 | 1
_MODE = 0o100644 << 16
_MAX_MEMBERS = 0xFFFF
_MAX_BYTES = 0xFFFFFFFF
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OSError)


class PackageTooLargeError(InputError):
    code = "ledger.package.too-large"


class PackageNameError(InputError):
    code = "ledger.package.name"


def pack(files: Mapping[str, bytes]) -> bytes:
    """The one zip of these files, whose names are ASCII; PackageTooLargeError beyond what it can hold."""
    sizes = {name: (len(data), zlib.crc32(data)) for name, data in files.items()}
    parts: list[bytes] = []
    for piece in _layout(sizes):
        parts.append(files[piece] if isinstance(piece, str) else piece)
    return b"".join(parts)


class PackedFiles:
    """The members of a package's zip, whose names and form were judged; their contents were not."""

    def __init__(self, path: Path) -> None:
        """ArchiveError or one of its siblings if the file is not exactly what `pack` writes; OSError."""
        size = path.stat().st_size
        try:
            self._zip = Zip(path, allowed_bytes(size))
        except _DAMAGED as error:
            if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
                raise
            raise ArchiveError("the package is damaged or cut short", remedy="Fetch it again.") from None
        try:
            _require_one_spelling(path, set(self._zip.names))
        except BaseException:
            self._zip.close()
            raise
        self.names: tuple[str, ...] = tuple(sorted(self._zip.names))
        """Every member, sorted."""

    def read(self, name: str) -> bytes:
        """A member's bytes; its name is one of `names`."""
        try:
            data = self._zip.read(name, _MAX_BYTES)
        except _DAMAGED:
            data = None
        if data is None:
            raise ArchiveError(f"{name} is damaged in the package")
        return data

    def close(self) -> None:
        self._zip.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _require_one_spelling(path: Path, names: Set[str]) -> None:
    """Everything but the members' contents is what `pack` would have written: a content's CRC-32 stands in both
    headers and is compared when it is read."""
    with zipfile.ZipFile(path) as listed:
        found = {info.orig_filename: (info.file_size, info.CRC) for info in listed.infolist()}
    if found.keys() != names:  # a folder, or "./name", which other readers take for another name
        raise ArchiveMemberError("the package names a file in another way than packages do")
    with path.open("rb") as file:
        for piece in _layout(found):
            if isinstance(piece, str):
                file.seek(found[piece][0], 1)
            elif file.read(len(piece)) != piece:
                raise ArchiveMemberError(
                    "the package is packed in another way than packages are",
                    remedy="Ask for the file as it was written; do not pack it again.",
                )
        if file.read(1):
            raise ArchiveMemberError("bytes follow the package")


def _layout(members: Mapping[str, tuple[int, int]]) -> Iterator[bytes | str]:
    """The zip's pieces in order: bytes, or the name of the member whose content stands there."""
    if len(members) > _MAX_MEMBERS:
        raise PackageTooLargeError(f"a package holds at most {_MAX_MEMBERS} files")
    directory: list[bytes] = []
    at = 0
    for name in sorted(members):
        size, checksum = members[name]
        try:
            raw = name.encode("ascii")
        except UnicodeEncodeError:
            raise PackageNameError("a package's files have plain names") from None
        header = (0, 0, 0, _1980, checksum, size, size, len(raw), 0)
        if at + size > _MAX_BYTES - (64 << 20):  # the directory and its end still follow
            raise PackageTooLargeError("the package would be over 4 GiB")
        yield _LOCAL.pack(b"PK\x03\x04", _VERSION, *header) + raw
        yield name
        directory.append(
            _CENTRAL.pack(b"PK\x01\x02", _ON_UNIX | _VERSION, _VERSION, *header, 0, 0, 0, _MODE, at) + raw
        )
        at += _LOCAL.size + len(raw) + size
    listed = b"".join(directory)
    yield listed
    yield _END.pack(b"PK\x05\x06", 0, 0, len(members), len(members), len(listed), at, 0)
