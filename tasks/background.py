"""Turning something over in a thread of its own while flows wait for what it brings about.

Sequencers and replicas block on files and fsync; a flow's event loop must not. What the thread raises is
raised to whoever waits. Nothing about ledgers lives here.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self, TypeVar

from ledger.errors import CodedError

INTERVAL_S = 0.02
"""Between looks where nobody calls `nudge` or `look`: parties in other processes are found by looking."""
T = TypeVar("T")


class DeadlineError(CodedError):
    code = "deadline.passed"


class Turnable(Protocol):
    def turn(self) -> bool:
        """Whether it brought anything that somebody may wait for."""


class Background:
    """Async context manager around one `Turnable`."""

    def __init__(self, subject: Turnable, *, interval_s: float = INTERVAL_S) -> None:
        self._subject, self._interval_s = subject, interval_s
        self._stopped, self._nudged = False, threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Event] = set()

    def _run(self) -> None:
        while not self._stopped:
            # Cleared before the turn: what comes during it is seen by the next one.
            self._nudged.clear()
            try:
                if self._subject.turn():
                    self.look()
            except Exception as error:
                self._error = error
                self.look()
                return
            self._nudged.wait(self._interval_s)

    def nudge(self) -> None:
        """Take the next turn now: the caller has left something for it. Any thread may call."""
        self._nudged.set()

    def look(self) -> None:
        """Let whoever waits look now. Any thread may call."""
        if self._waiting and self._loop is not None:
            with suppress(RuntimeError):  # the loop closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for event in self._waiting:
            event.set()

    async def until(self, found: Callable[[], T | None], *, timeout_s: float, waiting_for: str) -> T:
        """Return what `found` returns as soon as it is not None. Raises what the thread raised, or DeadlineError.

        `found` is asked after every turn that brought something, and now and then: it may look elsewhere too.
        """
        deadline = time.monotonic() + timeout_s
        told = asyncio.Event()
        self._waiting.add(told)
        try:
            while True:
                told.clear()
                value = found()
                if value is not None:
                    return value
                if self._error is not None:
                    raise self._error
                if time.monotonic() > deadline:
                    raise DeadlineError(f"waited {timeout_s:g} s for {waiting_for}")
                later = asyncio.get_running_loop().call_later(self._interval_s, told.set)
                await told.wait()
                later.cancel()
        finally:
            self._waiting.discard(told)

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        self._nudged.set()
        await asyncio.to_thread(self._thread.join)
