"""How far a long verification is: a bar on a terminal, a line now and then elsewhere, nothing for a short one."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_FIRST_S = 2.0
_EVERY_S = 15.0


class EntriesProgress:
    """Context manager whose `update` is a `ledger.verify.Progress`. Everything goes to stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._began = self._said = time.monotonic()
        self._bar = Progress(
            TextColumn("verifying"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("entries"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._row = self._bar.add_task("entries", total=None)
        self._shown = False

    def update(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._began < _FIRST_S:
            return
        if sys.stderr.isatty():
            if not self._shown:
                self._bar.start()
                self._shown = True
            self._bar.update(self._row, completed=done, total=total)
        elif now - self._said > _EVERY_S:
            self._said = now
            self._console.print(f"{now - self._began:6.1f} s  verified {done} of {total} entries")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:  # one that never began would still end its line
            self._bar.stop()
