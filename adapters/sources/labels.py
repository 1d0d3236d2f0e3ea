"""labels.csv: which label a site gave each patient.

    patient_id,label
    INVENTED-0001,1

UTF-8 (a byte-order mark is accepted), exactly these two columns in either order, one row a patient. Patients
without images may be listed. Reading and checking lives here; what the labels mean is the plan's business.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from adapters.sources.cohort import canonical_identifier
from adapters.sources.findings import DataRefusedError, Findings, UnusableError
from adapters.sources.table_rows import NOT_OPENED, csv_rows

FILE_NAME = "labels.csv"
_INTEGER = re.compile(r"^-?[0-9]{1,3}$")


def read_labels(folder: Path, *, site: str, allowed: Sequence[int], findings: Findings) -> dict[str, int]:
    """Label by canonical patient identifier; what is wrong with single rows goes into `findings`.

    Raises DataRefusedError (data.labels-missing, data.labels-malformed) if the file itself cannot be used.
    """
    path = folder / FILE_NAME
    rows = _rows(path, site)
    header = [field.strip() for field in rows[0]] if rows else []
    if sorted(header) != ["label", "patient_id"]:
        raise _malformed(site, path, "header")
    identifier_at, label_at = header.index("patient_id"), header.index("label")
    labels: dict[str, int] = {}
    duplicates: set[str] = set()
    for number, row in enumerate(rows[1:], start=2):
        if not any(field.strip() for field in row):
            continue
        if len(row) != 2 or not canonical_identifier(row[identifier_at]):
            findings.add("data.labels-malformed", f"{path} row {number}")
            continue
        identifier, text = canonical_identifier(row[identifier_at]), row[label_at].strip()
        if identifier in labels and identifier not in duplicates:
            duplicates.add(identifier)
            findings.add("data.labels-duplicate", f"{path} row {number}")
        if not _INTEGER.match(text) or int(text) not in allowed:
            findings.add("data.labels-value", f"{path} row {number}")
            labels.setdefault(identifier, allowed[0])  # named once, as a wrong value, not as missing too
            continue
        labels[identifier] = int(text)
    return labels


def _rows(path: Path, site: str) -> list[list[str]]:
    try:
        return csv_rows(path)
    except UnusableError as unusable:
        missing, detail = unusable.code == NOT_OPENED, unusable.detail
    if not missing:
        raise _malformed(site, path, detail)
    raise DataRefusedError(
        f"site {site}: labels.csv is missing or cannot be opened.",
        code="data.labels-missing",
        remedy="Put labels.csv (patient_id,label) into the site's folder.",
        diagnostics=f"{path}: {detail}",
    )


def _malformed(site: str, path: Path, detail: str) -> DataRefusedError:
    return DataRefusedError(
        f"site {site}: labels.csv is not UTF-8 CSV with the header patient_id,label.",
        code="data.labels-malformed",
        remedy="Save it as UTF-8 CSV with exactly these two columns.",
        diagnostics=f"{path}: {detail}",
    )
