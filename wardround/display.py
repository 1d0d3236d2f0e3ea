"""Progress on the terminal: one row a party while it works, one line a step where there is no terminal.

Everything goes to stderr, so that stdout holds results only.
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from tasks import progress
from tasks.progress import Progress


class Display:
    """Context manager that listens to `tasks.progress` and shows it."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self._latest: dict[str, Progress] = {}
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._live: Live | None = None

    def say(self, text: str) -> None:
        """One line above the rows."""
        (self._live.console if self._live else self.console).print(text, soft_wrap=True)

    def __enter__(self) -> Self:
        self._end = progress.listen(self._hear)
        if sys.stderr.isatty():
            self._live = Live(
                get_renderable=self._rows, console=self.console, refresh_per_second=8, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
        if self._live is not None:
            self._live.stop()

    def _hear(self, news: Progress) -> None:
        with self._lock:
            before = self._latest.get(news.party)
            self._latest[news.party] = news
        changed = before is None or (before.step, before.round) != (news.step, news.round)
        if self._live is None and changed:
            seconds = time.monotonic() - self._began
            where = f"round {news.round}: " if news.round else ""
            self.console.print(f"{seconds:6.1f} s  {news.party:<14} {where}{news.step}")

    def _rows(self) -> Table:
        table = Table.grid(padding=(0, 2))
        with self._lock:
            latest = list(self._latest.values())
        for news in latest:
            bar = ProgressBar(total=news.total, completed=news.done, width=20) if news.total else ""
            table.add_row(news.party, f"round {news.round}" if news.round else "", news.step, bar)
        table.add_row(f"[dim]{time.monotonic() - self._began:.0f} s[/dim]")
        return table
