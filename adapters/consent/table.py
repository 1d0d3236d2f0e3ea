"""Consents as a table: what a hospital without FHIR exports.

    patient_id,policy_version,purposes,granted_at,expires_at,withdrawn_at
    INVENTED-0001,2026-1,research;teaching,2026-03-01,2031-03-01,
    INVENTED-0002,2026-1,research,2026-03-01T09:30:00+01:00,,2026-04-02

UTF-8 CSV, the header in any order, the last two columns may be missing. Purposes are separated by `;`. Times are
those of `adapters.consent.dates`: a date as `granted_at` is its first second; as `expires_at` the first day on which
the consent no longer holds; as `withdrawn_at` the end of the day, or now if that is earlier. A patient who refused
has a row that is withdrawn at the time at which it is granted.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Final

from adapters.consent.dates import Span, read_span
from adapters.consent.reading import Collector, ConsentFileError, Given, PatientKey, Reading, read_text

REQUIRED: Final = ("patient_id", "policy_version", "purposes", "granted_at")
OPTIONAL: Final = ("expires_at", "withdrawn_at")


def read_table(path: Path, *, key: PatientKey, now_s: int) -> Reading:
    """Every row of the file. Raises ConsentFileError, or ConsentRefusedError with every fault by its row."""
    rows = _rows(read_text(path))
    header = [field.strip() for field in rows[0]] if rows else []
    columns = set(header)
    if len(columns) != len(header) or not set(REQUIRED) <= columns <= {*REQUIRED, *OPTIONAL}:
        raise ConsentFileError(
            f"the header of the file is not {','.join((*REQUIRED, *OPTIONAL))}",
            remedy="Give exactly these columns; the last two may be missing.",
        )
    collector = Collector()
    for number, fields in enumerate(rows[1:], start=2):
        if not any(field.strip() for field in fields):
            continue
        if len(fields) != len(header):
            collector.fault(f"row {number}", "consent.row", f"it has {len(fields)} fields, not {len(header)}")
            continue
        row = {name: field.strip() for name, field in zip(header, fields, strict=True)}
        _read(collector, f"row {number}", row, key=key, now_s=now_s)
    return collector.done(now_s=now_s)


def _read(collector: Collector, where: str, row: dict[str, str], *, key: PatientKey, now_s: int) -> None:
    spans: dict[str, Span | None] = {}
    sound = True
    for name in ("granted_at", *OPTIONAL):
        text = row.get(name, "")
        spans[name] = read_span(text)
        if spans[name] is None and (text or name == "granted_at"):
            message = f"{name} is not a date, or a time with its offset"
            collector.fault(where, "consent.time", message)
            sound = False
    patient_key = key(row["patient_id"])
    if patient_key is None:
        collector.fault(where, "consent.patient", "it names no patient")
    granted, expires, withdrawn = (spans[name] for name in ("granted_at", *OPTIONAL))
    if not sound or granted is None or patient_key is None:
        return
    given = Given(
        patient_key=patient_key,
        policy_version=row["policy_version"],
        purposes=[purpose.strip() for purpose in row["purposes"].split(";") if purpose.strip()],
        granted_at_s=granted.first_s,
        expires_at_s=None if expires is None else expires.first_s,
        withdrawn_at_s=None if withdrawn is None else withdrawn.end_s(now_s),
    )
    collector.take(where, given)


def _rows(text: str) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error:
        failed = ConsentFileError("the file is not CSV", remedy="Save it as CSV, separated by commas.")
    raise failed  # outside the handler, see `adapters.consent.reading`
