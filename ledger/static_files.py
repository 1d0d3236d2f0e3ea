"""The files of a log, read only: what verification and proofs need of whatever holds them.

    checkpoint, log.vkey, policy, tile/...      see `ledger.export` and `ledger.tiles`

A folder is `Folder`, an archive is `ledger.archive`, a web server lives with the adapters. None of them is
believed, and none may fill the memory: `byte_limit` says how large a file of a log can be at all. What the
bytes mean, and whether they hold, is not looked at here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from ledger.encoding import HASH_BYTES
from ledger.errors import CodedError, InputError
from ledger.event import MAX_ENTRY_BYTES
from ledger.tiles import WIDTH

TILE_BYTES = WIDTH * HASH_BYTES
BUNDLE_BYTES = WIDTH * (2 + MAX_ENTRY_BYTES)
TEXT_BYTES = 1 << 20  # checkpoint, key, policy: 10,000 policy lines of some hundred bytes


class UnreadableError(CodedError):
    """The bytes could not be had. Says nothing of the log, so no verification may call it a verdict."""

    code = "ledger.files.unreadable"


class OversizedFileError(InputError):
    code = "ledger.files.oversized"

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} has over {byte_limit(path)} bytes, more than a log's file can have")


class NotAFileError(InputError):
    """A pipe would block whoever reads it, and a device has no end."""

    code = "ledger.files.special"


class StaticFiles(Protocol):
    def read(self, path: str) -> bytes | None:
        """The file's bytes, None if there is none; OversizedFileError, UnreadableError."""

    def names(self, under: str) -> Iterator[str] | None:
        """Every file below a folder, sorted; None where files cannot be listed."""

    def expect(self, paths: Iterable[str]) -> None:
        """A hint: these will be read next, in this order. Whoever has no use for it does nothing."""

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def byte_limit(path: str) -> int:
    """The most bytes that the file of this name can have."""
    if path.startswith("tile/entries/"):
        return BUNDLE_BYTES
    return TILE_BYTES if path.startswith("tile/") else TEXT_BYTES


class Folder(StaticFiles):
    """The files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._base = f"{root}{os.sep}"

    def read(self, path: str) -> bytes | None:
        try:
            # Unbuffered takes a third of the time; without O_NONBLOCK to open a pipe would wait for its writer.
            handle = os.open(self._base + path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                return _bounded(handle, path)
            finally:
                os.close(handle)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise UnreadableError(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from None

    def names(self, under: str) -> Iterator[str]:
        found = (self.root / under).rglob("*")
        return iter(sorted(path.relative_to(self.root).as_posix() for path in found if path.is_file()))

    def expect(self, paths: Iterable[str]) -> None:
        """A disk needs no telling."""

    def close(self) -> None:
        """Nothing to release."""


def _bounded(handle: int, path: str) -> bytes | None:
    """All of a regular file, None of a folder. Its size is a hint: it may grow while it is read, or claim none."""
    found = os.fstat(handle)
    if stat.S_ISDIR(found.st_mode):
        return None
    if not stat.S_ISREG(found.st_mode):
        raise NotAFileError(f"{path} is not a regular file")
    limit = byte_limit(path)
    if found.st_size > limit:
        raise OversizedFileError(path)
    data = os.read(handle, found.st_size + 1)
    if len(data) <= found.st_size:
        return data
    while len(data) <= limit:
        more = os.read(handle, limit + 1 - len(data))
        if not more:
            return data
        data += more
    raise OversizedFileError(path)
