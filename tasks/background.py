"""Turning something over in a thread of its own while flows wait for what it brings about.

Sequencers and replicas block on files and fsync; a flow's event loop must not. What the thread raises is
raised to whoever waits. Nothing about ledgers lives here.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, TypeVar

from ledger.errors import CodedError

INTERVAL_S = 0.01
T = TypeVar("T")


class DeadlineError(CodedError):
    code = "deadline.passed"


class Turnable(Protocol):
    def turn(self) -> None: ...


class Background:
    """Async context manager around one `Turnable`."""

    def __init__(self, subject: Turnable, *, interval_s: float = INTERVAL_S) -> None:
        self._subject, self._interval_s = subject, interval_s
        self._stopped = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._subject.turn()
            except Exception as error:
                self._error = error
                return
            self._stopped.wait(self._interval_s)

    async def until(self, found: Callable[[], T | None], *, timeout_s: float, waiting_for: str) -> T:
        """Return what `found` returns as soon as it is not None. Raises what the thread raised, or DeadlineError."""
        deadline = time.monotonic() + timeout_s
        while True:
            value = found()
            if value is not None:
                return value
            if self._error is not None:
                raise self._error
            if time.monotonic() > deadline:
                raise DeadlineError(f"waited {timeout_s:g} s for {waiting_for}")
            await asyncio.sleep(self._interval_s)

    async def __aenter__(self) -> Self:
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        await asyncio.to_thread(self._thread.join)
