"""Synthetic DICOM studies: MONAI's phantom generator behind two vendors' dialects, for demos and tests.

    OUT/<site>/labels.csv, OUT/<site>/<patient>/<image>.dcm        patients of that site
    OUT/public-test/...                                            patients of no site, for a public test set

Nothing here is a patient: names, identifiers and birth dates (all in 1900) are invented and say so. A site's
studies follow from the seed, its name, its number of patients and its place in the list. Label 1 shows several
large lesions, label 0 none to a few small ones, both over anatomy-like circles and noise; a few patients look
like the other label, so that no network is perfect. How an image is filed lives in `dialects`, reading in
`dicom`; MONAI is imported on use, as it takes seconds.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adapters.sources.dialects import SIZE_PX, Header, Template, Vendor, identifier
from adapters.sources.findings import DataRefusedError

PUBLIC_TEST = "public-test"
PUBLIC_TEST_PATIENTS = 300

_SITE_SIZES = (1.5, 1.0, 0.8, 0.7)  # of patients_per_site, in turn, so that the mean is patients_per_site
_PREVALENCE = (0.50, 0.35, 0.60, 0.40)
_STUDY_SIZES = (0.4, 0.3, 0.2, 0.1)  # share of patients with 1, 2, 3, 4 images: 2 on average
_MISLEADING = 0.015  # share of patients whose images look like the other label
_NOISE_STD = 0.13


@dataclass(frozen=True, slots=True)
class _Patient:
    number: int
    label: int
    appearance: int
    """The label that the images look like."""
    images: int
    sex: Literal["F", "M"]
    vendor: Vendor
    entropy: tuple[int, ...]


def write_phantoms(
    out: Path,
    *,
    sites: Sequence[str],
    seed: int,
    patients_per_site: int = 300,
    public_test_patients: int = PUBLIC_TEST_PATIENTS,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write one folder a site and the public test set below `out`.

    `patients_per_site` is the mean over the sites, whose sizes differ. `on_progress(done, total)` counts
    images. Each folder appears whole or not at all.
    Raises DataRefusedError (data.exists) if one of the folders is there already.
    """
    names = [*sites, PUBLIC_TEST]
    if len(set(names)) != len(names):
        raise ValueError("sites must differ from each other and from public-test")
    if any((out / name).exists() for name in names):
        raise DataRefusedError(
            "the folder for synthetic studies already holds some of them.",
            code="data.exists",
            remedy="Name another folder or remove them.",
            diagnostics=str(out),
        )
    studies = {name: _site_patients(name, index, seed, patients_per_site) for index, name in enumerate(sites)}
    studies[PUBLIC_TEST] = _patients(PUBLIC_TEST, seed, public_test_patients, 0.45, ("A", "B"))
    total = sum(patient.images for patients in studies.values() for patient in patients)
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if on_progress is not None:
            on_progress(done, total)

    for name, patients in studies.items():
        beside = out / f".{name}.writing"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        _write_site(beside, name, patients, advance)
        beside.rename(out / name)


def _site_patients(name: str, index: int, seed: int, patients_per_site: int) -> list[_Patient]:
    count = max(2, round(patients_per_site * _SITE_SIZES[index % len(_SITE_SIZES)]))
    vendor: Vendor = "A" if index % 2 == 0 else "B"
    return _patients(name, seed, count, _PREVALENCE[index % len(_PREVALENCE)], (vendor,))


def _patients(
    site: str, seed: int, count: int, prevalence: float, vendors: tuple[Vendor, ...]
) -> list[_Patient]:
    entropy = (seed, int.from_bytes(hashlib.sha256(site.encode()).digest()[:4], "big"))
    random = np.random.default_rng(entropy)
    # A fixed share rather than independent draws: a small site still has both labels.
    labels = random.permutation(np.arange(count) < max(1, round(prevalence * count)))
    # Drawn apart: nothing in the images follows from it.
    female = np.random.default_rng((*entropy, 0x5E)).random(count) < 0.5
    return [
        _Patient(
            number=number,
            label=int(labels[number]),
            appearance=int(labels[number]) ^ int(random.random() < _MISLEADING),
            images=int(random.choice(len(_STUDY_SIZES), p=_STUDY_SIZES)) + 1,
            sex="F" if female[number] else "M",
            vendor=vendors[number % len(vendors)],
            entropy=(*entropy, number),
        )
        for number in range(count)
    ]


def _write_site(folder: Path, site: str, patients: Sequence[_Patient], advance: Callable[[], None]) -> None:
    (folder / "README.txt").write_text(
        "Synthetic phantoms. No patient exists; every identifier is invented.\n"
    )
    rows = [f"{identifier(site, patient.number)},{patient.label}" for patient in patients]
    templates = {vendor: Template(site, vendor) for vendor in {patient.vendor for patient in patients}}
    (folder / "labels.csv").write_text("\n".join(["patient_id,label", *rows]) + "\n", encoding="utf-8")
    for patient in patients:
        study = folder / f"study-{patient.number:05d}"
        study.mkdir()
        state = np.random.RandomState(np.random.SeedSequence(patient.entropy).generate_state(8))
        for number in range(patient.images):
            header = Header(patient.number, number, f"{patient.entropy}", patient.sex)
            # Vendor B's archive names files without an extension.
            name = f"image-{number}.dcm" if patient.vendor == "A" else f"IM{number:04d}"
            file = templates[patient.vendor].file(header, phantom(patient.appearance, state))
            (study / name).write_bytes(file)
            advance()


def phantom(label: int, state: np.random.RandomState) -> NDArray[np.float64]:
    """One image (64, 64) in [0, 1]: anatomy, lesions by label, noise."""
    from monai.data.synthetic import create_test_image_2d

    anatomy, _ = create_test_image_2d(
        SIZE_PX, SIZE_PX, num_objs=4, rad_min=10, rad_max=24, num_seg_classes=1, random_state=state
    )
    image = 0.2 * np.asarray(anatomy, dtype=np.float64)
    count = int(state.randint(3, 7)) if label == 1 else int(state.randint(0, 3))
    if count:
        smallest, largest = (5, 10) if label == 1 else (2, 6)
        lesions, _ = create_test_image_2d(
            SIZE_PX, SIZE_PX, num_objs=count, rad_min=smallest, rad_max=largest, num_seg_classes=1,
            random_state=state,
        )  # fmt: skip
        image += state.uniform(0.3, 0.6) * np.asarray(lesions, dtype=np.float64)
    image += 0.15 + state.normal(0.0, _NOISE_STD, size=image.shape)
    return np.clip(image, 0.0, 1.0)
