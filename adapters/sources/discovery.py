"""What a `--data` path holds, and the source that reads one site's part of it.

    PATH/<site>/labels.csv + DICOM files     one sub-folder a site; `public-test` is the optional public test set
    PATH.npz                                 a MedMNIST file, to be split by `medmnist.write_shards`

A sub-folder becomes a site's public name, so one without labels.csv is refused by count: it may be a patient's
folder, named after the patient. Only names and kinds are looked at here; reading lives in `dicom` and `medmnist`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters.sources.cohort import CohortSource
from adapters.sources.dicom import DicomSource
from adapters.sources.findings import DataRefusedError
from adapters.sources.labels import FILE_NAME as LABELS
from adapters.sources.medmnist import NpzSource

PUBLIC_TEST = "public-test"

_SITE_NAME = re.compile(r"^[a-z][a-z0-9-]{0,62}$")
_SKIPPED_SUFFIXES = {".txt", ".json", ".md", ".csv"}

SourceKind = Literal["dicom", "npz"]


@dataclass(frozen=True, slots=True)
class Discovery:
    """`dicom-sites`: the folders of the sites by name, in order, and of the public test set if there is one.
    `medmnist`: a file that belongs to no site yet; `sites` is empty and the test set is inside."""

    kind: Literal["dicom-sites", "medmnist"]
    path: Path
    sites: Mapping[str, Path]
    public_test: Path | None = None


def open_source(kind: SourceKind, path: Path, *, site: str, secret: bytes) -> CohortSource:
    """The source for one site: a folder of DICOM files (`dicom`) or a shard (`npz`). Nothing is read yet."""
    if kind == "dicom":
        return DicomSource(path, site=site, secret=secret)
    return NpzSource(path, site=site, secret=secret)


def discover(path: Path) -> Discovery:
    """Say what `path` holds, from names alone.

    Raises DataRefusedError: data.missing, data.empty, data.kind (neither a folder nor .npz), data.layout
    (sub-folders or loose files that no site owns), data.symlink.
    """
    if path.is_file():
        if path.suffix.lower() == ".npz":
            return Discovery("medmnist", path, {})
        raise _refused(
            "data.kind", "the data path is neither a folder nor an .npz file.",
            "Give a folder with one sub-folder of DICOM files per site, or a MedMNIST .npz.", str(path),
        )  # fmt: skip
    if not path.is_dir():
        raise _refused("data.missing", "the data path does not exist.", "Check the path.", str(path))
    sites: dict[str, Path] = {}
    links: list[str] = []
    others: list[str] = []
    for entry in sorted(path.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_symlink():
            links.append(str(entry))
        elif entry.is_dir():
            usable = _SITE_NAME.match(entry.name) and (entry / LABELS).exists()
            if usable or entry.name == PUBLIC_TEST:
                sites[entry.name] = entry
            else:
                others.append(str(entry))
        elif entry.suffix.lower() not in _SKIPPED_SUFFIXES or entry.name == LABELS:
            others.append(str(entry))
    if links:
        raise _refused(
            "data.symlink", f"the data folder holds links: {len(links)}.",
            "Replace them by the folders that they point to.", "\n".join(links),
        )  # fmt: skip
    if others:
        raise _refused(
            "data.layout", f"entries of the data folder that are not a site's folder: {len(others)}.",
            "Each site is a sub-folder named like hospital-a (lower case, digits, hyphens) with its DICOM files "
            "and a labels.csv; give their parent folder.", "\n".join(others),
        )  # fmt: skip
    public_test = sites.pop(PUBLIC_TEST, None)
    if not sites:
        raise _refused(
            "data.empty", "the data folder holds no site.",
            "Put one sub-folder of DICOM files with a labels.csv per site into it.", str(path),
        )  # fmt: skip
    return Discovery("dicom-sites", path, sites, public_test)


def _refused(code: str, message: str, remedy: str, diagnostics: str) -> DataRefusedError:
    return DataRefusedError(message, code=code, remedy=remedy, diagnostics=diagnostics)
