"""`wardround coordinator nights`: every night that was due, with what came of it, for whoever is on duty.

Read from the coordinator's own ledger and the schedules that its home keeps; Prefect need not be up. Nothing is
started here.
"""

from __future__ import annotations

import asyncio
import json as json_text
import sys
import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from ledger.errors import CodedError

_COLOURS = {"done": "green", "due": "cyan", "missed": "bold red", "unfinished": "yellow"}


class NightMissedError(CodedError):
    code = "nightly.missed"


def nights(
    *,
    home: Annotated[Path, Parameter(help="The coordinator's home, with its institution.yaml.")],
    last: Annotated[int, Parameter(help="How many nights to show.")] = 14,
    json: Annotated[bool, Parameter(help="Print one JSON object instead of a table.")] = False,
) -> None:
    """What came of each night, and which ones were missed. Exit 1 if the newest night that was due was missed."""
    from adapters.home import CoordinatorConfig, Home
    from adapters.institution_log import read_state
    from tasks.coordinator.next_night import foreseen
    from tasks.coordinator.nights import nights as judged
    from tasks.coordinator.nights import row
    from tasks.nightly import schedules

    institution = Home(home)
    institution.read(CoordinatorConfig)
    state, _ = read_state(institution)
    listed = asyncio.run(judged(institution.root, state, now_s=int(time.time())))
    stopped = foreseen(institution)
    shown = listed[-max(1, last) :]
    if json:
        value = {"nights": [row(night) for night in shown], "stopped": stopped}
        sys.stdout.write(f"{json_text.dumps(value)}\n")
    else:
        console = Console(highlight=False)
        kept = schedules(institution.root)
        if not kept:
            console.print("no nightly run was scheduled from this home yet", soft_wrap=True)
        else:
            console.print(_table([row(night) for night in shown]))
            console.print(
                f"schedule  {kept[-1].cron} ({kept[-1].time_zone}), plan {kept[-1].plan}", soft_wrap=True
            )
        for reason in stopped:
            console.print(f"stopped   {reason}", soft_wrap=True)
    if listed and listed[-1].outcome == "missed":
        raise NightMissedError(
            f"the run of {listed[-1].date.isoformat()} did not take place", remedy="See docs/operations.md."
        )


def _table(rows: list[dict[str, str]]) -> Table:
    table = Table(title="Nights")
    for column in ("night", "came to", "models", "why", "plan"):
        table.add_column(column)
    for row in rows:
        table.add_row(*row.values(), style=_COLOURS.get(row["came to"], "red"))
    return table
