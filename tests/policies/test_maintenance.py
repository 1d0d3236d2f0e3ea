"""Maintenance windows by the hospital's wall clock: over midnight, and on both nights on which the clock is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InputError
from policies.maintenance import WEEK, Window, window_end_s

BERLIN = ZoneInfo("Europe/Berlin")
SPRING, AUTUMN = "2026-03-29", "2026-10-25"  # 02:00 becomes 03:00; 03:00 becomes 02:00


def window(start: str, end: str, *weekdays: str, zone: str = "Europe/Berlin") -> Window:
    days = list(weekdays) or list(WEEK)
    return Window.from_value({"weekdays": days, "start": start, "end": end, "time_zone": zone}, what="window")


def berlin(text: str, *, fold: int = 0) -> int:
    """Unix time at which a clock in Berlin shows it, the first or (fold 1) the second time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=BERLIN, fold=fold).timestamp())


def end_of(windows: list[Window], text: str, *, fold: int = 0) -> str | None:
    found = window_end_s(windows, berlin(text, fold=fold))
    return None if found is None else datetime.fromtimestamp(found, BERLIN).isoformat(timespec="minutes")


def test_a_window_holds_from_its_start_to_before_its_end_on_its_days() -> None:
    one = [window("01:00", "04:00", "sat")]  # 2026-11-21 is a Saturday
    assert end_of(one, "2026-11-21T00:59:59") is None
    assert (
        end_of(one, "2026-11-21T01:00:00") == end_of(one, "2026-11-21T03:59:59") == "2026-11-21T04:00+01:00"
    )
    assert end_of(one, "2026-11-21T04:00:00") is None
    assert end_of(one, "2026-11-22T02:00:00") is None


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_starts() -> None:
    one = [window("22:00", "04:00", "sat")]
    assert end_of(one, "2026-11-21T23:00") == end_of(one, "2026-11-22T03:59") == "2026-11-22T04:00+01:00"
    assert end_of(one, "2026-11-21T03:00") is None  # Friday's night is not Saturday's
    assert end_of(one, "2026-11-22T22:00") is None
    assert end_of([window("22:00", "04:00", "sun")], "2026-11-23T01:00") == "2026-11-23T04:00+01:00"


def test_windows_that_follow_each_other_are_one() -> None:
    several = [
        window("22:00", "24:00", "sat"),
        window("00:00", "02:00", "sun"),
        window("02:00", "03:00", "sun"),
    ]
    assert end_of(several, "2026-11-21T22:30") == "2026-11-22T03:00+01:00"


def test_a_whole_day_and_a_window_that_never_ends() -> None:
    assert end_of([window("00:00", "24:00", "sat")], "2026-11-21T00:00") == "2026-11-22T00:00+01:00"
    found = window_end_s([window("00:00", "24:00")], berlin("2026-11-21T00:00"))
    assert found is not None and found - berlin("2026-11-21T00:00") > 7 * 86_400


@pytest.mark.parametrize(
    ("start", "end", "at", "until"),
    [
        # It spans the leap: three hours on the wall, two in truth.
        ("01:00", "04:00", f"{SPRING}T01:59", f"{SPRING}T04:00+02:00"),
        # Its hour does not exist: it is made up for right after the leap.
        ("02:00", "03:00", f"{SPRING}T03:00", f"{SPRING}T04:00+02:00"),
        ("02:00", "03:00", f"{SPRING}T01:59", None),
        ("02:15", "02:45", f"{SPRING}T03:10", None),
        ("02:15", "02:45", f"{SPRING}T03:15", f"{SPRING}T03:45+02:00"),
        # Only its start does not exist.
        ("02:30", "05:00", f"{SPRING}T03:30", f"{SPRING}T05:00+02:00"),
        # Every other night of the year the hour after is free.
        ("02:00", "03:00", "2026-03-30T03:00", None),
        ("02:00", "03:00", f"{SPRING}T04:00", None),
    ],
)
def test_the_night_on_which_an_hour_does_not_exist(start: str, end: str, at: str, until: str | None) -> None:
    assert end_of([window(start, end)], at) == until


@pytest.mark.parametrize(
    ("start", "end", "at", "fold", "until"),
    [
        # The hour happens twice, and is in the window both times.
        ("02:00", "03:00", f"{AUTUMN}T02:00", 0, f"{AUTUMN}T03:00+01:00"),
        ("02:00", "03:00", f"{AUTUMN}T02:59", 1, f"{AUTUMN}T03:00+01:00"),
        ("01:00", "04:00", f"{AUTUMN}T01:00", 0, f"{AUTUMN}T04:00+01:00"),
        # Half of it: twice half an hour, and between them the clock shows what is outside.
        ("02:00", "02:30", f"{AUTUMN}T02:10", 0, f"{AUTUMN}T02:30+02:00"),
        ("02:00", "02:30", f"{AUTUMN}T02:40", 0, None),
        ("02:00", "02:30", f"{AUTUMN}T02:10", 1, f"{AUTUMN}T02:30+01:00"),
        ("22:00", "02:30", f"{AUTUMN}T02:29", 1, f"{AUTUMN}T02:30+01:00"),
    ],
)
def test_the_night_on_which_an_hour_happens_twice(
    start: str, end: str, at: str, fold: int, until: str | None
) -> None:
    assert end_of([window(start, end)], at, fold=fold) == until


def test_a_clock_that_leaps_at_midnight_or_by_half_an_hour() -> None:
    beirut = window("00:00", "01:00", zone="Asia/Beirut")  # on 2026-03-29 midnight does not exist
    at = datetime(2026, 3, 28, 22, 30, tzinfo=UTC)
    assert beirut.holds_at(int(at.timestamp())) and not beirut.holds_at(int(at.timestamp()) - 3600)
    howe = window("02:00", "02:30", zone="Australia/Lord_Howe")  # 2026-10-04: 02:00 becomes 02:30
    at = datetime(2026, 10, 3, 15, 30, tzinfo=UTC)
    assert howe.holds_at(int(at.timestamp())) and not howe.holds_at(int(at.timestamp()) + 1800)


def test_sites_in_other_zones_have_hours_of_their_own() -> None:
    at = int(datetime(2026, 11, 21, 1, 30, tzinfo=UTC).timestamp())
    assert window("02:00", "03:00").holds_at(at)
    assert not window("02:00", "03:00", zone="America/New_York").holds_at(at)


TIMES = st.integers(0, 1439).map(lambda minute: f"{minute // 60:02d}:{minute % 60:02d}")


@given(
    start=TIMES,
    end=TIMES,
    days=st.sets(st.sampled_from(WEEK), min_size=1, max_size=6),
    now_s=st.integers(berlin("2026-03-20"), berlin("2026-11-10")),
)
def test_the_end_is_the_first_minute_at_which_no_window_holds(
    start: str, end: str, days: set[str], now_s: int
) -> None:
    if start == end:
        return
    one = window(start, end, *days)
    found = window_end_s([one], now_s)
    assert (found is not None) == one.holds_at(now_s)
    if found is not None:
        assert found % 60 == 0 and found > now_s and not one.holds_at(found)
        assert all(one.holds_at(at) for at in range(now_s, found, 600)) and one.holds_at(found - 1)


@given(st.integers(berlin("2026-01-01"), berlin("2026-12-31")))
def test_no_window_is_longer_than_it_says_but_where_an_hour_happens_twice(now_s: int) -> None:
    one = window("01:30", "03:15")
    held = sum(one.holds_at(now_s + 60 * minute) for minute in range(24 * 60))
    set_nearby = datetime.fromtimestamp(now_s, BERLIN).month in (3, 10)
    assert held == 105 or (set_nearby and abs(held - 105) <= 60)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"start": "25:00"}, "start"),
        ({"start": "1:00"}, "start"),
        ({"end": "22:00"}, "end differs"),
        ({"start": "24:00"}, "end differs"),
        ({"time_zone": "Europe/Atlantis"}, "time_zone"),
        ({"time_zone": "../etc/passwd"}, "time_zone"),
        ({"weekdays": []}, "weekdays"),
        ({"weekdays": ["someday"]}, "weekdays"),
        ({"start": 79_200}, "start"),
        ({"why": "x"}, "why"),
    ],
)
def test_what_is_no_window_is_refused_by_its_field(fields: dict[str, object], wrong: str) -> None:
    value = {"weekdays": ["sat"], "start": "22:00", "end": "04:00", "time_zone": "Europe/Berlin", **fields}
    if fields == {"end": "22:00"}:
        value["start"] = "22:00"
    with pytest.raises(InputError, match=wrong):
        Window.from_value(value, what="window")


def test_hours_need_no_quotes_in_yaml() -> None:
    text = "{weekdays: [sat], start: 22:00, end: 04:00, time_zone: Europe/Berlin}"
    read = Window.from_value(yaml.safe_load(text), what="window")
    assert (read.start, read.end) == ("22:00", "04:00")
    assert Window.from_value(yaml.safe_load(yaml.safe_dump(read.to_json())), what="window") == read


def test_the_leap_is_seen_for_as_long_as_it_was() -> None:
    at = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    one = window("02:00", "03:00")
    held = [one.holds_at(int((at + timedelta(minutes=m)).timestamp())) for m in range(-60, 120)]
    assert held == [False] * 60 + [True] * 60 + [False] * 60
