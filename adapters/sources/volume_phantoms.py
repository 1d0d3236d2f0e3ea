"""Synthetic volumes with masks, as NIfTI files of four scanners, for demos, tests and benchmarks of segmentation.

    OUT/<site>/patients.csv, OUT/<site>/volumes/*, OUT/<site>/masks/*      patients of that site
    OUT/public-test/...                                                    patients of no site, for a public test set

Nothing here is a patient: identifiers are invented and say so. A body with two organs, ellipsoids in noise that is
smooth over some voxels, and up to four bright ellipsoids in it, the lesions, which the mask marks; one patient in ten
has none. Sites differ as scanners do: size of the grid, how axes are stored, units, noise and contrast. A site's
volumes follow from the seed, its name, its number of patients and its place in the list. Reading lives in `volumes`.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adapters.sources.dialects import identifier
from adapters.sources.discovery import PUBLIC_TEST
from adapters.sources.findings import DataRefusedError
from adapters.sources.volumes import FILE_NAME

MODALITY: Final = "CT"
PATIENTS_PER_SITE: Final = 60
PUBLIC_TEST_PATIENTS: Final = 40

_SITE_SIZES: Final = (
    1.5,
    1.0,
    0.8,
    0.7,
)  # of patients_per_site, in turn, so that the mean is patients_per_site
_WITHOUT_LESION: Final = 0.1
_SECOND_VOLUME: Final = 0.2  # share of patients with two

Volume = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Scanner:
    """How a site's volumes are stored: the grid in its own order, the axes, and how a number in [0, 1] is written."""

    shape: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    scale: float
    offset: float
    dtype: str
    noise_std: float
    contrast: float


_SCANNERS: Final = (
    _Scanner((32, 32, 32), (False, False, False), 2000.0, -1000.0, "<i2", 0.05, 1.0),
    _Scanner((40, 40, 32), (True, True, False), 2000.0, -1000.0, "<i2", 0.08, 0.8),
    _Scanner((32, 32, 24), (False, False, True), 1.0, 0.0, "<f4", 0.06, 0.9),
    _Scanner((36, 28, 32), (True, False, False), 4095.0, 0.0, "<u2", 0.07, 1.1),
)


def write_volume_phantoms(
    out: Path,
    *,
    sites: Sequence[str],
    seed: int,
    patients_per_site: int = PATIENTS_PER_SITE,
    public_test_patients: int = PUBLIC_TEST_PATIENTS,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write one folder a site and the public test set below `out`.

    `patients_per_site` is the mean over the sites, whose sizes differ. `on_progress(done, total)` counts patients.
    Each folder appears whole or not at all.
    Raises DataRefusedError (data.exists) if one of the folders is there already.
    """
    names = [*sites, PUBLIC_TEST]
    if len(set(names)) != len(names):
        raise ValueError("sites must differ from each other and from public-test")
    if any((out / name).exists() for name in names):
        raise DataRefusedError(
            "the folder for synthetic volumes already holds some of them.",
            code="data.exists",
            remedy="Name another folder or remove them.",
            diagnostics=str(out),
        )
    counts = [max(3, round(patients_per_site * _SITE_SIZES[place % 4])) for place in range(len(sites))]
    counts.append(public_test_patients)
    done = 0
    for place, (name, count) in enumerate(zip(names, counts, strict=True)):
        scanners = _SCANNERS if name == PUBLIC_TEST else (_SCANNERS[place % 4],)
        beside = out / f".{name}.writing"
        shutil.rmtree(beside, ignore_errors=True)
        for kind in ("volumes", "masks"):
            (beside / kind).mkdir(parents=True)
        rows = ["file,patient_id,label,mask,modality,sex"]
        for patient in range(count):
            rows += _write_patient(
                beside, name, patient, seed=seed, scanner=scanners[patient % len(scanners)]
            )
            done += 1
            if on_progress is not None:
                on_progress(done, sum(counts))
        (beside / "README.txt").write_text(
            "Synthetic phantoms. No patient exists; every identifier is invented.\n"
        )
        (beside / FILE_NAME).write_text("\n".join(rows) + "\n", encoding="utf-8")
        beside.rename(out / name)


def volume_phantom(
    random: np.random.Generator,
    *,
    shape: tuple[int, int, int],
    lesions: int,
    noise_std: float,
    contrast: float,
) -> tuple[Volume, NDArray[np.bool_]]:
    """(values about [0, 1], mask of the lesions), both of `shape`, in the order right, anterior, superior."""
    axes = np.meshgrid(*(np.linspace(-1.0, 1.0, length) for length in shape), indexing="ij")
    body = _ellipsoid(axes, np.zeros(3), random.uniform(0.75, 0.95, 3))
    values = 0.35 * body
    for side in (-1.0, 1.0):
        centre = np.array([side * 0.4, 0.0, 0.0]) + random.uniform(-0.1, 0.1, 3)
        values += 0.15 * contrast * _ellipsoid(axes, centre, random.uniform(0.2, 0.35, 3))
    mask = np.zeros(shape, np.bool_)
    for _ in range(lesions):
        direction = random.normal(size=3)
        centre = direction / np.linalg.norm(direction) * random.uniform(0.0, 0.5)
        lesion = _ellipsoid(axes, centre, random.uniform(0.18, 0.38, 3))
        values += random.uniform(0.25, 0.4) * contrast * (lesion & ~mask)
        mask |= lesion
    return values + _smooth_noise(random, shape) * noise_std, mask


def _ellipsoid(
    axes: Sequence[Volume], centre: NDArray[np.float64], radii: NDArray[np.float64]
) -> NDArray[np.bool_]:
    distance = sum(((axis - at) / radius) ** 2 for axis, at, radius in zip(axes, centre, radii, strict=True))
    inside: NDArray[np.bool_] = np.asarray(distance) <= 1.0
    return inside


def _smooth_noise(random: np.random.Generator, shape: tuple[int, int, int]) -> Volume:
    """Of standard deviation 1, half of it the mean of neighbours, as reconstruction makes it."""
    white = random.normal(size=shape)
    near = np.zeros(shape)
    for axis in range(3):
        near += (np.roll(white, 1, axis) + np.roll(white, -1, axis)) / np.sqrt(6.0)
    smooth: Volume = (white + near) / np.sqrt(2.0)
    return smooth


def _write_patient(folder: Path, site: str, patient: int, *, seed: int, scanner: _Scanner) -> list[str]:
    """The patient's rows of patients.csv, their files written."""
    random = np.random.default_rng(
        (seed, int.from_bytes(hashlib.sha256(site.encode()).digest()[:4], "big"), patient)
    )
    ill = random.random() >= _WITHOUT_LESION
    sex = "F" if random.random() < 0.5 else "M"
    rows = []
    for number in range(1 + int(random.random() < _SECOND_VOLUME)):
        values, mask = volume_phantom(
            random, shape=scanner.shape, lesions=int(random.integers(1, 5)) if ill else 0,
            noise_std=scanner.noise_std, contrast=scanner.contrast,
        )  # fmt: skip
        name = f"{patient:05d}-{number}.nii.gz"
        stored = np.clip(values, 0.0, 1.0) * scanner.scale + scanner.offset
        if scanner.dtype != "<f4":
            stored = np.rint(stored)
        _write(folder / "volumes" / name, stored.astype(scanner.dtype), scanner)
        _write(folder / "masks" / name, mask.astype(np.uint8), scanner)
        # Of the patient, not of the volume: images of one patient must not contradict each other.
        rows.append(f"volumes/{name},{identifier(site, patient)},{int(ill)},masks/{name},{MODALITY},{sex}")
    return rows


def _write(path: Path, values: NDArray[np.generic], scanner: _Scanner) -> None:
    """As the scanner stores it: an axis that is flipped runs the other way in the file and says so."""
    import nibabel

    affine = np.diag([-1.0 if flipped else 1.0 for flipped in scanner.flips] + [1.0])
    turned = values[tuple(slice(None, None, -1 if flipped else 1) for flipped in scanner.flips)]
    nibabel.save(nibabel.Nifti1Image(turned, affine), path)
