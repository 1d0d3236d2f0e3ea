"""Folders of DICOM files: what is read, what is skipped, and every refusal, without a word about a patient."""

from __future__ import annotations

import logging
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from adapters.sources.cohort import Cohort
from adapters.sources.dicom import DicomSource
from adapters.sources.findings import DataRefusedError
from policies.data_contract import DataContract

from .conftest import MARKER, SECRET, WriteSite, public_surface


def load(folder: Path, contract: DataContract, site: str = "hospital-a") -> Cohort:
    return DicomSource(folder, site=site, secret=SECRET).load(contract)


def refusal(folder: Path, contract: DataContract) -> DataRefusedError:
    with pytest.raises(DataRefusedError) as refused:
        load(folder, contract)
    assert refused.value.kind == "input"
    return refused.value


def edit(path: Path, **values: object) -> None:
    data = dcmread(path)
    for name, value in values.items():
        setattr(data, name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data.save_as(path)


def images(folder: Path) -> list[Path]:
    return sorted(folder.rglob("IM*"))


def test_both_dialects_give_the_same_cohort(write_site: WriteSite, contract: DataContract) -> None:
    a = load(write_site(site="hospital-a", vendor="A"), contract, "hospital-a")
    b_folder = write_site(site="hospital-b", vendor="B")
    b = load(b_folder, contract, "hospital-b")
    for cohort in (a, b):
        assert cohort.inputs.shape == (12, 1, 28, 28) and cohort.inputs.dtype == np.float32
        assert cohort.patient_count == 6 and np.bincount(cohort.patients).tolist() == [2] * 6
    # One seed wrote both: the same pictures, up to the rounding of 12 bits, in another order of patients.
    by_mean_a, by_mean_b = (sorted(cohort.inputs.mean(axis=(1, 2, 3))) for cohort in (a, b))
    np.testing.assert_allclose(by_mean_a, by_mean_b, atol=2e-4)
    assert set(a.facts["modality"]) == {"DX"} and set(b.facts["modality"]) == {"CR"}
    assert set(a.facts["bits"]) == {12} and set(b.facts["bits"]) == {16}


def test_loading_twice_gives_the_same(write_site: WriteSite, contract: DataContract) -> None:
    folder = write_site()
    first, second = load(folder, contract), load(folder, contract)
    assert np.array_equal(first.inputs, second.inputs) and first.keys == second.keys


def test_a_held_out_patient_stays_so_when_others_leave(write_site: WriteSite, contract: DataContract) -> None:
    folder = write_site(patients=20, images=1)
    before = set(load(folder, contract).split(0.4)[1].keys)
    (folder / "study-3" / "IM0").unlink()
    after = load(folder, contract)
    assert set(after.split(0.4)[1].keys) == before & set(after.keys)


def test_what_is_not_an_image_is_skipped(write_site: WriteSite, contract: DataContract) -> None:
    folder = write_site()
    for name in (".DS_Store", "notes.txt", "export.JSON", "DICOMDIR", "study-0/.hidden"):
        (folder / name).write_bytes(b"anything")
    (folder / ".git").mkdir()
    (folder / ".git" / "object").write_bytes(b"anything")
    (folder / "again").symlink_to(images(folder)[0])
    (folder / "loop").symlink_to(folder)
    assert len(load(folder, contract).inputs) == 12


def test_sizes_may_differ(write_site: WriteSite, contract: DataContract) -> None:
    folder = write_site()
    pixels = np.arange(50 * 20, dtype="<u2")
    edit(images(folder)[0], Rows=50, Columns=20, PixelData=pixels.tobytes())
    assert load(folder, contract).inputs.shape == (12, 1, 28, 28)


def test_a_missing_folder(tmp_path: Path, contract: DataContract) -> None:
    assert refusal(tmp_path / "nowhere", contract).code == "data.missing"


def test_an_empty_folder(tmp_path: Path, contract: DataContract) -> None:
    (tmp_path / "labels.csv").write_text("patient_id,label\n")
    assert refusal(tmp_path, contract).code == "data.empty"


def test_damaged_files_are_all_counted(write_site: WriteSite, contract: DataContract) -> None:
    folder = write_site()
    paths = images(folder)
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[: len(whole) - 100])  # pixels cut
    paths[1].write_bytes(whole[:400])  # header cut
    paths[2].write_bytes(b"")
    paths[3].write_bytes(b"not DICOM at all")
    error = refusal(folder, contract)
    assert error.code == "data.dicom-unreadable"
    assert "files that cannot be read as DICOM images: 4 " in str(error)
    assert all(str(path) in error.diagnostics() for path in paths[:4])


@pytest.mark.parametrize("vendor", ["A", "B"])
def test_a_file_cut_anywhere_is_refused(write_site: WriteSite, contract: DataContract, vendor: str) -> None:
    folder = write_site(vendor=vendor, patients=1, images=1)
    (path,) = images(folder)
    whole = path.read_bytes()
    cuts = [*range(0, 200, 7), *range(200, len(whole) - 8192, 13), *range(len(whole) - 8192, len(whole), 997)]
    for length in [*cuts, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(DataRefusedError):
            load(folder, contract)


def test_every_kind_of_fault_is_reported_at_once(write_site: WriteSite, contract: DataContract) -> None:
    folder = write_site()
    paths = images(folder)
    paths[0].write_bytes(b"broken")
    edit(paths[1], Modality="MR")
    edit(paths[2], Modality="US")
    edit(paths[3], NumberOfFrames=3)
    edit(paths[4], PhotometricInterpretation="RGB", SamplesPerPixel=3)
    edit(paths[5], PatientID="")
    edit(paths[6], PatientID="somebody else")
    error = refusal(folder, contract)
    assert error.codes == (
        "data.dicom-unreadable",
        "data.dicom-multiframe",
        "data.dicom-color",
        "data.patient-missing",
        "data.modality",
        "data.labels-missing",
    )
    assert error.code == error.codes[0]
    assert "does not list: 2 (data.modality)" in str(error) and "without a label: 1 " in str(error)


def test_two_identifiers_in_one_image_are_none(write_site: WriteSite, contract: DataContract) -> None:
    folder = write_site()
    edit(images(folder)[0], PatientID="one\\two")
    assert refusal(folder, contract).code == "data.patient-missing"


def test_links_out_of_the_folder_are_refused(
    write_site: WriteSite, contract: DataContract, tmp_path: Path
) -> None:
    folder = write_site()
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "IM0").write_bytes(images(folder)[0].read_bytes())
    (folder / "file").symlink_to(outside / "IM0")
    (folder / "folder").symlink_to(outside)
    error = refusal(folder, contract)
    assert error.code == "data.symlink" and "links that leave the folder: 2 " in str(error)


def test_a_link_to_the_labels_of_another_folder_is_refused(
    write_site: WriteSite, contract: DataContract, tmp_path: Path
) -> None:
    folder = write_site()
    (folder / "labels.csv").rename(tmp_path / "labels.csv")
    (folder / "labels.csv").symlink_to(tmp_path / "labels.csv")
    assert refusal(folder, contract).code == "data.symlink"


def test_a_pipe_does_not_block(write_site: WriteSite, contract: DataContract) -> None:
    folder = write_site()
    os.mkfifo(folder / "pipe")
    assert refusal(folder, contract).code == "data.dicom-unreadable"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (None, "data.labels-missing"),
        ("", "data.labels-malformed"),
        ("patient,label\n", "data.labels-malformed"),
        ("patient_id,label,label\n", "data.labels-malformed"),
        ('patient_id,label\n"open', "data.labels-malformed"),
        ("patient_id,label\nINVENTED-HOSPITAL-A-00000,1,2\n", "data.labels-malformed"),
        ("patient_id,label\n", "data.labels-missing"),
        ("patient_id,label\nINVENTED-HOSPITAL-A-00000,yes\n", "data.labels-value"),
        ("patient_id,label\nINVENTED-HOSPITAL-A-00000,1.0\n", "data.labels-value"),
        ("patient_id,label\nINVENTED-HOSPITAL-A-00000,\n", "data.labels-value"),
        ("patient_id,label\nINVENTED-HOSPITAL-A-00000,2\n", "data.labels-value"),
        ("patient_id,label\n" + "INVENTED-HOSPITAL-A-00000,1\n" * 2, "data.labels-duplicate"),
        (
            "label,patient_id\n1,INVENTED-HOSPITAL-A-00000\n0,INVENTED-HOSPITAL-A-00000 \n",
            "data.labels-duplicate",
        ),
    ],
)
def test_faulty_labels(write_site: WriteSite, contract: DataContract, text: str | None, code: str) -> None:
    folder = write_site(patients=1)
    (folder / "labels.csv").unlink()
    if text is not None:
        (folder / "labels.csv").write_text(text)
    # A row that cannot be read leaves its patient without a label, too.
    assert set(refusal(folder, contract).codes) - {"data.labels-missing"} <= {code}
    assert code in refusal(folder, contract).codes


def test_labels_that_are_not_text(write_site: WriteSite, contract: DataContract) -> None:
    folder = write_site()
    (folder / "labels.csv").write_bytes(b"patient_id,label\n\xff\xfe,1\n")
    assert refusal(folder, contract).code == "data.labels-malformed"


def test_a_byte_order_mark_and_unused_labels_are_accepted(
    write_site: WriteSite, contract: DataContract
) -> None:
    folder = write_site()
    text = (folder / "labels.csv").read_text() + "someone-without-images,1\n\n"
    (folder / "labels.csv").write_text(text, encoding="utf-8-sig")
    assert load(folder, contract).patient_count == 6


# What follows plants markers where patients' names are, and looks for them where the public may look.


def test_no_marker_of_a_refused_site_is_public(
    write_site: WriteSite,
    contract: DataContract,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = write_site(patients=20)
    paths = images(folder)
    identity = {"PatientName": MARKER, "PatientID": MARKER, "PatientBirthDate": MARKER}
    edit(paths[0], **identity, Modality=MARKER.lower())
    edit(paths[1], **identity, PhotometricInterpretation=MARKER.lower())
    edit(paths[2], **identity, RescaleSlope="nan")
    edit(paths[3], **identity)  # no label
    edit(paths[4], **(identity | {"PatientID": f"{MARKER}\\{MARKER}"}))
    edit(paths[5], **identity, SpecificCharacterSet=MARKER)
    edit(paths[6], **identity, NumberOfFrames=2)
    edit(paths[7], **identity, BitsStored=3)
    (folder / f"{MARKER}.dcm").write_bytes(MARKER.encode() * 100)
    (folder / f"cut-{MARKER}").write_bytes(paths[3].read_bytes()[:-10])
    number_text = paths[8].read_bytes().replace(b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00IS")
    paths[8].write_bytes(number_text)  # Rows as text, which no parser likes
    (folder / f"link-{MARKER}").symlink_to("/")
    with (folder / "labels.csv").open("a") as labels:
        labels.write(f"{MARKER}-2,{MARKER}\n{MARKER}-3,1\n{MARKER}-3,1\n{MARKER},{MARKER},{MARKER}\n")
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    capfd.readouterr()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        error = refusal(folder, contract)
    assert len(error.codes) >= 9, error.codes
    assert MARKER in error.diagnostics()
    output = capfd.readouterr()
    texts = [
        public_surface(error),
        caplog.text,
        output.out,
        output.err,
        *(str(item.message) for item in warned),
    ]
    assert MARKER.lower() not in "\n".join(texts).lower()


def test_no_marker_of_an_accepted_site_is_in_its_cohort(
    write_site: WriteSite, contract: DataContract
) -> None:
    folder = write_site(patients=20)
    edit(images(folder)[0], PatientName=MARKER, PatientID=MARKER)
    with (folder / "labels.csv").open("a") as labels:
        labels.write(f"{MARKER},1\n")
    cohort = load(folder, contract)
    assert cohort.patient_count == 21
    assert MARKER.encode() not in pickle.dumps(cohort)
    assert b"INVENTED" not in pickle.dumps(cohort)


@pytest.mark.parametrize("name", ["labels.csv"])
def test_no_marker_of_a_malformed_labels_file_is_public(
    write_site: WriteSite, contract: DataContract, name: str
) -> None:
    folder = write_site()
    (folder / name).write_bytes(f"patient_id,label\n{MARKER},1\n".encode() + b"\xff")
    assert MARKER not in public_surface(refusal(folder, contract))
    (folder / name).write_text(f'{MARKER},"label')
    assert MARKER not in public_surface(refusal(folder, contract))


def test_the_sex_of_a_record_is_read_and_a_contradiction_is_other(
    write_site: WriteSite, contract: DataContract
) -> None:
    folder = write_site(patients=5, images=2)
    for path in images(folder):
        number = int(path.parent.name.removeprefix("study-"))
        sex = ("F", "M", "O", "", "F" if path.name == "IM0" else "M")[number]
        edit(path, PatientSex=sex)
    (folder / "study-1" / "IM0").unlink()
    cohort = load(folder, contract)
    assert np.bincount(cohort.told_apart("sex"), minlength=3).tolist() == [1, 1, 3]
    data = dcmread(folder / "study-3" / "IM0")
    del data.PatientSex
    data.save_as(folder / "study-3" / "IM0")
    assert np.bincount(load(folder, contract).told_apart("sex"), minlength=3).tolist() == [1, 1, 3]


def test_a_huge_file_is_refused_unread(write_site: WriteSite, contract: DataContract) -> None:
    folder = write_site()
    with (folder / "study-0" / "huge").open("wb") as file:
        file.truncate(2**31)  # a hole, of no size on the disk
    refused = refusal(folder, contract)
    assert refused.codes == ("data.dicom-size",)


def test_volumes_and_masks_are_not_to_be_had_of_dicom(write_site: WriteSite, contract: DataContract) -> None:
    assert refusal(write_site(), contract.model_copy(update={"target": "mask"})).code == "data.kind"
