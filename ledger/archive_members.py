"""The members of one archive file: zip, tar and gzipped tar, each indexed once and judged before it is read.

Everything that a hostile archive can claim is bounded: how many members, how long a header, how much it all
unpacks to. What the members mean lives in `ledger.archive`, which says what each refusal stands for.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import tarfile
import tempfile
import threading
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Protocol

from ledger.errors import InputError

MAX_MEMBERS = 250_000  # a log of 30 million entries; the index of a larger one would not be small
MAX_UNPACKED_BYTES = 64 << 30
UNPACKED_RATIO = 100  # hashes and signatures do not compress; gzip can reach 1,000
UNPACKED_SLACK_BYTES = 16 << 20  # for archives of next to nothing
HEADER_BYTES = 1 << 16  # of a tar's extended header
DIRECTORY_BYTES = 32 << 20  # of a zip's central directory
_SPOOL_BYTES = 16 << 20
_CHUNK_BYTES = 1 << 20
_UNSAFE = re.compile(
    r"[\x00-\x1f\x7f\\]|^[A-Za-z]:|(^|/)(\.\.?|)(/|$)"
)  # an empty part begins an absolute name


class ArchiveError(InputError):
    code = "ledger.archive.damaged"


class ArchiveMemberError(InputError):
    code = "ledger.archive.member"


class ArchivePathError(InputError):
    code = "ledger.archive.path"


class ArchiveDuplicateError(InputError):
    code = "ledger.archive.duplicate"


class ArchiveBombError(InputError):
    code = "ledger.archive.bomb"


class Members(Protocol):
    """One format: where each member is, by its name in the archive."""

    @property
    def names(self) -> Collection[str]: ...

    def read(self, name: str, limit: int) -> bytes | None:
        """The member, None if it has over `limit` bytes."""

    def close(self) -> None: ...


def allowed_bytes(size: int) -> int:
    return min(MAX_UNPACKED_BYTES, size * UNPACKED_RATIO + UNPACKED_SLACK_BYTES)


def decompressed(file: IO[bytes], allowed: int) -> IO[bytes]:
    spooled: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115 - outlives this
    done = 0
    try:
        with gzip.GzipFile(fileobj=file) as unpacked:
            while chunk := unpacked.read(_CHUNK_BYTES):
                done += len(chunk)
                if done > allowed:
                    raise ArchiveBombError(f"the archive unpacks to over {allowed} bytes")
                spooled.write(chunk)
    except BaseException:
        spooled.close()
        raise
    spooled.seek(0)
    return spooled


class _Index:
    """The members that were let in, by name; refuses what must not be in an archive."""

    def __init__(self, allowed: int) -> None:
        self._allowed, self._count = allowed, 0
        self.places: dict[str, tuple[int, int]] = {}

    def add(self, name: str, *, regular: bool, folder: bool, offset: int, size: int) -> None:
        self._count += 1
        if self._count > MAX_MEMBERS:
            raise ArchiveBombError(f"the archive holds over {MAX_MEMBERS} members")
        name = name.removeprefix("./").removesuffix("/" if folder else "")
        if folder and name in ("", "."):
            return
        shown = name[:80].encode("ascii", "backslashreplace").decode()
        if _UNSAFE.search(name):
            raise ArchivePathError(f"the archive holds an unsafe name: {shown!a}")
        if folder:
            return
        if not regular or size < 0:
            raise ArchiveMemberError(f"{shown} in the archive is no plain file")
        if name in self.places:
            raise ArchiveDuplicateError(f"{shown} is in the archive twice")
        self._allowed -= size
        if self._allowed < 0:
            raise ArchiveBombError(
                "the archive's members unpack to more than an archive of its size may hold"
            )
        self.places[name] = offset, size


class _Capped(io.RawIOBase):
    """A file of which nobody reads more than `most` bytes at once: headers claim any length."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file, self._most = file, most

    def read(self, size: int = -1) -> bytes:
        wanted = min(size, self._most + 1) if size >= 0 else self._most + 1
        data = self._file.read(wanted)
        if len(data) > self._most:
            raise ArchiveBombError("a header in the archive is longer than any can be")
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._file.seek(offset, whence)
        return self._file.tell()

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


class Tar:
    """Members of an uncompressed tar, by where their bytes begin."""

    def __init__(self, file: IO[bytes], allowed: int) -> None:
        self._file, self._lock = file, threading.Lock()
        try:
            index = _Index(allowed)
            with tarfile.open(fileobj=_Capped(file, HEADER_BYTES), mode="r:") as tar:
                end = -1
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined] # it would keep them all
                    if member.offset_data <= end:
                        raise ArchiveError("the archive's members go backwards")
                    end = member.offset_data
                    index.add(
                        member.name,
                        regular=member.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
                        and not member.issparse(),
                        folder=member.isdir(),
                        offset=member.offset_data,
                        size=member.size,
                    )
        except BaseException:
            file.close()
            raise
        self._places = index.places

    @property
    def names(self) -> Collection[str]:
        return self._places.keys()

    def read(self, name: str, limit: int) -> bytes | None:
        offset, size = self._places[name]
        if size > limit:
            return None
        with self._lock:
            self._file.seek(offset)
            data = self._file.read(size)
        if len(data) != size:
            raise EOFError
        return data

    def close(self) -> None:
        self._file.close()


class Zip:
    """Members of a zip, by their place in its directory."""

    def __init__(self, path: Path, allowed: int) -> None:
        self._file = path.open("rb")
        try:
            self._zip = zipfile.ZipFile(_Capped(self._file, DIRECTORY_BYTES))
            self._infos = self._zip.infolist()
            index = _Index(allowed)
            for place, member in enumerate(self._infos):
                kind = stat.S_IFMT(member.external_attr >> 16)
                plain = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
                index.add(
                    member.orig_filename,
                    regular=kind in (0, stat.S_IFREG) and plain and not member.flag_bits & 1,
                    folder=member.orig_filename.endswith("/") and kind in (0, stat.S_IFDIR),
                    offset=place,
                    size=member.file_size,
                )
        except BaseException:
            self._file.close()
            raise
        self._places = index.places

    @property
    def names(self) -> Collection[str]:
        return self._places.keys()

    def read(self, name: str, limit: int) -> bytes | None:
        place, size = self._places[name]
        if size > limit:
            return None
        with self._zip.open(self._infos[place]) as member:
            data = member.read(size + 1)
        if len(data) != size:
            raise EOFError
        return data

    def close(self) -> None:
        self._zip.close()
        self._file.close()
