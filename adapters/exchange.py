"""The exchange: the only place that two institutions share. Named byte strings, nothing else.

    put      create once; the same bytes again are accepted, other bytes under that name are refused
    replace  overwrite atomically, for the few names that move (checkpoint, partial tiles, witness mail)
    get      the bytes, or None; what is longer than the reader said is not read, but refused
    names    the names below a prefix, sorted

Whoever operates an exchange may withhold, replay or alter anything: readers verify what they get. Nothing
about what the bytes mean lives here.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Protocol

from adapters.bell import Bell, bell_of
from ledger.errors import CodedError

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


class ExchangeConflictError(CodedError):
    code = "exchange.conflict"


class ExchangeNameError(CodedError):
    code = "exchange.name"


class ExchangeTooLargeError(CodedError):
    """Raised before anything is read."""

    code = "exchange.too-large"


class Exchange(Protocol):
    def put(self, name: str, data: bytes) -> None: ...
    def replace(self, name: str, data: bytes) -> None: ...
    def get(self, name: str, *, at_most_bytes: int | None = None) -> bytes | None: ...
    def names(self, prefix: str) -> list[str]: ...


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):  # `match` and "$" would let a final newline through
        raise ExchangeNameError("exchange names are relative paths of letters, digits, '.', '_' and '-'")
    return name


def _limit(size: int, at_most_bytes: int | None) -> None:
    if at_most_bytes is not None and size > at_most_bytes:
        raise ExchangeTooLargeError(f"the exchange holds {size} bytes where at most {at_most_bytes} belong")


def _read(file: FileIO, size: int) -> bytes:
    """That many bytes, or fewer if the file ends before; of a file that grows meanwhile, as none of ours does, no
    more than was measured. A single read stops at 2 GiB."""
    parts = list[bytes]()
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class MemoryExchange:
    """The in-memory twin, for tests and consortium simulations."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self.bell = Bell()

    def put(self, name: str, data: bytes) -> None:
        if self._objects.setdefault(_checked(name), data) != data:
            raise ExchangeConflictError(f"{name} already holds other bytes")
        self.bell.ring(name)

    def replace(self, name: str, data: bytes) -> None:
        self._objects[_checked(name)] = data
        self.bell.ring(name)

    def get(self, name: str, *, at_most_bytes: int | None = None) -> bytes | None:
        data = self._objects.get(_checked(name))
        _limit(0 if data is None else len(data), at_most_bytes)
        return data

    def names(self, prefix: str) -> list[str]:
        base = f"{_checked(prefix)}/"
        return sorted(name for name in tuple(self._objects) if name.startswith(base))


class DirectoryExchange:
    """A shared folder. Files appear whole or not at all: written beside, then linked or renamed into place."""

    def __init__(self, root: Path) -> None:
        self.root, self._root = root, str(root)
        root.mkdir(parents=True, exist_ok=True)
        self.bell = bell_of(root)

    def put(self, name: str, data: bytes) -> None:
        target = self.root / _checked(name)
        written = self._write_beside(target, data)
        try:
            os.link(written, target)  # fails if the name exists, so two writers cannot both win
        except FileExistsError:
            if not self._holds(name, data):
                raise ExchangeConflictError(f"{name} already holds other bytes") from None
        finally:
            written.unlink()
        self.bell.ring(name)

    def replace(self, name: str, data: bytes) -> None:
        target = self.root / _checked(name)
        self._write_beside(target, data).replace(target)
        self.bell.ring(name)

    def get(self, name: str, *, at_most_bytes: int | None = None) -> bytes | None:
        # Parties look here hundreds of times a second, mostly for nothing: no object is made for a path.
        try:
            with open(f"{self._root}/{_checked(name)}", "rb", buffering=0) as file:  # noqa: PTH123
                size = os.fstat(file.fileno()).st_size
                _limit(size, at_most_bytes)
                return _read(file, size)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def _holds(self, name: str, data: bytes) -> bool:
        try:
            return self.get(name, at_most_bytes=len(data)) == data
        except ExchangeTooLargeError:
            return False

    def names(self, prefix: str) -> list[str]:
        return sorted(self._names(_checked(prefix)))

    def _names(self, prefix: str) -> Iterator[str]:
        try:
            with os.scandir(f"{self._root}/{prefix}") as found:
                entries = list(found)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from self._names(f"{prefix}/{entry.name}")
            elif entry.is_file() and not entry.name.startswith("."):
                yield f"{prefix}/{entry.name}"

    @staticmethod
    def _write_beside(target: Path, data: bytes) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=target.parent, prefix=".")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return Path(beside)
