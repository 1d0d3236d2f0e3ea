"""A site's table for joint statistics: one row a patient, read from CSV or Parquet under an inquiry's contract.

    patient_id,age,sex,cholesterol
    INVENTED-0001,63,male,233
    INVENTED-0002,,female,?

UTF-8 (a byte-order mark is accepted), separated by commas, a header line, one row a patient. A column is found by the
inquiry's name for it, in any case and with `_` or a blank for `-`, or by the header that institution.yaml names. An
empty field is a missing value, and so is a word that institution.yaml lists as `missing`. Everything else in a column
of numbers must be a number: a decimal comma that counted as missing would falsify the figures unseen.

The whole file is judged, whoever consents, and every finding is collected before it is refused. Columns that the
inquiry does not ask for are not looked at. Identifiers end here: a patient is known by its key. What is asked of the
table lives in `privacy.statistics_lanes`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from adapters.home import TableConfig
from adapters.sources.cohort import patient_key
from adapters.sources.findings import DataRefusedError, Findings, UnusableError
from adapters.sources.table_rows import find_columns, is_number, patient_rows, table_rows
from policies.inquiry import Column, TableContract
from privacy.statistics import Numbers
from privacy.statistics_lanes import Table


@dataclass(frozen=True, eq=False, repr=False)
class PatientTable:
    """A row a patient, in the order of their keys (32 bytes each), so that it says nothing of the file. Printing one
    shows nothing: logs and tracebacks print their arguments."""

    keys: tuple[bytes, ...]
    numbers: Mapping[str, Numbers] = field(default_factory=dict)
    words: Mapping[str, Sequence[str | None]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return "PatientTable(...)"

    def among(self, permitted: frozenset[bytes]) -> PatientTable:
        """The rows of those patients, possibly none."""
        rows = [row for row, key in enumerate(self.keys) if key in permitted]
        return PatientTable(
            keys=tuple(self.keys[row] for row in rows),
            numbers={name: values[rows] for name, values in self.numbers.items()},
            words={name: [values[row] for row in rows] for name, values in self.words.items()},
        )

    def rows(self) -> Table:
        """What queries are computed over."""
        return Table(patients=[key.hex() for key in self.keys], numbers=self.numbers, words=self.words)

    def content_digest(self) -> bytes:
        """SHA-256 over keys and values, for the site's commitment to what it answered from."""
        content = hashlib.sha256(b"".join(self.keys))
        for name in sorted(self.numbers):
            content.update(f"\n{name}\n".encode() + self.numbers[name].tobytes())
        for name in sorted(self.words):
            content.update(f"\n{name}\n{list(self.words[name])!r}".encode())
        return content.digest()


def read_table(
    config: TableConfig, path: Path, contract: TableContract, *, site: str, secret: bytes
) -> PatientTable:
    """The contract's columns of every patient. Raises DataRefusedError: data.table-unreadable, data.table-columns, or
    every fault of the rows (data.table-row, -patient, -twice, -number) by its code; rows are named at the site
    alone."""
    header, *rows = _rows(path, site) or [[]]
    places = _places(config, header, contract.columns, site=site, path=path)
    findings = Findings(site)
    found: dict[bytes, list[str]] = {}
    named = patient_rows(rows, width=len(header), patient_at=places[0], path=path, findings=findings)
    for where, identifier, fields in named:
        key = patient_key(identifier, site=site, secret=secret)
        if key in found:
            findings.add("data.table-twice", where)
        found[key] = [fields[place].strip() for place in places[1:]]
        for column, text in zip(contract.columns, found[key], strict=True):
            if column.kind == "number" and text and text not in config.missing and not is_number(text):
                findings.add("data.table-number", f"{where}, column {column.name}")
    findings.refuse()
    keys = tuple(sorted(found))
    numbers, words = {}, {}
    for place, column in enumerate(contract.columns):
        texts = [found[key][place] for key in keys]
        known = [None if not text or text in config.missing else text for text in texts]
        if column.kind == "number":
            numbers[column.name] = np.array(
                [math.nan if text is None else float(text) for text in known], dtype=np.float64
            )
        else:
            words[column.name] = known
    return PatientTable(keys, numbers, words)


def _places(
    config: TableConfig, header: Sequence[str], columns: Sequence[Column], *, site: str, path: Path
) -> list[int]:
    """Where the patient and each column stand; refuses naming every column that is not there exactly once."""
    places, lacking = find_columns(config, header, [one.name for one in columns])
    if lacking:
        raise DataRefusedError(
            f"site {site}: the table for statistics has not exactly one column for {', '.join(lacking)}.",
            code="data.table-columns",
            remedy="Save it as CSV separated by commas, or name the headers under statistics.columns in "
            "institution.yaml.",
            diagnostics=str(path),
        )
    return places


def _rows(path: Path, site: str) -> list[list[str]]:
    try:
        return table_rows(path)
    except UnusableError as unusable:
        detail = unusable.detail
    raise DataRefusedError(
        f"site {site}: the table for statistics {detail}.",
        code="data.table-unreadable",
        remedy="Name a CSV file in UTF-8, or a Parquet file, under statistics.path in institution.yaml.",
        diagnostics=str(path),
    )
