"""Synthetic studies: two dialects, uneven sites, deterministic, invented through and through, learnable."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from adapters.sources.cohort import Cohort
from adapters.sources.dialects import SIZE_PX, Header, Template
from adapters.sources.dicom import DicomSource
from adapters.sources.discovery import discover
from adapters.sources.findings import DataRefusedError
from adapters.sources.phantoms import _patients, phantom, write_phantoms
from policies.data_contract import DataContract

from .conftest import SECRET

SITES = ("hospital-a", "hospital-b", "hospital-c")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantoms")
    write_phantoms(out, sites=SITES, seed=5, patients_per_site=40, public_test_patients=30)
    return out


def load(path: Path, contract: DataContract) -> Cohort:
    return DicomSource(path, site=path.name, secret=SECRET).load(contract)


def test_sites_differ_in_size_vendor_and_prevalence(written: Path, contract: DataContract) -> None:
    found = discover(written)
    assert tuple(found.sites) == SITES and found.public_test == written / "public-test"
    cohorts = [load(path, contract) for path in found.sites.values()]
    assert [cohort.patient_count for cohort in cohorts] == [60, 40, 32]
    assert [set(cohort.facts["modality"]) for cohort in cohorts] == [{"DX"}, {"CR"}, {"DX"}]
    for cohort in cohorts:
        assert set(np.bincount(cohort.patients)) == {1, 2, 3, 4}
        assert set(cohort.labels) == {0, 1}
    public = load(written / "public-test", contract)
    assert public.patient_count == 30 and set(public.facts["modality"]) == {"CR", "DX"}


def test_every_identifier_is_invented_and_belongs_to_one_site(written: Path) -> None:
    owners: dict[str, str] = {}
    uids: set[str] = set()
    for path in (path for path in written.rglob("*") if path.is_file() and path.suffix in ("", ".dcm")):
        data = dcmread(path)
        site = path.relative_to(written).parts[0]
        assert data.PatientID.startswith(f"INVENTED-{site.upper()}-")
        assert str(data.PatientName).startswith("INVENTED^PHANTOM")
        assert data.PatientBirthDate.startswith("1900") and data.StudyDate.startswith("1900")
        assert owners.setdefault(data.PatientID, site) == site
        assert data.SOPInstanceUID == data.file_meta.MediaStorageSOPInstanceUID
        assert data.SOPInstanceUID not in uids and len(data.pixel_array) == SIZE_PX
        uids.add(data.SOPInstanceUID)


def test_the_same_seed_writes_the_same_bytes(written: Path, tmp_path: Path) -> None:
    def digests(folder: Path) -> dict[str, str]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
        }

    write_phantoms(tmp_path / "again", sites=SITES, seed=5, patients_per_site=40, public_test_patients=30)
    write_phantoms(tmp_path / "other", sites=SITES, seed=6, patients_per_site=40, public_test_patients=30)
    assert digests(tmp_path / "again") == digests(written)
    assert digests(tmp_path / "other") != digests(written)


def test_progress_counts_images_and_existing_folders_are_left_alone(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))

    arguments = {"sites": ["one"], "seed": 0, "patients_per_site": 4, "public_test_patients": 2}
    write_phantoms(tmp_path, **arguments, on_progress=progress)  # type: ignore[arg-type]
    assert seen[-1][0] == seen[-1][1] == len(seen)
    with pytest.raises(DataRefusedError) as refused:
        write_phantoms(tmp_path, **arguments)  # type: ignore[arg-type]
    assert refused.value.code == "data.exists"
    assert not list(tmp_path.glob(".*.writing"))


@pytest.mark.parametrize("vendor", ["A", "B"])
def test_a_template_fills_every_placeholder(vendor: str, tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((SIZE_PX, SIZE_PX))
    path = tmp_path / "image"
    path.write_bytes(Template("s", vendor).file(Header(37, 2, "key", "F"), image))  # type: ignore[arg-type]
    data = dcmread(path)
    assert (data.PatientID, str(data.PatientName)) == ("INVENTED-S-00037", "INVENTED^PHANTOM 00037")
    assert data.InstanceNumber == 3 and data.PatientBirthDate == "19000210"
    assert data.PatientSex == "F"
    uids = {data.SOPInstanceUID, data.StudyInstanceUID, data.SeriesInstanceUID}
    assert len(uids) == 3 and all(len(uid) == 44 and uid.is_valid for uid in uids)
    pixels = data.pixel_array / 4095 if vendor == "A" else 1 - (data.pixel_array - 3000) / 20_000
    np.testing.assert_allclose(pixels, image, atol=2e-4)


def test_the_label_shows_in_the_pixels() -> None:
    """Even a linear model on sorted coarse pixels tells the two looks apart."""
    state = np.random.RandomState(0)
    labels = state.randint(0, 2, 300)
    looks = [phantom(int(label), state).reshape(8, 8, 8, 8).mean(axis=(1, 3)).ravel() for label in labels]
    features = np.sort(np.stack(looks), axis=1)
    model = LogisticRegression(C=0.1, max_iter=500).fit(features[:200], labels[:200])
    assert roc_auc_score(labels[200:], model.decision_function(features[200:])) > 0.9


def test_some_patients_look_like_the_other_label() -> None:
    """So that a network that is right about all of them has seen the answers."""
    patients = _patients("s", 0, 2000, 0.5, ("A",))
    assert 0.005 < np.mean([patient.label != patient.appearance for patient in patients]) < 0.03


def test_both_sexes_are_there_and_every_patient_has_one(written: Path, contract: DataContract) -> None:
    for name in SITES:
        cohort = load(written / name, contract)
        female, male, other = np.bincount(cohort.told_apart("sex"), minlength=3)
        assert other == 0 and min(female, male) > cohort.patient_count / 5
