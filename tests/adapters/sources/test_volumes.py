"""Folders of NIfTI files: how volumes stand, what masks must be, and what is refused without a name in the text."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.sources.assembly import MemorySource
from adapters.sources.cohort import Cohort, patient_key
from adapters.sources.findings import DataRefusedError
from adapters.sources.volumes import NiftiSource
from policies.data_contract import DataContract, Image
from tasks.validate import validate

from .conftest import MARKER, SECRET, public_surface

SITE = "hospital-a"
MASKS = DataContract(
    image=Image(depth_px=8, height_px=10, width_px=12, modalities=("CT", "MR")),
    target="mask",
    labels=(0, 1),
    minimum_patients=2,
    held_out_fraction=0.3,
)
LABELS = MASKS.model_copy(update={"target": "label"})
SLICES = DataContract(
    image=Image(height_px=10, width_px=12, modalities=("CT",)),
    labels=(0, 1),
    minimum_patients=1,
    held_out_fraction=0.3,
)
RAS = np.diag([1.0, 1.0, 2.0, 1.0])
LPS = np.diag([-1.0, -1.0, 2.0, 1.0])


def write(path: Path, values: NDArray[np.generic], *, affine: NDArray[np.float64] = RAS) -> None:
    """As stored: values are (x, y[, z])."""
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


def a_volume(number: int, *, shape: tuple[int, ...] = (12, 10, 8)) -> NDArray[np.int16]:
    return np.random.default_rng(number).integers(-1000, 2000, shape).astype(np.int16)


def a_mask(number: int, *, shape: tuple[int, ...] = (12, 10, 8)) -> NDArray[np.uint8]:
    return (np.random.default_rng(number).random(shape) < 0.1 * (number % 2)).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four patients, the last with two volumes; masks of the odd ones are empty."""
    place = tmp_path / SITE
    (place / "masks").mkdir(parents=True)
    rows = ["file,patient_id,label,mask,modality,sex"]
    for number in range(5):
        name = f"scan-{number}.nii" + (".gz" if number % 2 else "")
        write(place / name, a_volume(number))
        write(place / "masks" / name, a_mask(number))
        patient = f"INVENTED-{min(number, 3)}"
        rows.append(f"{name},{patient},{int(number >= 3)},masks/{name},CT,{'FMO'[number % 3]}")
    rewrite(place, rows)
    return place


def rewrite(folder: Path, rows: list[str]) -> None:
    (folder / "patients.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def lines(folder: Path) -> list[str]:
    return (folder / "patients.csv").read_text().splitlines()


def load(folder: Path, contract: DataContract = MASKS) -> Cohort:
    return NiftiSource(folder, site=SITE, secret=SECRET).load(contract)


def refused(folder: Path, contract: DataContract = MASKS) -> DataRefusedError:
    with pytest.raises(DataRefusedError) as caught:
        load(folder, contract)
    surface = public_surface(caught.value)
    assert MARKER not in surface and "scan-" not in surface and "INVENTED" not in surface
    assert caught.value.kind == "input" and caught.value.remedy
    return caught.value


def item(cohort: Cohort, patient: str) -> int:
    number = cohort.keys.index(patient_key(patient, site=SITE, secret=SECRET))
    return int(np.flatnonzero(cohort.patients == number)[0])


def test_volumes_and_masks_become_a_cohort_that_passes_the_contract(folder: Path) -> None:
    cohort = load(folder)
    assert cohort.inputs.shape == (5, 1, 8, 10, 12) and cohort.inputs.dtype == np.float32
    assert cohort.patient_count == 4 and validate(cohort, MASKS).passed
    assert cohort.targets(MASKS).shape == cohort.inputs.shape
    row = item(cohort, "INVENTED-1")
    expected = a_volume(1).transpose(2, 1, 0).astype(np.float64)
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    assert np.allclose(cohort.inputs[row, 0], expected, atol=1e-6)
    assert cohort.masks is not None
    assert np.array_equal(cohort.masks[row, 0], a_mask(1).transpose(2, 1, 0))
    assert sorted(cohort.labels) == [0, 0, 1, 1, 1]  # patient 3 has a lesion in one of two volumes
    again = load(folder)
    assert np.array_equal(again.inputs, cohort.inputs) and again.keys == cohort.keys


def test_labels_of_volumes_come_from_the_list(folder: Path) -> None:
    cohort = load(folder, LABELS)
    assert cohort.masks is None and sorted(cohort.labels) == [0, 0, 0, 1, 1]
    assert validate(cohort, LABELS).passed and sorted(cohort.told_apart("sex")) == sorted([0, 1, 2, 2])


def test_volumes_of_other_sizes_and_bits_are_resized(folder: Path) -> None:
    write(folder / "scan-0.nii", a_volume(0, shape=(31, 20, 17)).astype(np.float64))
    write(folder / "masks" / "scan-0.nii", a_mask(1, shape=(31, 20, 17)).astype(np.float32))
    write(folder / "scan-2.nii", np.full((12, 10, 8), 7, np.uint8))
    cohort = load(folder)
    assert cohort.inputs.shape == (5, 1, 8, 10, 12) and validate(cohort, MASKS).passed
    assert cohort.inputs[item(cohort, "INVENTED-2")].max() == 0
    assert set(cohort.facts["bits"]) == {8, 16, 64}


def test_hospitals_volumes_stand_alike_however_they_are_stored(folder: Path) -> None:
    before = load(folder)
    turned = a_volume(0)[::-1, ::-1]
    write(folder / "scan-0.nii", turned, affine=LPS)
    write(folder / "masks" / "scan-0.nii", a_mask(0)[::-1, ::-1], affine=LPS)
    after = load(folder)
    assert (
        np.array_equal(before.inputs, after.inputs) and before.masks is not None and after.masks is not None
    )
    assert np.array_equal(before.masks, after.masks)


def test_a_mask_that_lies_elsewhere_is_refused_and_not_mirrored(folder: Path) -> None:
    write(folder / "masks" / "scan-1.nii.gz", a_mask(1), affine=LPS)
    assert refused(folder).codes == ("data.mask-place",)


def test_a_falling_slope_turns_the_image_around(folder: Path) -> None:
    before = load(folder, LABELS)
    path = folder / "scan-0.nii"
    data = bytearray(path.read_bytes())
    data[112:116] = np.float32(-2.0).tobytes()  # scl_slope of NIfTI-1
    path.write_bytes(data)
    after = load(folder, LABELS)
    row = item(before, "INVENTED-0")
    assert np.allclose(after.inputs[row], 1 - before.inputs[row], atol=1e-6)


def test_slices_are_images(folder: Path) -> None:
    rows = [lines(folder)[0]]
    for number in range(3):
        write(folder / f"slice-{number}.nii", a_volume(number, shape=(24, 20, 1)[: 2 + number % 2]))
        rows.append(f"slice-{number}.nii,INVENTED-{number},{number % 2},,CT,F")
    rewrite(folder, rows)
    cohort = load(folder, SLICES)
    assert cohort.inputs.shape == (3, 1, 10, 12) and validate(cohort, SLICES).passed


WRONG_VOLUMES = [
    (np.zeros((12, 10), np.int16), "data.volume-dimensions"),
    (np.zeros((12, 10, 8, 3), np.int16), "data.volume-dimensions"),
    (np.full((12, 10, 8), np.nan, np.float32), "data.volume-values"),
    (np.full((12, 10, 8), np.inf, np.float64), "data.volume-values"),
    (np.zeros((12, 10, 8), np.complex64), "data.volume-type"),
    (np.zeros((12, 10, 8), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "data.volume-type"),
]


@pytest.mark.parametrize(
    ("values", "code"), WRONG_VOLUMES, ids=[f"{code}-{n}" for n, (_, code) in enumerate(WRONG_VOLUMES)]
)
def test_a_volume_that_cannot_be_used_is_refused(
    folder: Path, values: NDArray[np.generic], code: str
) -> None:
    nibabel.save(nibabel.Nifti1Image(values, RAS), folder / "scan-0.nii")
    error = refused(folder)
    assert error.codes == (code,) and "patients.csv row 2" in error.diagnostics()


@pytest.mark.parametrize(
    ("mask", "code"),
    [
        (a_mask(1, shape=(12, 10, 9)), "data.mask-shape"),
        (a_mask(1) * np.uint8(2), "data.mask-values"),
        (a_mask(1) - np.float32(0.5), "data.mask-values"),
        (np.full((12, 10, 8), -1, np.int16), "data.mask-values"),
    ],
)
def test_a_mask_that_cannot_be_used_is_refused(folder: Path, mask: NDArray[np.generic], code: str) -> None:
    write(folder / "masks" / "scan-1.nii.gz", mask)
    assert refused(folder).codes == (code,)


def test_a_volume_of_too_many_voxels_is_refused_before_it_is_unpacked(folder: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), RAS)
    header = bytearray(image.to_bytes())
    header[40:56] = np.array([3, 30_000, 30_000, 30_000, 1, 1, 1, 1], np.int16).tobytes()
    with gzip.open(folder / "scan-1.nii.gz", "wb") as file:
        file.write(bytes(header))
    assert refused(folder).codes == ("data.volume-size",)


def test_files_that_are_missing_damaged_or_elsewhere_are_all_named_at_once(folder: Path) -> None:
    rows = lines(folder)
    (folder.parent / f"{MARKER}.nii").write_bytes((folder / "scan-0.nii").read_bytes())
    (folder / "link.nii").symlink_to(folder.parent / f"{MARKER}.nii")
    (folder / "cut.nii").write_bytes((folder / "scan-0.nii").read_bytes()[:700])
    (folder / "noise.nii.gz").write_bytes(b"not packed")
    (folder / "text.nii").write_text(MARKER)
    (folder / "scan.img").write_text("x")
    for name in (f"../{MARKER}.nii", f"/{MARKER}.nii", "link.nii", "", ".", "no.nii", "a\0b", "x" * 5000):
        rows.append(f"{name},INVENTED-9,0,masks/scan-0.nii,CT,F")
    for name in ("cut.nii", "noise.nii.gz", "text.nii", "scan.img"):
        rows.append(f"{name},INVENTED-9,0,masks/scan-0.nii,CT,F")
    rewrite(folder, rows)
    error = refused(folder)
    assert set(error.codes) == {"data.volume-path", "data.volume-missing", "data.volume-unreadable"}
    assert "lie outside the folder: 3" in error.public_message
    assert "cannot be read as NIfTI: 4" in error.public_message


def test_rows_that_cannot_be_used_are_all_named_at_once(folder: Path) -> None:
    rows = lines(folder)
    rows[1] = rows[1].replace("INVENTED-0", " ")
    rows[2] = rows[2].replace(",CT,", f",{MARKER},")
    rows[3] = rows[3].replace("masks/scan-2.nii", "")
    rows += [rows[4], rows[5] + ",more", ""]
    rewrite(folder, rows)
    assert refused(folder).codes == (
        "data.mask-missing", "data.patients-malformed", "data.patients-twice", "data.patient-missing",
        "data.modality",
    )  # fmt: skip


@pytest.mark.parametrize("label", ["", "2", "1.0", "yes", MARKER])
def test_a_label_that_the_plan_does_not_list_is_refused(folder: Path, label: str) -> None:
    rows = lines(folder)
    rows[1] = f"scan-0.nii,INVENTED-0,{label},,CT,F"
    rewrite(folder, rows)
    assert refused(folder, LABELS).codes == ("data.labels-value",)


def test_labels_of_one_patient_must_agree(folder: Path) -> None:
    rewrite(folder, [line.replace("INVENTED-2", "INVENTED-3") for line in lines(folder)])
    assert refused(folder, LABELS).codes == ("data.labels-contradict",)
    assert load(folder).patient_count == 3  # of masks, any voxel says


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "data.patients-malformed"),
        (b"file,patient_id,modality\n", "data.patients-malformed"),
        (b"file,patient_id,mask,mask,modality\n", "data.patients-malformed"),
        (b"\xff\xfe\x00", "data.patients-malformed"),
        (b"file,patient_id,mask,modality\n", "data.empty"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(folder: Path, text: bytes, code: str) -> None:
    (folder / "patients.csv").write_bytes(text)
    assert refused(folder).code == code


def test_a_missing_folder_or_list_and_a_plan_of_another_kind(folder: Path, tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere").code == "data.missing"
    (folder / "patients.csv").unlink()
    assert refused(folder).code == "data.missing"


def test_nibabel_says_nothing_of_headers(
    folder: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = folder / "scan-0.nii"
    data = bytearray(path.read_bytes())
    data[252:254] = np.int16(4242).tobytes()  # a qform_code of which nibabel remarks, with its value
    data[148:160] = b"ZZCANARY^MAR"  # descrip
    path.write_bytes(data)
    load(folder)
    out = capfd.readouterr()
    assert out.out == out.err == caplog.text == ""
    nibabel.load(path)
    assert "4242" in caplog.text, "or this test shows nothing"


def test_the_memory_twin_gives_the_same_cohort(folder: Path) -> None:
    cohort = load(folder)
    assert cohort.masks is not None
    names = ["a", "b", "c", "d", "d"]
    twin = MemorySource(cohort.inputs, [], names, site=SITE, secret=SECRET, modality="CT", masks=cohort.masks)
    assert validate(twin.load(MASKS), MASKS).passed
