"""A date or a time as hospitals write it: ISO 8601, whole days in UTC.

    2026-03-01                   a day:    00:00:00 to 23:59:59 UTC
    2026-03-01T09:30:00+01:00    a second; the offset must be there, a fraction of a second is dropped

A lone year or month is refused: within it nobody can tell a grant from the withdrawal after it. The machine's time
zone plays no part: a file must mean the same on every one. What a time means for a consent is decided by its reader.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_S = 86_400
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SECOND = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[T ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})"
)


@dataclass(frozen=True, slots=True)
class Span:
    """The first and the last second (Unix) of what was written."""

    first_s: int
    last_s: int

    def end_s(self, now_s: int) -> int:
        """The time of a withdrawal that was written so: as late as it can have been, but not in the future.

        Whoever withdrew on a day is never taken in by a grant that was earlier on it.
        """
        return min(self.last_s, max(now_s, self.first_s))


def read_span(text: str) -> Span | None:
    """None if `text` is neither of the two forms."""
    text = text.strip()
    try:
        if _DAY.fullmatch(text):
            first_s = _seconds(datetime.fromisoformat(f"{text}T00:00:00+00:00"))
            return Span(first_s, first_s + _DAY_S - 1)
        found = _SECOND.fullmatch(text)
        if found is None:
            return None
        day, time, offset = found.groups()
        second = _seconds(datetime.fromisoformat(f"{day}T{time}{offset.replace('Z', '+00:00')}"))
        return Span(second, second)
    except (ValueError, OverflowError):
        return None


def show(at_s: int) -> str:
    """As people read it: to the minute, in UTC."""
    return (_EPOCH + timedelta(seconds=at_s)).strftime("%Y-%m-%d %H:%M")


def _seconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(seconds=1)
