"""A hospital's maintenance windows: hours in which it starts no training, written in its own institution.yaml.

Hours are what the clock on the hospital's wall shows. Where the clock is set back, an hour that it shows twice is in
a window both times; where it is set forward, a window in the hour that it leaps over holds right after the leap, for
as long as it ever does. Who asks brings the time: nothing here reads a clock. What a site does in a window is
`tasks.site.maintenance`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from policies.document import Document

Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEK: Final[tuple[Weekday, ...]] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TimeOfDay = Annotated[str, Field(pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")]
_HORIZON_S: Final = 8 * 86_400
"""Windows that follow each other without a gap are looked through for so long; a week repeats itself."""


class Window(Document):
    """Every week, on each of `weekdays`, from `start` to before `end`; past midnight where `end` is earlier."""

    weekdays: Annotated[tuple[Weekday, ...], Field(min_length=1, max_length=7)] = WEEK
    """The days on which it starts."""
    start: TimeOfDay
    end: TimeOfDay
    time_zone: Annotated[str, Field(min_length=1, max_length=64)]
    """A name of the time zone database, as Europe/Berlin."""

    @field_validator("start", "end", mode="before")
    @classmethod
    def _of_yaml(cls, value: object) -> object:
        """YAML 1.1 reads an unquoted 22:00 as the number 1320: the minutes of that time."""
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1440:
            return f"{value // 60:02d}:{value % 60:02d}"
        return value

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (OSError, ValueError, LookupError):
            raise ValueError("must be a name like Europe/Berlin") from None
        return value

    @model_validator(mode="after")
    def _has_a_length(self) -> Window:
        if self.start == self.end or self.start == "24:00":
            raise ValueError("a window's end differs from its start; a whole day is from 00:00 to 24:00")
        return self

    def holds_at(self, now_s: int) -> bool:
        """Whether Unix time `now_s` is in the window."""
        return any(self._shows(reading) for reading in _readings(now_s, ZoneInfo(self.time_zone)))

    def _shows(self, reading: datetime) -> bool:
        minute, start, end = reading.hour * 60 + reading.minute, _minutes(self.start), _minutes(self.end)
        today, yesterday = WEEK[reading.weekday()], WEEK[reading.weekday() - 1]
        if start < end:
            return today in self.weekdays and start <= minute < end
        return (today in self.weekdays and minute >= start) or (yesterday in self.weekdays and minute < end)


def window_end_s(windows: Sequence[Window], now_s: int) -> int | None:
    """Unix time, on a whole minute, at which no window holds any more; None if none holds now. Windows that follow
    each other count as one; where they never end, a time that is far off."""

    def holds(at_s: int) -> bool:
        return any(window.holds_at(at_s) for window in windows)

    if not holds(now_s):
        return None
    at_s = now_s - now_s % 60 + 60
    while holds(at_s) and at_s < now_s + _HORIZON_S:
        at_s += 60
    return at_s


def _readings(now_s: int, zone: ZoneInfo) -> list[datetime]:
    """What the wall clock shows; and for as long as the clock has just leapt, what it would show if it had not."""
    now = datetime.fromtimestamp(now_s, UTC)
    shown = now.astimezone(zone).replace(tzinfo=None)
    offset = (now - timedelta(days=1)).astimezone(zone).utcoffset()
    unleapt = (now + (offset or timedelta())).replace(tzinfo=None)
    return [shown] if unleapt == shown or exists(unleapt, zone) else [shown, unleapt]


def exists(reading: datetime, zone: ZoneInfo) -> bool:
    """Whether a clock in that zone ever shows this date and time; in spring it leaps over an hour."""
    return reading.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None) == reading


def _minutes(time_of_day: str) -> int:
    hours, minutes = time_of_day.split(":")
    return int(hours) * 60 + int(minutes)
