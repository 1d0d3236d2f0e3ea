"""A folder of DICOM files as a site's cohort.

    FOLDER/labels.csv          patient_id,label
    FOLDER/**/*                one grey-scale image a file, with or without extension

Skipped: labels.csv, *.txt, *.json, DICOMDIR, names that begin with a dot, and links to files of the same
folder. Everything else must be a DICOM image that the contract allows; what is not is counted and refused, as
dropping it silently would change the cohort behind the steward's back. Walking, reading and joining with the
labels lives here; pixel rules live in `dicom_image`.

pydicom repeats header values in its warnings, log lines and exceptions: all three are silenced, and a failed
file is known by its path in the diagnostics alone.
"""

from __future__ import annotations

import logging
import os
import stat
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from adapters.sources import dicom_image
from adapters.sources.assembly import assemble, require_images
from adapters.sources.cohort import Cohort, canonical_identifier
from adapters.sources.findings import DataRefusedError, Findings, UnusableError
from adapters.sources.labels import FILE_NAME as LABELS
from adapters.sources.labels import read_labels
from adapters.sources.resize import area_resize
from policies.data_contract import DataContract

LARGEST_BYTES: Final = 2**30
"""Of a file, and of what it inflates to."""
_OF_THE_PATIENT = ("Modality", "PatientID", "PatientSex")
_SKIPPED_NAMES = {LABELS, "DICOMDIR"}
_SKIPPED_SUFFIXES = {".txt", ".json"}
_PYDICOM_LOGGERS = ("pydicom", "pydicom.pixels.decoders.base", "pydicom.pixels.utils")


class DicomSource:
    """Every DICOM image below `folder`, for site `site`; `secret` keys its patients (16 bytes or more)."""

    def __init__(self, folder: Path, *, site: str, secret: bytes) -> None:
        self._folder = folder
        self._site = site
        self._secret = secret

    def load(self, contract: DataContract) -> Cohort:
        """Read all images, area-resized to the contract's size.

        Raises DataRefusedError: data.kind, data.missing, data.empty, data.symlink, data.dicom-*,
        data.memory, data.patient-missing, data.modality, data.labels-*, data.secret. Everything wrong with files,
        patients and labels is collected first.
        """
        require_images(contract, site=self._site)
        folder, findings = self._existing(), Findings(self._site)
        files = _image_files(folder, findings)
        if not files:
            findings.refuse()
            raise DataRefusedError(
                f"site {self._site}: no DICOM file in its folder.",
                code="data.empty",
                remedy="Put one DICOM file an image into it, in any sub-folders.",
                diagnostics=str(folder),
            )
        labels = read_labels(folder, site=self._site, allowed=contract.labels, findings=findings)
        images: list[NDArray[np.float32]] = []
        identifiers: list[str] = []
        modalities: list[str] = []
        bits: list[int] = []
        sexes: list[str] = []
        with silent_pydicom():
            for path in files:
                try:
                    image, stored, identifier, modality, sex = _read(path, contract)
                except UnusableError as unusable:
                    findings.add(unusable.code, f"{path} {unusable.detail}".rstrip())
                    continue
                except MemoryError:
                    findings.add("data.memory", str(path))
                    continue
                images.append(image)
                bits.append(stored)
                identifiers.append(identifier)
                modalities.append(modality)
                sexes.append(sex)
        for identifier in sorted(set(identifiers) - labels.keys()):
            findings.add("data.labels-missing", identifier)
        findings.refuse()
        return assemble(
            contract,
            site=self._site,
            secret=self._secret,
            inputs=np.stack(images)[:, None],
            labels=[labels[identifier] for identifier in identifiers],
            identifiers=identifiers,
            modalities=modalities,
            bits=bits,
            sexes=sexes,
        )

    def _existing(self) -> Path:
        if not self._folder.is_dir():
            raise DataRefusedError(
                f"site {self._site}: its data folder is missing.",
                code="data.missing",
                remedy="Check the path, and that the share is mounted.",
                diagnostics=str(self._folder),
            )
        return self._folder.resolve()


def _image_files(folder: Path, findings: Findings) -> list[Path]:
    """Regular files below `folder` that should be images, sorted. A folder that cannot be listed is a finding."""

    def unlisted(error: OSError) -> None:
        findings.add("data.dicom-unreadable", f"{error.filename}: {type(error).__name__}")

    files: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=unlisted):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in [*folders, *names]:
            path = Path(parent, name)
            if name.startswith("."):
                continue
            if path.is_symlink():
                if not path.resolve().is_relative_to(folder):
                    findings.add("data.symlink", str(path))
                continue
            if name in folders or name in _SKIPPED_NAMES or path.suffix.lower() in _SKIPPED_SUFFIXES:
                continue
            if stat.S_ISREG(path.lstat().st_mode):
                files.append(path)
            else:  # a pipe would block the reader for ever
                findings.add("data.dicom-unreadable", f"{path}: not a regular file")
    return sorted(files)


def _read(path: Path, contract: DataContract) -> tuple[NDArray[np.float32], int, str, str, str]:
    """(image (height_px, width_px), bits stored, identifier, modality, sex as it is given). Raises UnusableError."""
    dataset, (modality, identifier, sex) = parsed(path)
    if str(modality).strip() not in contract.imaged().modalities:
        raise UnusableError("data.modality")
    if not isinstance(identifier, str) or not canonical_identifier(identifier):
        raise UnusableError("data.patient-missing")
    image, bits = dicom_image.scaled_image(dataset)
    resized = area_resize(image, height_px=contract.imaged().height_px, width_px=contract.imaged().width_px)
    return resized, bits, canonical_identifier(identifier), str(modality).strip(), str(sex)


# A pydicom Dataset is untyped here (its stubs are not followed), and goes to `dicom_image` alone.
def parsed(path: Path) -> tuple[Any, tuple[object, object, object]]:
    """A data set with pixels that are not decoded yet, and its (modality, patient's identifier, sex), which may be
    anything. Raises UnusableError: data.dicom-size, data.dicom-unreadable."""
    from pydicom import dcmread

    code, detail = "data.dicom-unreadable", ""
    try:
        if path.stat().st_size > LARGEST_BYTES or _inflates_too_far(path):
            code = "data.dicom-size"
        else:
            dataset = dcmread(path, specific_tags=dicom_image.TAGS)
            modality, identifier, sex = (dataset.get(name, "") for name in _OF_THE_PATIENT)
            if "PixelData" in dataset:
                return dataset, (modality, identifier, sex)
            detail = "no pixel data"  # a report, or a file cut before them
    except MemoryError:  # not the file's fault: a code of its own
        raise
    except Exception as error:  # whatever a damaged file makes the parser raise
        detail = type(error).__name__
    raise UnusableError(code, detail)


def _inflates_too_far(path: Path) -> bool:
    """Whether a deflated data set (PS3.5, A.5) has more than LARGEST_BYTES. pydicom inflates it as a whole: it is
    inflated once before, a megabyte at a time, and thrown away."""
    from pydicom.filereader import read_dataset, read_preamble

    with path.open("rb") as file:
        read_preamble(file, force=False)
        about = read_dataset(
            file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag >> 16 != 2
        )
        for element in list(about.elements())[:1]:
            about[element.tag]  # raises where pydicom would go on to read all this in another way
        if str(about.get("TransferSyntaxUID", "")) != dicom_image.DEFLATED:
            return False
        inflating, size, waiting = zlib.decompressobj(-zlib.MAX_WBITS), 0, b""
        while waiting or (waiting := file.read(1 << 20)):
            size += len(inflating.decompress(waiting, 1 << 20))
            waiting = inflating.unconsumed_tail
            if size > LARGEST_BYTES or inflating.eof:
                break
        return size > LARGEST_BYTES


@contextmanager
def silent_pydicom() -> Iterator[None]:
    """No warning, no log line and no validation of values that are about to be checked here anyway."""
    from pydicom import config

    loggers = [logging.getLogger(name) for name in _PYDICOM_LOGGERS]
    disabled = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        with warnings.catch_warnings(), config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, was in zip(loggers, disabled, strict=True):
            logger.disabled = was
