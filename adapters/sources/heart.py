"""The UCI heart disease data as four hospitals' tables of features.

    FOLDER/processed.{cleveland,hungarian,switzerland,va}.data      14 fields a row, no header, `?` for a missing one
    OUT/<hospital>.csv                                              a header, words for codes, one row a patient

Janosi, Steinbrunn, Pfisterer and Detrano (1988), CC BY 4.0. As in FLamby (du Terrail et al. 2022, arXiv:2210.04620)
the columns slope, ca and thal are left out, and then rows with a missing field unless they are asked for; disease is
any degree above 0. The data name nobody: a row counts as one patient, with an invented identifier. Reading a table
under a plan lives in `feature_table`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from adapters.sources.findings import DataRefusedError, UnusableError
from adapters.sources.table_rows import csv_rows, is_number

HOSPITALS: Final = ("cleveland", "hungarian", "switzerland", "va")
_FIELDS: Final = (
    "age", "sex", "chest-pain", "blood-pressure", "cholesterol", "fasting-sugar", "resting-ecg", "heart-rate",
    "exercise-angina", "st-depression", "slope", "ca", "thal", "disease",
)  # fmt: skip
_LEFT_OUT: Final = {"slope", "ca", "thal"}
_WORDS: Final[Mapping[str, tuple[tuple[int, str], ...]]] = {
    "sex": ((0, "female"), (1, "male")),
    "chest-pain": (
        (1, "typical-angina"),
        (2, "atypical-angina"),
        (3, "non-anginal-pain"),
        (4, "asymptomatic"),
    ),
    "fasting-sugar": ((0, "normal"), (1, "high")),
    "resting-ecg": ((0, "normal"), (1, "st-t-abnormality"), (2, "hypertrophy")),
    "exercise-angina": ((0, "no"), (1, "yes")),
}


def write_heart_tables(folder: Path, out: Path, *, keep_incomplete: bool = False) -> dict[str, Path]:
    """Write each hospital's table into `out`; the paths by hospital. Nothing is written unless all of it can be.

    Raises DataRefusedError: data.missing (a file of `folder`), data.heart-malformed, data.exists.
    """
    targets = {name: out / f"{name}.csv" for name in HOSPITALS}
    if any(target.exists() for target in targets.values()):
        raise DataRefusedError(
            "the folder for the heart tables already holds some of them.",
            code="data.exists",
            remedy="Name another folder or remove them.",
            diagnostics=str(out),
        )
    texts = {name: _table(folder, name, keep_incomplete=keep_incomplete) for name in HOSPITALS}
    out.mkdir(parents=True, exist_ok=True)
    for name, target in targets.items():
        target.write_text(texts[name], encoding="utf-8")
    return targets


def _table(folder: Path, hospital: str, *, keep_incomplete: bool) -> str:
    path = folder / f"processed.{hospital}.data"
    code = ""
    rows: list[list[str]] = []
    try:
        rows = csv_rows(path)
    except UnusableError as unusable:
        code = unusable.code
    malformed = [number for number, row in enumerate(rows, start=1) if row and not _well_formed(row)]
    if code or malformed or not rows:
        raise DataRefusedError(
            f"processed.{hospital}.data is missing or not as UCI publishes it.",
            code="data.missing" if code else "data.heart-malformed",
            remedy="Give the folder with the four files processed.*.data of the UCI heart disease data.",
            diagnostics=f"{path}: rows {malformed[:20]}",
        )
    kept = [place for place, name in enumerate(_FIELDS) if name not in _LEFT_OUT]
    lines = [",".join(["patient_id", *(_FIELDS[place] for place in kept)])]
    for number, row in enumerate(rows, start=1):
        fields = [_written(_FIELDS[place], row[place].strip()) for place in kept] if row else [""]
        if all(fields) or (row and keep_incomplete):
            lines.append(",".join([f"invented-{hospital}-{number:04d}", *fields]))
    return "\n".join(lines) + "\n"


def _well_formed(row: list[str]) -> bool:
    fields = [text.strip() for text in row]
    if len(fields) != len(_FIELDS) or not all(text == "?" or is_number(text) for text in fields):
        return False
    coded = [
        (name, text) for name, text in zip(_FIELDS, fields, strict=True) if name in _WORDS and text != "?"
    ]
    return fields[-1] != "?" and all(float(text) in dict(_WORDS[name]) for name, text in coded)


def _written(name: str, text: str) -> str:
    """A field as the table has it; empty for a missing one."""
    if text == "?":
        return ""
    if name == "disease":
        return str(int(float(text) > 0))
    if name in _WORDS:
        return dict(_WORDS[name])[int(float(text))]
    return f"{float(text):g}"
