"""One process at a time signs with a key: an advisory lock on a file named after the key.

    <folder>/<first 32 hex digits of the keyid>.lock        holds the holder's process id, for people

Two processes that sign for one institution fork its chain of events, and a token's library is not made for
them. The lock is flock(2): the kernel gives it up when the process ends, however it ends, so nobody ever has
to clean up; the file stays and means nothing by itself. Within a process holders share it. It guards one
folder on one host: keep it on a local disk, and one home a key. Tokens live in `ledger.token_session`.
"""

from __future__ import annotations

import fcntl
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import InputError


class KeyInUseError(InputError):
    code = "ledger.key.in-use"


class GuardError(InputError):
    code = "ledger.key.guard"


@dataclass(slots=True)
class _Held:
    handle: int
    holders: int


_lock = threading.Lock()
_held: dict[Path, _Held] = {}


class SignerGuard:
    """Held from `hold` until `release`, or until the process ends."""

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path: Path | None = path

    @classmethod
    def hold(cls, folder: Path, keyid: str) -> SignerGuard:
        """Hold the key whose id this is; refused at once if another process does."""
        path = folder.resolve() / f"{keyid[:32]}.lock"
        with _lock:
            held = _held.get(path)
            if held is None:
                _held[path] = _Held(_acquire(path), 1)
            else:
                held.holders += 1
        return cls(path)

    def release(self) -> None:
        """Give it up; again is nothing."""
        with _lock:
            path, self._path = self._path, None
            held = None if path is None else _held.get(path)
            if path is None or held is None:
                return
            held.holders -= 1
            if not held.holders:
                os.close(_held.pop(path).handle)


def _acquire(path: Path) -> int:
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise GuardError(
            f"cannot open {path}: {os.strerror(error.errno or 0)}",
            remedy="Make the folder of the keys writable.",
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(handle, 0)
        os.pwrite(handle, b"%d\n" % os.getpid(), 0)
    except BlockingIOError:
        holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
        os.close(handle)
        who = f"process {holder}" if holder.isdigit() else "another process"
        raise KeyInUseError(
            f"{who} signs with this key and holds {path}",
            remedy="Stop it, or wait until it is done: one process at a time signs with a key.",
        ) from None
    except OSError as error:
        os.close(handle)
        raise GuardError(
            f"cannot lock {path}: {os.strerror(error.errno or 0)}", remedy="Keep the keys on a local disk."
        ) from None
    return handle


def _let_go_after_fork() -> None:
    """A forked child shares the parent's lock and would keep it beyond the parent's death."""
    global _lock
    for held in _held.values():
        os.close(held.handle)
    _held.clear()
    _lock = threading.Lock()  # another thread may have held it while the process forked


os.register_at_fork(after_in_child=_let_go_after_fork)
