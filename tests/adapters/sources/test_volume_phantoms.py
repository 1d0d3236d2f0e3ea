"""Synthetic volumes: different scanners, one anatomy, and cohorts that pass the example plan's contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapters.sources.cohort import Cohort
from adapters.sources.discovery import discover
from adapters.sources.findings import DataRefusedError
from adapters.sources.volume_phantoms import volume_phantom, write_volume_phantoms
from adapters.sources.volumes import NiftiSource
from policies.data_contract import DataContract, Image
from tasks.validate import validate

from .conftest import SECRET

SITES = ("hospital-a", "hospital-b", "hospital-c", "hospital-d")
CONTRACT = DataContract(
    image=Image(depth_px=16, height_px=16, width_px=16, modalities=("CT",)),
    target="mask",
    labels=(0, 1),
    minimum_patients=3,
    held_out_fraction=0.3,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("volumes")
    write_volume_phantoms(place, sites=SITES, seed=3, patients_per_site=12, public_test_patients=8)
    return place


def load(folder: Path, site: str, contract: DataContract = CONTRACT) -> Cohort:
    return NiftiSource(folder / site, site=site, secret=SECRET).load(contract)


def test_every_scanner_gives_a_cohort_with_lesions_that_are_brighter(folder: Path) -> None:
    found = discover(folder)
    assert found.source == "nifti" and tuple(found.sites) == SITES and found.public_test is not None
    counts = []
    for site in (*SITES, "public-test"):
        cohort = load(folder, site)
        assert validate(cohort, CONTRACT).passed
        targets = cohort.targets(CONTRACT)
        assert 0.003 < targets.mean() < 0.1
        assert cohort.inputs[targets == 1].mean() > cohort.inputs[targets == 0].mean() + 0.3
        assert len(cohort.inputs) >= cohort.patient_count
        counts.append(cohort.patient_count)
    assert counts == [18, 12, 10, 8, 8]


def test_labels_say_whether_a_patient_has_a_lesion(folder: Path) -> None:
    labelled = load(folder, "hospital-a", CONTRACT.model_copy(update={"target": "label"}))
    assert np.array_equal(labelled.labels, load(folder, "hospital-a").labels)


def test_everything_follows_from_the_seed(folder: Path, tmp_path: Path) -> None:
    for seed in (3, 4):
        write_volume_phantoms(
            tmp_path / f"{seed}", sites=SITES, seed=seed, patients_per_site=3, public_test_patients=1
        )
    again, other = (load(tmp_path / f"{seed}", "hospital-b") for seed in (3, 4))
    first = load(folder, "hospital-b").inputs
    same = [any(np.array_equal(volume, known) for known in first) for volume in again.inputs]
    assert all(same) and not np.array_equal(again.inputs[0], other.inputs[0])


def test_nothing_is_written_over(folder: Path) -> None:
    with pytest.raises(DataRefusedError) as refused:
        write_volume_phantoms(folder, sites=("hospital-z", "hospital-a"), seed=0)
    assert refused.value.code == "data.exists" and not (folder / "hospital-z").exists()
    with pytest.raises(ValueError, match="differ"):
        write_volume_phantoms(folder, sites=("a", "a"), seed=0)


def test_without_lesions_there_is_no_mask() -> None:
    _, mask = volume_phantom(
        np.random.default_rng(0), shape=(8, 9, 10), lesions=0, noise_std=0.1, contrast=1.0
    )
    assert mask.shape == (8, 9, 10) and not mask.any()
