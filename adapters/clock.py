"""Clocks, so that tests choose the time. Rules never read one; only signing and witnessing do."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def now_s(self) -> int:
        """Unix time in whole seconds."""
        ...


class SystemClock:
    def now_s(self) -> int:
        return int(time.time())


class FixedClock:
    """The in-memory twin: stands still until told otherwise."""

    def __init__(self, now_s: int) -> None:
        self.at_s = now_s

    def now_s(self) -> int:
        return self.at_s
