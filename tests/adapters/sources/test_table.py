"""A site's table for joint statistics: what is read, what is missing, and what is refused with which words."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.home import TableConfig
from adapters.sources.cohort import patient_key
from adapters.sources.findings import DataRefusedError
from adapters.sources.table import PatientTable, read_table
from adapters.sources.table_rows import is_number
from policies.inquiry import Column, TableContract

SITE, SECRET = "hospital-a", b"s" * 32
CONTRACT = TableContract(
    columns=(Column(name="age-years", kind="number"), Column(name="sex", kind="word")), minimum_patients=1
)
GOOD = "patient_id,Age_Years,sex,unasked\nP1,63,male,x\nP2,,female,y\nP3,?, ,z\n\n P4 ,7.5e1,male,\n"


def read(tmp_path: Path, data: str | bytes, **config: object) -> PatientTable:
    path = tmp_path / "table.csv"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    settings = TableConfig.from_value({"path": str(path), "missing": ["?"], **config}, what="table")
    return read_table(settings, path, CONTRACT, site=SITE, secret=SECRET)


def key(identifier: str) -> bytes:
    return patient_key(identifier, site=SITE, secret=SECRET)


def refused(tmp_path: Path, data: str | bytes, **config: object) -> DataRefusedError:
    with pytest.raises(DataRefusedError) as caught:
        read(tmp_path, data, **config)
    return caught.value


def test_values_come_by_patient_and_what_is_missing_is_missing(tmp_path: Path) -> None:
    table = read(tmp_path, "\ufeff" + GOOD)
    ages = dict(zip(table.keys, table.numbers["age-years"].tolist(), strict=True))
    words = dict(zip(table.keys, table.words["sex"], strict=True))
    assert ages[key("P1")] == 63 and ages[key("P4")] == 75
    assert math.isnan(ages[key("P2")]) and math.isnan(ages[key("P3")])
    assert words == {key("P1"): "male", key("P2"): "female", key("P3"): None, key("P4"): "male"}
    many = read(tmp_path, "patient_id,age-years,sex\n" + "".join(f"P{n},{n},male\n" for n in range(40)))
    assert list(many.keys) == sorted(many.keys), "the order says nothing of the file"
    assert table.numbers.keys() | table.words.keys() == {"age-years", "sex"}
    assert "P1" not in repr(table) and table.rows().patients == [one.hex() for one in table.keys]


def test_headers_of_another_name_are_named_in_the_configuration(tmp_path: Path) -> None:
    data = "Fallnummer,Alter (Jahre),sex\nP1,63,male\n"
    table = read(tmp_path, data, patient_column="Fallnummer", columns={"age-years": "Alter (Jahre)"})
    assert table.numbers["age-years"].tolist() == [63]
    assert table.keys == (key("P1"),)


def test_only_the_rows_of_those_who_are_permitted_remain(tmp_path: Path) -> None:
    table = read(tmp_path, GOOD)
    part = table.among(frozenset((key("P1"), key("P2"), key("stranger"))))
    assert set(part.keys) == {key("P1"), key("P2")} and len(part.words["sex"]) == 2
    assert part.content_digest() != table.content_digest()
    assert part.content_digest() == table.among(frozenset(part.keys)).content_digest()
    assert table.among(frozenset()).keys == ()


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ("P1,63,male\nP2,61", "data.table-row"),
        (" ,63,male", "data.table-patient"),
        ("P1,63,male\n P1,64,male", "data.table-twice"),
        ('P1,"63,5",male', "data.table-number"),
        ("P1,1_000,male", "data.table-number"),
        ("P1,nan,male", "data.table-number"),
        ("P1,1e999,male", "data.table-number"),
        ("P1,n/a,male", "data.table-number"),
    ],
)
def test_a_row_that_cannot_be_right_is_refused_by_where_it_stands(
    tmp_path: Path, rows: str, code: str
) -> None:
    error = refused(tmp_path, f"patient_id,age-years,sex\n{rows}\n")
    assert error.code == code and error.remedy
    assert "row " in error.diagnostics()
    for shown in (error.public_message, str(error)):
        assert "P1" not in shown and "63" not in shown and "n/a" not in shown


def test_every_fault_of_a_table_is_named_at_once(tmp_path: Path) -> None:
    error = refused(tmp_path, "patient_id,age-years,sex\nP1,x,male\nP1,1,male\nP2,1\n,1,male\n")
    assert set(error.codes) == {
        "data.table-row", "data.table-patient", "data.table-twice", "data.table-number",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("header", "lacking"),
    [
        ("patient_id,sex", "age-years"),
        ("age-years,sex", "patient_id"),
        ("patient_id;age-years;sex", "patient_id, age-years, sex"),
        ("patient_id,age_years,Age Years,sex", "age-years"),
        ("", "patient_id, age-years, sex"),
    ],
)
def test_columns_that_are_not_there_once_are_named(tmp_path: Path, header: str, lacking: str) -> None:
    error = refused(tmp_path, f"{header}\n")
    assert error.code == "data.table-columns" and f"column for {lacking}." in error.public_message
    assert "statistics.columns" in error.remedy


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b'patient_id,"age'])
def test_what_is_no_table_is_refused_without_its_content(tmp_path: Path, data: bytes) -> None:
    error = refused(tmp_path, data)
    assert error.code == "data.table-unreadable" and error.__context__ is None


def test_a_file_that_is_not_there_is_named_at_the_site_alone(tmp_path: Path) -> None:
    config = TableConfig(path="nowhere.csv")
    with pytest.raises(DataRefusedError) as caught:
        read_table(config, tmp_path / "nowhere.csv", CONTRACT, site=SITE, secret=SECRET)
    assert caught.value.code == "data.table-unreadable" and "nowhere" not in caught.value.public_message
    assert "nowhere" in caught.value.diagnostics()


@given(st.text(max_size=30))
def test_no_field_is_taken_for_a_number_that_is_none(text: str) -> None:
    if is_number(text):
        assert math.isfinite(float(text)) and set(text) <= set("0123456789.+-eE")
