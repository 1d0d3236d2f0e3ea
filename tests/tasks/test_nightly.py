"""Which night it is, whenever the scheduler fires: on the nights on which clocks are set, late, and twice."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from prefect.server.schemas.schedules import CronSchedule

from ledger.errors import InputError
from tasks.nightly import Schedule, keep_schedule, midnight, schedule_in_force, schedules, tonight
from tests.plans import tiny_plan

DAY_S = 86_400


def schedule(cron: str, zone: str) -> Schedule:
    return Schedule(cron=cron, time_zone=zone, plan="tiny", study="tiny-study", since_s=0)


def unix(text: str, zone: str = "UTC", *, fold: int = 0) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp())


async def firings(cron: str, zone: str, start: datetime, days: int) -> set[datetime]:
    """Every moment at which Prefect's scheduler fires, wherever in between it was asked what comes next."""
    prefect = CronSchedule(cron=cron, timezone=zone)
    asked = (start + timedelta(minutes=10) * number for number in range(days * 144))
    return {(await prefect.get_dates(n=1, start=at))[0].astimezone(UTC) for at in asked}


@pytest.mark.parametrize(
    ("cron", "zone", "change"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-29"),  # 02:30 does not exist
        ("30 2 * * *", "Europe/Berlin", "2026-10-25"),  # 02:30 happens twice
        ("0 2 * * *", "Europe/Berlin", "2026-03-29"),
        ("0 2 * * *", "Europe/Berlin", "2026-10-25"),
        ("0 3 * * *", "Europe/Berlin", "2026-10-25"),
        ("30 1 * * *", "Europe/Berlin", "2026-03-29"),  # in UTC its date changes with the clock
        ("30 2 * * *", "America/New_York", "2026-03-08"),
        ("30 1 * * *", "America/New_York", "2026-11-01"),
        ("0 0 * * *", "Asia/Beirut", "2026-03-29"),  # midnight does not exist
        ("30 23 * * *", "Asia/Beirut", "2026-10-25"),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-04"),  # set by half an hour
    ],
)
async def test_clocks_that_are_set_cost_no_night_and_make_none_twice(
    cron: str, zone: str, change: str
) -> None:
    nightly, day = schedule(cron, zone), date.fromisoformat(change)
    start = datetime.combine(day - timedelta(days=2), datetime.min.time(), tzinfo=ZoneInfo(zone))
    fired = sorted(await firings(cron, zone, start.astimezone(UTC), 4))
    nights = [await nightly.night(int(at.timestamp())) for at in fired]
    # Every date has its night, whatever the scheduler made of the hour; a second firing is the same night again.
    days = [nights[0] + timedelta(days=number) for number in range((nights[-1] - nights[0]).days + 1)]
    assert sorted(set(nights)) == days and day in days and nights == sorted(nights)
    # What was due is what fired: no night is called missed on that account.
    due = await nightly.due(int(fired[0].timestamp()) - 60, int(fired[-1].timestamp()) + 60)
    assert due == days
    # A run that begins hours late, or again after a crash, is still that night's.
    for at, night in zip(fired, nights, strict=True):
        assert await nightly.night(int(at.timestamp()) + 5 * 3600) == night


async def test_an_hour_that_happens_twice_is_one_night() -> None:
    nightly = schedule("30 2 * * *", "Europe/Berlin")
    both = [unix("2026-10-25T02:30", "Europe/Berlin", fold=fold) for fold in (0, 1)]
    assert both[1] - both[0] == 3600
    assert {await nightly.night(at) for at in both} == {date(2026, 10, 25)}


async def test_the_date_in_utc_would_have_lost_a_night_when_the_clock_was_set() -> None:
    """Half past one in Berlin is a date of UTC's of its own in winter and the date before in summer."""
    zone = "Europe/Berlin"
    fired = [unix(f"2026-03-{day}T01:30", zone) for day in (29, 30)]
    assert len({datetime.fromtimestamp(at, UTC).date() for at in fired}) == 1
    nightly = schedule("30 1 * * *", zone)
    assert [await nightly.night(at) for at in fired] == [date(2026, 3, 29), date(2026, 3, 30)]


async def test_a_night_is_the_date_on_which_it_was_due_not_the_one_on_which_it_runs() -> None:
    nightly = schedule("50 23 * * *", "Europe/Berlin")
    due = unix("2026-11-20T23:50", "Europe/Berlin")
    assert await nightly.night(due + 20 * 60) == date(2026, 11, 20)  # after midnight
    assert await nightly.night(due - 30) == date(2026, 11, 20)  # the server's clock is ahead
    assert await nightly.night(due - 120) == date(2026, 11, 19)


async def test_a_weekly_night_and_one_of_every_minute() -> None:
    weekly = schedule("0 2 * * 1", "Europe/Berlin")
    assert await weekly.night(unix("2026-11-21T12:00")) == date(2026, 11, 16)  # a Monday
    assert await weekly.due(unix("2026-11-01"), unix("2026-11-21")) == [
        date(2026, 11, day) for day in (2, 9, 16)
    ]
    often = schedule("* * * * *", "Europe/Berlin")
    assert await often.night(unix("2026-11-21T12:00")) == date(2026, 11, 21)
    assert len(await often.due(unix("2026-11-18T12:00"), unix("2026-11-21T12:00"))) == 4


async def test_without_a_schedule_a_night_is_a_day_of_utc() -> None:
    nightly = midnight(tiny_plan())
    assert await nightly.night(unix("2026-11-21T23:50")) == date(2026, 11, 21)
    assert await nightly.night(unix("2026-11-22T00:00")) == date(2026, 11, 22)


async def test_a_home_keeps_its_schedules_and_a_plan_of_another_name_has_its_own(tmp_path: Path) -> None:
    plan = tiny_plan()
    assert schedules(tmp_path) == () and schedule_in_force(tmp_path, plan) == midnight(plan)
    first = keep_schedule(tmp_path, plan, cron="0 2 * * *", time_zone="Europe/Berlin")
    assert keep_schedule(tmp_path, plan, cron="0 2 * * *", time_zone="Europe/Berlin") == first
    second = keep_schedule(tmp_path, plan, cron="0 3 * * *", time_zone="Europe/Berlin")
    assert schedules(tmp_path) == (first, second)
    assert schedule_in_force(tmp_path, plan) == second
    other = tiny_plan(name="other")
    assert schedule_in_force(tmp_path, other) == midnight(other)
    assert date.fromisoformat(await tonight(tmp_path, plan))
    (tmp_path / "nightly.json").write_text("[]")
    with pytest.raises(InputError):
        schedules(tmp_path)
