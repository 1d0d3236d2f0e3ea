"""What a `--data` path holds, and the source that reads one site's part of it.

    PATH/<site>/labels.csv + DICOM files     one sub-folder a site; `public-test` is the optional public test set
    PATH/<site>/patients.csv + NIfTI files   the same of volumes or slices
    PATH/<site>.csv or <site>.parquet        one table of features a site; likewise
    PATH.npz                                 a MedMNIST file, to be split by `medmnist.write_shards`

A sub-folder becomes a site's public name, so one without labels.csv or patients.csv is refused by count: it may be a
patient's folder, named after the patient. Only names and kinds are looked at here; reading lives in `dicom`,
`volumes`, `feature_table` and `medmnist`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters.home import FeatureLayout
from adapters.sources.cohort import CohortSource
from adapters.sources.dicom import DicomSource
from adapters.sources.feature_table import FeatureTableSource
from adapters.sources.findings import DataRefusedError
from adapters.sources.labels import FILE_NAME as LABELS
from adapters.sources.medmnist import NpzSource
from adapters.sources.volumes import FILE_NAME as PATIENTS
from adapters.sources.volumes import NiftiSource

PUBLIC_TEST = "public-test"

_SITE_NAME = re.compile(r"^[a-z][a-z0-9-]{0,62}$")
_SKIPPED_SUFFIXES = {".txt", ".json", ".md", ".csv"}

SourceKind = Literal["dicom", "npz", "nifti", "table"]
_TABLES = {".csv", ".parquet"}


@dataclass(frozen=True, slots=True)
class Discovery:
    """`sites`: what is each site's, by name, in order, and the public test set if there is one, all of one kind of
    source. `medmnist`: a file that belongs to no site yet; `sites` is empty and the test set is inside."""

    kind: Literal["sites", "medmnist"]
    source: SourceKind
    path: Path
    sites: Mapping[str, Path]
    public_test: Path | None = None


def open_source(
    kind: SourceKind, path: Path, *, site: str, secret: bytes, layout: FeatureLayout | None = None
) -> CohortSource:
    """The source for one site: a folder of DICOM files (`dicom`) or of NIfTI files (`nifti`), a table of features in
    that layout (`table`), or a shard (`npz`). Nothing is read yet."""
    if kind == "dicom":
        return DicomSource(path, site=site, secret=secret)
    if kind == "nifti":
        return NiftiSource(path, site=site, secret=secret)
    if kind == "table":
        return FeatureTableSource(path, site=site, secret=secret, layout=layout)
    return NpzSource(path, site=site, secret=secret)


def source_kind(path: Path) -> SourceKind | None:
    """The kind of one site's path, from names alone; None for a file that is of none."""
    if path.is_dir():
        return "nifti" if (path / PATIENTS).exists() else "dicom"
    suffix = path.suffix.lower()
    return "npz" if suffix == ".npz" else "table" if suffix in _TABLES else None


def discover(path: Path) -> Discovery:
    """Say what `path` holds, from names alone.

    Raises DataRefusedError: data.missing, data.empty, data.kind (neither a folder nor .npz, or sites of more than one
    kind), data.layout (sub-folders or loose files that no site owns), data.symlink.
    """
    if path.is_file():
        if path.suffix.lower() == ".npz":
            return Discovery("medmnist", "npz", path, {})
        raise _refused(
            "data.kind", "the data path is neither a folder nor an .npz file.",
            "Give a folder with one sub-folder of DICOM or NIfTI files or one table per site, or a MedMNIST .npz.",
            str(path),
        )  # fmt: skip
    if not path.is_dir():
        raise _refused("data.missing", "the data path does not exist.", "Check the path.", str(path))
    folders, tables = _entries(path)
    sites = folders or tables
    if not set(sites) - {PUBLIC_TEST}:
        raise _refused(
            "data.empty", "the data folder holds no site.",
            "Put one sub-folder of DICOM files with a labels.csv, or of NIfTI files with a patients.csv, or one .csv "
            "or .parquet table per site into it.", str(path),
        )  # fmt: skip
    kinds = {source_kind(place) for place in sites.values()}
    kind = kinds.pop()
    if kinds or kind is None:
        raise _refused(
            "data.kind", "the data folder holds sites of more than one kind of source.",
            "Found such a federation with `wardround federation new`, or give one kind.", str(path),
        )  # fmt: skip
    public_test = sites.pop(PUBLIC_TEST, None)
    return Discovery("sites", kind, path, sites, public_test)


def _entries(path: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """The sub-folders that are sites, and the tables that are if there are no sub-folders; refuses all the rest."""
    folders: dict[str, Path] = {}
    tables: dict[str, Path] = {}
    links, others, twice = list[str](), list[str](), list[str]()
    for entry in sorted(path.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_symlink():
            links.append(str(entry))
        elif entry.is_dir():
            listed = (entry / LABELS).exists() or (entry / PATIENTS).exists()
            if (_SITE_NAME.match(entry.name) and listed) or entry.name == PUBLIC_TEST:
                folders[entry.name] = entry
            else:
                others.append(str(entry))
        elif entry.name in (LABELS, PATIENTS):
            others.append(str(entry))
        elif entry.suffix.lower() in _TABLES and _SITE_NAME.match(entry.stem):
            twice += [str(entry)] if entry.stem in tables else []
            tables[entry.stem] = entry
        elif entry.suffix.lower() not in _SKIPPED_SUFFIXES:
            others.append(str(entry))
    if links:
        raise _refused(
            "data.symlink", f"the data folder holds links: {len(links)}.",
            "Replace them by the folders that they point to.", "\n".join(links),
        )  # fmt: skip
    others += twice if not folders else []
    if others:
        raise _refused(
            "data.layout", f"entries of the data folder that are not a site's: {len(others)}.",
            "Each site is a sub-folder named like hospital-a (lower case, digits, hyphens) with DICOM files and a "
            "labels.csv or NIfTI files and a patients.csv, or a table named like hospital-a.csv; give their parent "
            "folder.", "\n".join(others),
        )  # fmt: skip
    return folders, tables


def _refused(code: str, message: str, remedy: str, diagnostics: str) -> DataRefusedError:
    return DataRefusedError(message, code=code, remedy=remedy, diagnostics=diagnostics)
