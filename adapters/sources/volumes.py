"""A folder of NIfTI files as a site's cohort: volumes or single slices, with labels or masks.

    FOLDER/patients.csv    file,patient_id,label,modality            where labels are learned
                           file,patient_id,mask,modality             where masks are
    FOLDER/**/*            .nii or .nii.gz, named by patients.csv relative to the folder

UTF-8 (a byte-order mark is accepted), a header in any order, one row an image; `sex` (F, M, anything else) may be a
column too, and others are not looked at. A patient may have several images. Files that patients.csv does not name are
not opened. Walking the list and joining it with what was read lives here; what a file must be, in `nifti`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adapters.sources import nifti
from adapters.sources.assembly import assemble
from adapters.sources.cohort import Cohort, canonical_identifier
from adapters.sources.findings import DataRefusedError, Findings, UnusableError
from adapters.sources.table_rows import NOT_OPENED, csv_rows
from policies.data_contract import DataContract, Image

FILE_NAME: Final = "patients.csv"
_INTEGER: Final = re.compile(r"-?[0-9]{1,3}")

Row = Mapping[str, str]


class NiftiSource:
    """Every image that FOLDER/patients.csv names, for site `site`; `secret` keys its patients (16 bytes or more)."""

    def __init__(self, folder: Path, *, site: str, secret: bytes) -> None:
        self._folder, self._site, self._secret = folder, site, secret

    def load(self, contract: DataContract) -> Cohort:
        """Read all images, resized to the contract's shape.

        Raises DataRefusedError: data.kind (a plan that learns from a table), data.missing, data.patients-malformed,
        data.empty, data.secret, or everything wrong with rows and files (data.patients-*, data.patient-missing,
        data.volume-*, data.mask-*, data.modality, data.labels-*), collected first.
        """
        if contract.image is None:
            raise DataRefusedError(
                f"site {self._site}: the plan learns from a table, and the site's source is NIfTI files.",
                code="data.kind",
                remedy="Name a table, or use a plan with data.image.",
            )
        findings = Findings(self._site)
        inputs: list[NDArray[np.float32]] = []
        masks: list[NDArray[np.uint8]] = []
        used: list[Row] = []
        labels: list[int] = []
        bits: list[int] = []
        seen: set[Path] = set()
        for number, row in self._rows(contract, findings):
            where = f"{self._folder / FILE_NAME} row {number}"
            try:
                path = self._path(row["file"])
                if path in seen:
                    raise UnusableError("data.patients-twice")
                seen.add(path)
                label = _checked(row, contract, contract.image)
                grid = nifti.read_grid(path, dimensions=len(contract.shape) - 1)
                if contract.target == "mask":
                    drawn = nifti.read_grid(self._path(row["mask"]), dimensions=len(contract.shape) - 1)
                    mask = nifti.mask_of(drawn, grid, contract.shape[1:], labels=contract.labels)
                    masks.append(mask[None])
                inputs.append(nifti.scaled(grid, contract.shape[1:])[None])
            except UnusableError as unusable:
                findings.add(unusable.code, f"{where} {unusable.detail}".rstrip())
                continue
            except MemoryError:
                findings.add("data.memory", where)
                continue
            used.append(row)
            labels.append(label)
            bits.append(grid.bits)
        findings.refuse()
        return assemble(
            contract,
            site=self._site,
            secret=self._secret,
            inputs=np.stack(inputs) if inputs else np.zeros((0, *contract.shape), np.float32),
            labels=labels,
            identifiers=[row["patient_id"] for row in used],
            modalities=[row["modality"] for row in used],
            bits=bits,
            sexes=[row.get("sex", "") for row in used],
            masks=np.stack(masks) if masks else None,
        )

    def _rows(self, contract: DataContract, findings: Findings) -> list[tuple[int, Row]]:
        """The rows of patients.csv by number; those with another number of fields are findings."""
        path = self._folder / FILE_NAME
        header, rows = list[str](), list[list[str]]()
        code = detail = ""
        try:
            header, *rows = csv_rows(path) or [[]]
        except UnusableError as unusable:
            code, detail = unusable.code, unusable.detail
        if code == NOT_OPENED:
            raise DataRefusedError(
                f"site {self._site}: its data folder or patients.csv in it is missing or cannot be opened.",
                code="data.missing",
                remedy="Check the path, that the share is mounted, and that patients.csv lists the images.",
                diagnostics=f"{path}: {detail}",
            )
        names = [name.strip().lower() for name in header]
        wanted = ("file", "patient_id", contract.target, "modality")
        if any(names.count(name) != 1 for name in wanted):
            raise DataRefusedError(
                f"site {self._site}: patients.csv is not UTF-8 CSV with one column each for {', '.join(wanted)}.",
                code="data.patients-malformed",
                remedy="Save it as UTF-8 CSV, separated by commas, with these columns.",
                diagnostics=f"{path} {detail}".rstrip(),
            )
        found: list[tuple[int, Row]] = []
        for number, fields in enumerate(rows, start=2):
            if not any(text.strip() for text in fields):
                continue
            if len(fields) != len(header):
                findings.add("data.patients-malformed", f"{path} row {number}")
                continue
            found.append((number, dict(zip(names, (text.strip() for text in fields), strict=True))))
        return found

    def _path(self, name: str) -> Path:
        """The file of that name within the folder. Raises UnusableError: data.volume-path, -missing, -unreadable."""
        folder = self._folder.resolve()
        try:
            path = (folder / name).resolve()
            there = path.is_file()  # a pipe would block the reader for ever
        except (OSError, ValueError, RuntimeError):  # a name that no file can have, or a loop of links
            path, there = folder, False
        if not path.is_relative_to(folder):
            raise UnusableError("data.volume-path")
        if not there:
            raise UnusableError("data.volume-missing")
        if not path.name.lower().endswith(nifti.SUFFIXES):
            raise UnusableError("data.volume-unreadable", "neither .nii nor .nii.gz")
        return path


def _checked(row: Row, contract: DataContract, image: Image) -> int:
    """The row's label, the first one where masks are learned. Raises UnusableError: data.patient-missing,
    data.modality, data.labels-value, data.mask-missing."""
    if not canonical_identifier(row["patient_id"]):
        raise UnusableError("data.patient-missing")
    if row["modality"] not in image.modalities:
        raise UnusableError("data.modality")
    if contract.target == "mask":
        if not row["mask"]:
            raise UnusableError("data.mask-missing")
        return contract.labels[0]
    if not _INTEGER.fullmatch(row["label"]) or int(row["label"]) not in contract.labels:
        raise UnusableError("data.labels-value")
    return int(row["label"])
