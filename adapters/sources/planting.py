"""A few items of a site's own source, copied under markers: patients, file names and fields that nobody else has.

What is planted is read by the adapter that reads the source itself; whatever carries a marker afterwards would carry
a patient's identifier. The copy lies in a folder of the caller's, which removes it. Looking for markers is
`tasks.rollout.canaries`.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Final

import numpy as np

from adapters.home import SourceConfig
from adapters.sources.dicom import silent_pydicom
from adapters.sources.labels import FILE_NAME as LABELS
from adapters.sources.table_rows import csv_rows, table_rows
from adapters.sources.volumes import FILE_NAME as PATIENTS
from policies.data_contract import DataContract

ITEMS: Final = 3
_BEYOND_HEADER: Final = "note"


def plant(config: SourceConfig, source: Path, out: Path, contract: DataContract, *, marker: str) -> Path:
    """Copy the first items of `source` below `out`, every patient marked; the path of the copy. Raises whatever a
    source that cannot be read raises: it opens before this."""
    planted = out / marker
    match config.kind:
        case "dicom":
            planted.mkdir()
            _dicom(source, planted, contract, marker)
        case "nifti":
            planted.mkdir()
            _nifti(source, planted, marker)
        case "npz":
            planted = planted.with_suffix(".npz")
            _npz(source, planted, marker)
        case "table":
            patient = "patient_id" if config.table is None else config.table.patient_column
            planted = planted.with_suffix(".csv")
            _table(source, planted, patient, marker)
    return planted


def spoil(config: SourceConfig, planted: Path, *, marker: str) -> None:
    """Make the copy one that its adapter refuses, and that names the marker where it is at fault."""
    match config.kind:
        case "dicom":
            (planted / f"{marker}-spoilt.dcm").write_bytes(f"no image of {marker}".encode())
        case "npz":
            planted.write_bytes(f"PK no shard of {marker}".encode())
        case "nifti" | "table":
            path = planted / PATIENTS if planted.is_dir() else planted
            with path.open("a") as file:
                file.write(f"{marker}\n")


def _dicom(source: Path, out: Path, contract: DataContract, marker: str) -> None:
    from pydicom import dcmread

    patients = list[str]()
    with silent_pydicom():
        for path in sorted(path for path in source.rglob("*") if path.is_file()):
            try:
                data = dcmread(path)
            except Exception:  # noqa: S112 - labels.csv, and whatever else lies there
                continue
            patient = f"{marker}-{len(patients)}"
            data.PatientID, data.PatientName, data.PatientComments = patient, f"{marker}^Name", marker
            data.save_as(out / f"{patient}.dcm")
            patients.append(patient)
            if len(patients) == ITEMS:
                break
    rows = [["patient_id", "label"], *([patient, str(contract.labels[0])] for patient in patients)]
    _write(out / LABELS, rows)


def _nifti(source: Path, out: Path, marker: str) -> None:
    header, *rows = csv_rows(source / PATIENTS)
    names = [text.strip() for text in header]
    copied = [[*header, _BEYOND_HEADER]]
    for number, row in enumerate(rows[:ITEMS]):
        fields = list(row)
        for column in ("file", "mask"):
            if column in names and fields[names.index(column)].strip():
                at = names.index(column)
                name = f"{marker}-{number}-{column}{''.join(Path(fields[at]).suffixes[-2:])}"
                shutil.copy(source / fields[at].strip(), out / name)
                fields[at] = name
        fields[names.index("patient_id")] = f"{marker}-{number}"
        copied.append([*fields, marker])
    _write(out / PATIENTS, copied)


def _npz(source: Path, out: Path, marker: str) -> None:
    with np.load(source, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    count = len(arrays["patients"])
    some = {
        name: array[:ITEMS] if array.ndim and len(array) == count else array for name, array in arrays.items()
    }
    some["patients"] = np.array([f"{marker}-{number}" for number in range(len(some["patients"]))])
    with out.open("wb") as file:
        np.savez(file, **some)


def _table(source: Path, out: Path, patient_column: str, marker: str) -> None:
    header, *rows = table_rows(source)
    at = [text.strip() for text in header].index(patient_column)
    copied = [[*header, _BEYOND_HEADER]]
    for number, row in enumerate(rows[:ITEMS]):
        copied.append([*row[:at], f"{marker}-{number}", *row[at + 1 :], marker])
    _write(out, copied)


def _write(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
