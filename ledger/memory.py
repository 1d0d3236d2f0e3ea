"""The in-memory store: twin of `ledger.sqlite` for tests and simulations. Nothing outlives the process."""

from __future__ import annotations

import threading

from ledger.storage import Batch, LogState, StateConflictError, StorageExistsError


class MemoryStorage:
    """One log in lists and dictionaries, with the same all-or-nothing commit under a lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: LogState | None = None
        self._entries: list[bytes] = []
        self._tiles: dict[tuple[int, int], bytes] = {}

    def load(self) -> LogState | None:
        return self._state

    def create(self, state: LogState) -> None:
        with self._lock:
            if self._state is not None:
                raise StorageExistsError("a log exists here already")
            self._state = state

    def commit(self, batch: Batch) -> None:
        with self._lock:
            if self._state != batch.expected:
                raise StateConflictError("the log moved on under another sequencer")
            self._entries.extend(batch.entries)
            for name, data in batch.tiles.items():
                self._tiles[name.level or 0, name.n] = data
            self._state = batch.state

    def entries(self, start: int, end: int) -> list[bytes]:
        return self._entries[start:end]

    def tile(self, level: int, n: int) -> bytes:
        return self._tiles.get((level, n), b"")

    def close(self) -> None:
        """Nothing to release."""
