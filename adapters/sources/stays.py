"""The UCI data of diabetic patients' hospital stays as tables of hospitals, to learn readmission within 30 days.

    FILE                 UCI's diabetic_data.csv or rows of it, with its header
    OUT/<hospital>.csv   a header, words for codes, one row a stay; all stays of a patient at one hospital

Strack et al. (2014), CC BY 4.0. The data do not tell hospitals apart: patients are dealt out by the seed. Of the
codes for where a patient went, `died` and `hospice` are groups of their own: **who died cannot be readmitted**, so
that a model earns a little by knowing it (86 of the 4,999 stays of the extract). The authors leave those stays out;
here they stay in, because a hospital's register has them, and the group shows what they are worth. Codes for "not
available" and "not mapped" become empty fields, as everything does that nobody recorded.

Neither encounters nor the patients' own numbers are written: patients get invented identifiers in an order drawn from
the seed. Reading a table under a plan lives in `feature_table`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from adapters.sources.findings import DataRefusedError, UnusableError
from adapters.sources.table_rows import csv_rows

_PATIENT: Final = "patient_nbr"
_MISSING: Final = frozenset(("", "?"))
_AGES: Final = {f"[{low}-{low + 10})": str(low) for low in range(0, 100, 10)}
_NUMBERS: Final = {
    "days": "time_in_hospital",
    "lab-procedures": "num_lab_procedures",
    "procedures": "num_procedures",
    "medications": "num_medications",
    "outpatient-visits": "number_outpatient",
    "emergency-visits": "number_emergency",
    "inpatient-visits": "number_inpatient",
    "diagnoses": "number_diagnoses",
}
"""Counts: of the stay itself, and of visits in the year before it."""
_WORDS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "age": ("age", _AGES),
    "sex": ("gender", {"Female": "female", "Male": "male", "Unknown/Invalid": ""}),
    "race": (
        "race",
        {
            "Caucasian": "caucasian",
            "AfricanAmerican": "african-american",
            "Hispanic": "hispanic",
            "Asian": "asian",
            "Other": "other",
        },
    ),
    "admission": (
        "admission_type_id",
        {"1": "emergency", "2": "urgent", "3": "elective", "4": "newborn", "7": "trauma"}
        | dict.fromkeys(("5", "6", "8"), ""),
    ),
    "discharge": (
        "discharge_disposition_id",
        {"1": "home", "7": "left", "12": "still-patient"}
        | dict.fromkeys(("6", "8"), "home-care")
        | dict.fromkeys(
            ("2", "3", "4", "5", "9", "10", "15", "16", "17", "22", "23", "24", "27", "28", "29", "30"),
            "transferred",
        )
        | dict.fromkeys(("11", "19", "20", "21"), "died")
        | dict.fromkeys(("13", "14"), "hospice")
        | dict.fromkeys(("18", "25", "26"), ""),
    ),
    "insulin": ("insulin", {"No": "no", "Steady": "steady", "Up": "up", "Down": "down"}),
    "medication-changed": ("change", {"No": "no", "Ch": "yes"}),
    "diabetes-medication": ("diabetesMed", {"No": "no", "Yes": "yes"}),
    "a1c": ("A1Cresult", {"None": "none", "Norm": "normal", ">7": "above-7", ">8": "above-8"}),
    "readmitted": ("readmitted", {"<30": "1", ">30": "0", "NO": "0"}),
}


def write_stay_tables(path: Path, out: Path, *, sites: Sequence[str], seed: int) -> dict[str, Path]:
    """Deal the patients of `path` out to the sites evenly and write each site's table into `out`; the paths by site.
    Nothing is written unless all of it can be.

    Raises DataRefusedError: data.missing (the file), data.stays-malformed (not as UCI publishes it, or fewer patients
    than sites), data.exists.
    """
    targets = {site: out / f"{site}.csv" for site in sites}
    if any(target.exists() for target in targets.values()):
        raise DataRefusedError(
            "the folder for the tables of stays already holds some of them.",
            code="data.exists",
            remedy="Name another folder or remove them.",
            diagnostics=str(out),
        )
    stays = _stays(path)
    patients = list(dict.fromkeys(patient for patient, _ in stays))
    if len(patients) < len(sites):
        raise _malformed(path, "fewer patients than sites")
    drawn = np.random.default_rng(seed).permutation(len(patients))
    number = {patients[place]: at for at, place in enumerate(drawn)}
    header = ",".join(["patient_id", *_NUMBERS, *_WORDS])
    lines: dict[str, list[str]] = {site: [header] for site in sites}
    for patient, fields in stays:
        row = [f"invented-{number[patient]:06d}", *fields]
        lines[sites[number[patient] % len(sites)]].append(",".join(row))
    out.mkdir(parents=True, exist_ok=True)
    for site, target in targets.items():
        target.write_text("\n".join(lines[site]) + "\n", encoding="utf-8")
    return targets


def _stays(path: Path) -> list[tuple[str, list[str]]]:
    """(patient's number, fields of the table) of every row."""
    code = ""
    rows: list[list[str]] = []
    try:
        rows = csv_rows(path)
    except UnusableError as unusable:
        code = unusable.code
    if code:
        raise DataRefusedError(
            "the file of stays is missing or no CSV.",
            code="data.missing" if code == "data.missing" else "data.stays-malformed",
            remedy="Give UCI's diabetic_data.csv, or rows of it with its header.",
            diagnostics=str(path),
        )
    header, *body = rows or [[]]
    wanted = [_PATIENT, *_NUMBERS.values(), *(column for column, _ in _WORDS.values())]
    if not body or any(header.count(column) != 1 for column in wanted):
        raise _malformed(path, "header")
    places = {column: header.index(column) for column in wanted}
    stays, wrong = list[tuple[str, list[str]]](), list[str]()
    for number, row in enumerate(body, start=2):
        if row:
            fields = None if len(row) != len(header) else _fields(row, places)
            if fields is None:
                wrong.append(str(number))
            else:
                stays.append((row[places[_PATIENT]], fields))
    if wrong:
        raise _malformed(path, f"rows {', '.join(wrong[:20])}")
    return stays


def _fields(row: Sequence[str], places: Mapping[str, int]) -> list[str] | None:
    """One row of the table, without its patient; None if a field is not what UCI has there."""
    numbers = [row[places[column]] for column in _NUMBERS.values()]
    texts = [(row[places[column]], meant) for column, meant in _WORDS.values()]
    known = all(text in meant or text in _MISSING for text, meant in texts)
    labelled = row[places["readmitted"]] not in _MISSING and row[places[_PATIENT]].isdecimal()
    if not known or not labelled or not all(text.isdecimal() and text.isascii() for text in numbers):
        return None
    return [*numbers, *(meant.get(text, "") for text, meant in texts)]


def _malformed(path: Path, what: str) -> DataRefusedError:
    return DataRefusedError(
        "the file of stays is not as UCI publishes it.",
        code="data.stays-malformed",
        remedy="Give UCI's diabetic_data.csv, or rows of it with its header.",
        diagnostics=f"{path}: {what}",
    )
