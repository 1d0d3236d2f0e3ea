"""What a data path holds: sites, a MedMNIST file, or a refusal that says what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from adapters.sources.dicom import DicomSource
from adapters.sources.discovery import discover, open_source, source_kind
from adapters.sources.feature_table import FeatureTableSource
from adapters.sources.findings import DataRefusedError
from adapters.sources.medmnist import NpzSource
from adapters.sources.volumes import NiftiSource

from .conftest import MARKER, SECRET, WriteSite, public_surface


def refused_code(path: Path) -> str:
    with pytest.raises(DataRefusedError) as refused:
        discover(path)
    assert refused.value.remedy and refused.value.kind == "input"
    assert MARKER not in public_surface(refused.value)
    return refused.value.code


def test_sites_and_public_test(write_site: WriteSite, tmp_path: Path) -> None:
    for name in ("hospital-b", "hospital-a", "public-test"):
        write_site(site=name, patients=1, images=1)
    (tmp_path / "README.txt").write_text("synthetic")
    (tmp_path / ".cache").mkdir()
    found = discover(tmp_path)
    assert (found.kind, found.source) == ("sites", "dicom") and list(found.sites) == [
        "hospital-a",
        "hospital-b",
    ]
    assert found.public_test == tmp_path / "public-test"


def test_a_medmnist_file(tmp_path: Path) -> None:
    (tmp_path / "x.NPZ").write_bytes(b"looked into later")
    assert discover(tmp_path / "x.NPZ").kind == "medmnist"


def test_what_is_missing_or_empty(tmp_path: Path, write_site: WriteSite) -> None:
    assert refused_code(tmp_path / MARKER) == "data.missing"
    assert refused_code(tmp_path) == "data.empty"
    write_site(site="public-test", patients=1)
    assert refused_code(tmp_path) == "data.empty"
    (tmp_path / f"{MARKER}.csv").write_text("")
    assert refused_code(tmp_path / f"{MARKER}.csv") == "data.kind"


def test_a_single_site_is_told_to_give_its_parent(write_site: WriteSite) -> None:
    assert refused_code(write_site()) == "data.layout"


def test_folders_that_may_be_named_after_patients_are_counted_not_named(
    write_site: WriteSite, tmp_path: Path
) -> None:
    write_site()
    (tmp_path / MARKER).mkdir()
    (tmp_path / MARKER.split("^")[0].lower()).mkdir()  # a fine site name, but without labels.csv
    (tmp_path / f"{MARKER}.dcm").write_bytes(b"")
    with pytest.raises(DataRefusedError) as refused:
        discover(tmp_path)
    assert refused.value.code == "data.layout" and ": 3." in refused.value.public_message
    assert "zzcanary" not in public_surface(refused.value).lower()
    assert MARKER in refused.value.diagnostics()


def test_a_linked_site_is_refused(write_site: WriteSite, tmp_path: Path) -> None:
    folder = write_site()
    (tmp_path / "hospital-b").symlink_to(folder)
    assert refused_code(tmp_path) == "data.symlink"


def test_tables_and_volumes(tmp_path: Path, write_site: WriteSite) -> None:
    tables, volumes = tmp_path / "tables", tmp_path / "volumes"
    tables.mkdir()
    for name in ("hospital-b.csv", "hospital-a.parquet", "public-test.csv", "README.csv"):
        (tables / name).write_text("looked into later")
    found = discover(tables)
    assert (found.source, list(found.sites)) == ("table", ["hospital-a", "hospital-b"])
    assert found.public_test == tables / "public-test.csv"
    (tables / "hospital-a.csv").write_text("which of the two?")
    assert refused_code(tables) == "data.layout"
    for name in ("hospital-a", "public-test"):
        (volumes / name).mkdir(parents=True)
        (volumes / name / "patients.csv").write_text("looked into later")
    found = discover(volumes)
    assert (found.source, list(found.sites)) == ("nifti", ["hospital-a"])
    shutil.move(write_site(site="hospital-b", patients=1), volumes / "hospital-b")
    assert refused_code(volumes) == "data.kind"


def test_sources_by_kind(tmp_path: Path) -> None:
    assert isinstance(open_source("dicom", tmp_path, site="a", secret=SECRET), DicomSource)
    assert isinstance(open_source("npz", tmp_path, site="a", secret=SECRET), NpzSource)
    assert isinstance(open_source("nifti", tmp_path, site="a", secret=SECRET), NiftiSource)
    assert isinstance(open_source("table", tmp_path, site="a", secret=SECRET), FeatureTableSource)
    kinds = {name: source_kind(tmp_path / name) for name in ("a.npz", "a.csv", "a.PARQUET", "a.txt", "")}
    assert list(kinds.values()) == ["npz", "table", "table", None, "dicom"]
