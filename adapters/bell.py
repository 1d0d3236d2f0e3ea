"""A bell beside an exchange: parties of one process hear of each other's writes at once instead of by polling.

It says only that something was written under a name, never what: whoever hears it reads and verifies as always, and
looks now and then without it, since a party in another process or on another machine rings no bell here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

Concerns = Callable[[str], bool]


class Bell:
    """Any thread may call. A listener is called in the writer's thread: it only sets a flag somewhere."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners: tuple[tuple[Concerns, Callable[[], None]], ...] = ()

    def listen(self, concerns: Concerns, hear: Callable[[], None]) -> Callable[[], None]:
        """Call `hear` after each write under a name that concerns it; returns what ends that."""
        one = (concerns, hear)
        with self._lock:
            self._listeners = (*self._listeners, one)

        def end() -> None:
            with self._lock:
                self._listeners = tuple(other for other in self._listeners if other is not one)

        return end

    def ring(self, name: str) -> None:
        for concerns, hear in self._listeners:
            if concerns(name):
                hear()


@runtime_checkable
class Ringing(Protocol):
    """An exchange that rings when this process writes to it."""

    bell: Bell


def listen(exchange: object, concerns: Concerns, hear: Callable[[], None]) -> Callable[[], None]:
    """Listen to an exchange that rings; to any other one there is nothing to hear."""
    return exchange.bell.listen(concerns, hear) if isinstance(exchange, Ringing) else lambda: None


_lock = threading.Lock()
_by_folder: dict[Path, Bell] = {}


def bell_of(folder: Path) -> Bell:
    """The bell of a shared folder, one for all who open it in this process."""
    with _lock:
        return _by_folder.setdefault(folder.resolve(), Bell())
