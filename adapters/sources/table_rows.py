"""Rows of text out of a CSV or Parquet file, as untrusted input, and where the wanted columns stand in them.

UTF-8 (a byte-order mark is accepted), separated by commas, a header line; or Parquet, whose values become the texts
that a CSV would hold: an empty text for a missing one, 1 and 0 for yes and no. What columns mean is the callers'
business. No content of a file enters an error.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from adapters.home import TableLayout
from adapters.sources.cohort import canonical_identifier
from adapters.sources.findings import Findings, UnusableError

NOT_OPENED: Final = "data.missing"
UNREADABLE: Final = "data.table-unreadable"
LARGEST_BYTES: Final = 2**28
LARGEST_CELLS: Final = 10**8
"""Of a Parquet file, which may hold far more than its size says."""

_NUMBER: Final = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?")


def table_rows(path: Path) -> list[list[str]]:
    """The header and every row, by the file's suffix. Raises UnusableError (NOT_OPENED, UNREADABLE), whose detail
    completes "the table …"."""
    return _parquet_rows(path) if path.suffix.lower() == ".parquet" else csv_rows(path)


def patient_rows(
    rows: Iterable[list[str]], *, width: int, patient_at: int, path: Path, findings: Findings
) -> Iterator[tuple[str, str, list[str]]]:
    """(where it stands, canonical identifier, fields) of the rows after the header that hold anything. One of another
    width is a finding (data.table-row), and so is one that names no patient (data.table-patient)."""
    for number, fields in enumerate(rows, start=2):
        if not any(text.strip() for text in fields):
            continue
        where = f"{path} row {number}"
        if len(fields) != width:
            findings.add("data.table-row", where)
        elif not (identifier := canonical_identifier(fields[patient_at])):
            findings.add("data.table-patient", where)
        else:
            yield where, identifier, fields


def csv_rows(path: Path) -> list[list[str]]:
    """As `table_rows`, of a CSV file whatever its suffix."""
    code = UNREADABLE
    try:
        if path.stat().st_size > LARGEST_BYTES:
            detail = "is larger than 256 MiB"
        else:
            text = path.read_bytes().decode("utf-8-sig")
            return list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except OSError:
        code, detail = NOT_OPENED, "cannot be opened"
    except UnicodeDecodeError:
        detail = "is not UTF-8"
    except csv.Error:
        detail = "is not CSV"
    # Outside the handlers: a chained exception would carry the file's content along.
    raise UnusableError(code, detail)


def _parquet_rows(path: Path) -> list[list[str]]:
    from pyarrow import parquet

    code, detail = UNREADABLE, "is not a Parquet file of plain columns"
    try:
        with path.open("rb") as opened:
            file = parquet.ParquetFile(opened)
            if file.metadata.num_rows * file.metadata.num_columns > LARGEST_CELLS:
                detail = "is larger than 100 million fields"
            else:
                table = file.read()
                columns = [[_text(value) for value in column.to_pylist()] for column in table.columns]
                return [list(table.column_names), *(list(row) for row in zip(*columns, strict=True))]
    except OSError as error:
        # Arrow's own errors about a damaged file are of this kind too, and have no number.
        if error.errno is not None:
            code, detail = NOT_OPENED, "cannot be opened"
    except Exception:  # whatever a damaged file makes the parser raise
        code = UNREADABLE
    raise UnusableError(code, detail)


def _text(value: object) -> str:
    """What a CSV would hold. Raises TypeError for what is neither a number nor a text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, (int, str)):
        return str(value)
    raise TypeError("neither a number nor a text")


def find_columns(
    layout: TableLayout, header: Sequence[str], names: Sequence[str], *, patient: bool = True
) -> tuple[list[int], list[str]]:
    """(places of the patient, unless none is wanted, and of each name, those that are not there exactly once).

    A column is found by the header that the layout has for it, else by its name, in any case and with `_` or a blank
    for `-`. The places are of use only where nothing is lacking.
    """
    headers = [text.strip() for text in header]
    wanted: list[tuple[str, str | None]] = [(name, layout.columns.get(name)) for name in names]
    if patient:
        wanted.insert(0, (layout.patient_column, layout.patient_column))
    places, lacking = [], []
    for name, exact in wanted:
        here = [place for place, text in enumerate(headers) if text == exact]
        if not here and exact is None:
            here = [place for place, text in enumerate(headers) if plain(text) == name]
        places += here[:1]
        if len(here) != 1:
            lacking.append(name)
    return places, lacking


def is_number(text: str) -> bool:
    """Whether it is a finite decimal number, with a point if with anything."""
    return _NUMBER.fullmatch(text) is not None and math.isfinite(float(text))


def plain(text: str) -> str:
    """As plans write names and words."""
    return text.strip().lower().replace("_", "-").replace(" ", "-")
