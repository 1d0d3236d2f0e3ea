"""The nightly schedule as the coordinator's home keeps it: which night it is, and which nights were due.

A night is named by the date in the schedule's own time zone on which it is due, not by the date on which its run
happens to begin: a run that begins late, or again, is still that night's. A night that a later one has followed is
never made up for.

    <home>/nightly.json    {"schedules": [{"cron", "time_zone", "plan", "study", "since_s"}, ...]}, the newest last

The cron line is read by Prefect's own class, as its scheduler does, but on the readings of a clock that is never set:
where an hour does not exist Prefect fires up to that hour early, and where it happens twice, in either. Whenever it
fires, the night is the same one.
"""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final
from zoneinfo import ZoneInfo

from pydantic import Field

from adapters.home import write_atomically
from ledger import canonical
from ledger.errors import InputError
from policies.document import Document, Name
from policies.plan import Plan

FILE: Final = "nightly.json"
_EARLY_S: Final = 60
"""A scheduler's clock may be so much ahead of ours."""
_SET: Final = timedelta(hours=3)
"""More than clocks are ever set by, to or fro."""
_CHUNK: Final = timedelta(hours=12)
"""Prefect gives a thousand dates at most: more than the minutes of a chunk."""
_LONGEST: Final = timedelta(days=400)


class NightlyError(InputError):
    code = "nightly.invalid"


class Schedule(Document):
    cron: Annotated[str, Field(min_length=1, max_length=200)]
    time_zone: Annotated[str, Field(min_length=1, max_length=64)]
    plan: Name
    study: Name
    since_s: Annotated[int, Field(ge=0)]
    """Unix time from which it holds."""

    async def night(self, now_s: int) -> date:
        """The newest night that is due; before the first one ever, today."""
        until = self._shown(now_s) + _SET
        for _ in range(_LONGEST // _CHUNK):
            due = [
                at
                for at in await self._readings(until - _CHUNK, until)
                if self._due_s(at) <= now_s + _EARLY_S
            ]
            if due:
                return max(due).date()
            until -= _CHUNK
        return self._shown(now_s).date()

    async def due(self, from_s: int, to_s: int) -> list[date]:
        """The nights that were due from `from_s` to before `to_s`, of the last 400 days."""
        from_s = max(from_s, to_s - int(_LONGEST.total_seconds()))
        start, found = self._shown(from_s) - _SET, set()
        while start < self._shown(to_s) + _SET:
            readings = await self._readings(start, start + _CHUNK)
            found |= {at.date() for at in readings if from_s <= self._due_s(at) < to_s}
            start += _CHUNK
        return sorted(found)

    def _shown(self, now_s: int) -> datetime:
        return datetime.fromtimestamp(now_s, ZoneInfo(self.time_zone)).replace(tzinfo=None)

    def _due_s(self, reading: datetime) -> float:
        """The earliest moment at which a scheduler may take the clock to show that."""
        zone = ZoneInfo(self.time_zone)
        return min(reading.replace(tzinfo=zone, fold=fold).timestamp() for fold in (0, 1))

    async def _readings(self, start: datetime, end: datetime) -> list[datetime]:
        from prefect.server.schemas.schedules import CronSchedule

        cron = CronSchedule(cron=self.cron, timezone="UTC")  # where no clock is ever set
        dates = await cron.get_dates(start=start.replace(tzinfo=UTC), end=end.replace(tzinfo=UTC))
        return [datetime.fromtimestamp(at.timestamp(), UTC).replace(tzinfo=None) for at in dates]


def midnight(plan: Plan) -> Schedule:
    """What holds where no schedule is kept: a date is that of UTC."""
    return Schedule(cron="0 0 * * *", time_zone="UTC", plan=plan.name, study=plan.study, since_s=0)


def schedules(home: Path) -> tuple[Schedule, ...]:
    """All that ever held here, the newest last."""
    try:
        value = canonical.decode((home / FILE).read_bytes())
    except FileNotFoundError:
        return ()
    listed = value.get("schedules") if isinstance(value, dict) else None
    if not isinstance(listed, list):
        raise NightlyError(
            f"{FILE} in {home} lists no schedules", remedy="Remove it; the next run writes it."
        )
    return tuple(Schedule.from_value(item, what="nightly") for item in listed)


def keep_schedule(home: Path, plan: Plan, *, cron: str, time_zone: str) -> Schedule:
    """The schedule in force from now on, kept if it is not the one that is there."""
    kept = schedules(home)
    asked = Schedule(
        cron=cron, time_zone=time_zone, plan=plan.name, study=plan.study, since_s=int(time.time())
    )
    if kept and kept[-1].with_fields({"since_s": asked.since_s}) == asked:
        return kept[-1]
    listed = [item.to_json() for item in (*kept, asked)]
    write_atomically(home / FILE, canonical.encode({"schedules": [*listed]}))
    return asked


def schedule_in_force(home: Path, plan: Plan) -> Schedule:
    """The newest that is kept of this plan, else midnight in UTC."""
    kept = [item for item in schedules(home) if (item.plan, item.study) == (plan.name, plan.study)]
    return kept[-1] if kept else midnight(plan)


async def tonight(home: Path, plan: Plan) -> str:
    """The edition of the night that it is, by the schedule that is kept of this plan."""
    return (await schedule_in_force(home, plan).night(int(time.time()))).isoformat()
