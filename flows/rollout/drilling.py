"""Drills in a process each, several at once: what runs here has an orchestrator, keys and a registry of its own.

A rehearsal needs none of them, and must not find them: whatever of it reached a real MLflow server, or became tasks
of the flow that wanted the drill, would count as something that it is not. What a drill prints goes to the log of the
home that wanted it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection
from pathlib import Path

from flows.rollout.drills.registry import play, require_known
from policies.rollout.drill_report import DrillReport
from policies.rollout.statements import Drill
from tasks import progress
from tasks.progress import Progress
from tasks.worker.process import WorkerProcess

AT_ONCE = 3
OURS = ("MLFLOW_TRACKING_URI", "WARDROUND_PASSPHRASE", "PREFECT_API_URL")
"""What an institution's environment says of the institution, and of no rehearsal."""


class DrillSession:
    """Lives in the process; the home is that of whoever wants the drill, and nothing in it is read."""

    def __init__(self, home: Path) -> None:
        for name in OURS:
            os.environ.pop(name, None)

    def play(self, drill: Drill, sabotaged: bool) -> DrillReport:
        return asyncio.run(play(drill, sabotaged=sabotaged))


class _DrillProcess(WorkerProcess[DrillSession]):
    """Tells of the rehearsal's parties as of one, the drill: theirs are not the names of anybody here."""

    def _pass_on(self) -> None:
        while (item := self._progress.get()) is not None:
            told = f"{item.party}: {item.step}"
            progress.tell(Progress(self._party, told, item.round, item.done, item.total))


async def played(
    log: Path, drills: Collection[Drill], *, sabotaged: Collection[Drill] = (), at_once: int = AT_ONCE
) -> AsyncIterator[DrillReport]:
    """The report of each as it comes, passed or not; `log` takes what they print. UnknownDrillError before any."""
    for drill in drills:
        require_known(drill)
    turns = asyncio.Semaphore(at_once)

    async def one(drill: Drill) -> DrillReport:
        async with turns:
            worker = _DrillProcess(DrillSession, log.parent, party=f"drill {drill}", log=log)
            try:
                return await worker.call(DrillSession.play, drill, drill in sabotaged)
            finally:
                await asyncio.to_thread(worker.close)

    running = [asyncio.create_task(one(drill)) for drill in drills]
    try:
        for report in asyncio.as_completed(running):
            yield await report
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
