"""Consents as CSV: rows are read, or refused by their number."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.consent.dates import read_span
from adapters.consent.reading import ConsentFileError, Reading, patient_keys
from adapters.consent.table import read_table
from policies.consent import ConsentRefusedError, Terms, consenting

KEY = patient_keys(site="hospital-a", secret=b"s" * 32)
NOW_S = int(datetime(2026, 5, 28, 12, tzinfo=UTC).timestamp())
TERMS = Terms("2026-1", "research")
HEADER = "patient_id,policy_version,purposes,granted_at,expires_at,withdrawn_at"


def read(tmp_path: Path, *rows: str, header: str = HEADER) -> Reading:
    path = tmp_path / "consents.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return read_table(path, key=KEY, now_s=NOW_S)


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def test_rows_become_records_under_keys_alone(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        "INVENTED-1,2026-1,research;teaching,2026-03-01,2031-03-01,",
        "",
        "INVENTED-2 ,2026-1,research,2026-03-01T09:30:00+01:00,,2026-04-02",
    )
    first, second = reading.records
    assert reading.where == ("row 2", "row 4")
    assert first.purposes == ("research", "teaching") and first.patient_key == KEY("INVENTED-1")
    assert first.granted_at_s == at("2026-03-01T00:00:00Z") and first.expires_at_s == at(
        "2031-03-01T00:00:00Z"
    )
    assert second.patient_key == KEY("INVENTED-2")
    assert second.granted_at_s == at("2026-03-01T08:30:00Z")
    assert second.withdrawn_at_s == at("2026-04-02T23:59:59Z")
    assert "INVENTED" not in repr(reading)


def test_the_header_may_have_any_order_and_lack_what_is_optional(tmp_path: Path) -> None:
    reading = read(
        tmp_path,
        "2026-1,2026-03-01,INVENTED-1,research",
        header="\ufeffpolicy_version,granted_at,patient_id,purposes",
    )
    assert len(reading.records) == 1


def test_a_withdrawal_of_today_counts_from_now(tmp_path: Path) -> None:
    record = read(tmp_path, "INVENTED-1,2026-1,research,2026-05-28T09:00:00Z,,2026-05-28").records[0]
    assert record.withdrawn_at_s == NOW_S
    assert not consenting([record], TERMS, NOW_S)


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (" ,2026-1,research,2026-03-01,,", "consent.patient"),
        ("INVENTED-1,,research,2026-03-01,,", "consent.version"),
        ("INVENTED-1,2026 1,research,2026-03-01,,", "consent.version"),
        ("INVENTED-1,2026-1,,2026-03-01,,", "consent.purpose"),
        ("INVENTED-1,2026-1,Research,2026-03-01,,", "consent.purpose"),
        ("INVENTED-1,2026-1,research;research,2026-03-01,,", "consent.purpose"),
        ("INVENTED-1,2026-1,research,,,", "consent.time"),
        ("INVENTED-1,2026-1,research,01.03.2026,,", "consent.time"),
        ("INVENTED-1,2026-1,research,2026-02-30,,", "consent.time"),
        ("INVENTED-1,2026-1,research,2026-03,,", "consent.time"),
        ("INVENTED-1,2026-1,research,2026-03-01T09:30:00,,", "consent.time"),
        ("INVENTED-1,2026-1,research,nan,,", "consent.time"),
        ("INVENTED-1,2026-1,research,1e9,,", "consent.time"),
        ("INVENTED-1,2026-1,research,1000000000.5,,", "consent.time"),
        ("INVENTED-1,2026-1,research,1969-12-31,,", "consent.time"),
        ("INVENTED-1,2026-1,research,2026-03-01,9999-12-31,", "consent.time"),
        ("INVENTED-1,2026-1,research,2026-03-01,never,", "consent.time"),
        ("INVENTED-1,2026-1,research,2026-05-29,,", "consent.future"),
        ("INVENTED-1,2026-1,research,2026-03-01,,2026-05-29", "consent.future"),
        ("INVENTED-1,2026-1,research,2026-03-01,2026-03-01,", "consent.expiry"),
        ("INVENTED-1,2026-1,research,2026-03-01,,2026-02-28", "consent.withdrawal"),
        ("INVENTED-1,2026-1,research,2026-03-01", "consent.row"),
        ("INVENTED-1,2026-1,research,2026-03-01,,,", "consent.row"),
        ("INVENTED-9,2026-1,research,2026-03-01,,", "consent.duplicate"),
        ("INVENTED-9,2026-1,teaching,2026-03-01,,", "consent.contradiction"),
    ],
)
def test_a_row_at_fault_is_named_by_its_number_and_nothing_is_taken_in(
    tmp_path: Path, row: str, code: str
) -> None:
    with pytest.raises(ConsentRefusedError) as caught:
        read(tmp_path, "INVENTED-9,2026-1,research,2026-03-01,,", row)
    assert caught.value.code == code
    assert "row 3: " in str(caught.value) and "INVENTED" not in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "INVENTED",
        HEADER + ",name",
        "patient_id,policy_version,purposes",
        HEADER + ",patient_id",
        '"' + HEADER,
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(ConsentFileError) as caught:
        read(tmp_path, "INVENTED-1,2026-1,research,2026-03-01,,", header=header)
    assert "INVENTED" not in str(caught.value) and caught.value.__context__ is None


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(2199, 12, 30)).map(
        lambda value: value.replace(microsecond=0)
    ),
    st.integers(-14 * 60, 14 * 60),
)
def test_a_written_time_is_its_second_and_a_date_its_day(moment: datetime, offset_min: int) -> None:
    seconds = (moment - datetime(1970, 1, 1)) // timedelta(seconds=1)
    sign, minutes = "+-"[offset_min < 0], abs(offset_min)
    text = f"{moment.isoformat()}{sign}{minutes // 60:02d}:{minutes % 60:02d}"
    span = read_span(text)
    assert span is not None and span.first_s == span.last_s == seconds - offset_min * 60
    day = read_span(text[:10])
    assert day is not None and day.first_s <= seconds <= day.last_s == day.first_s + 86_399


@given(st.text(max_size=30))
def test_no_text_breaks_the_reader_of_dates(text: str) -> None:
    read_span(text)
