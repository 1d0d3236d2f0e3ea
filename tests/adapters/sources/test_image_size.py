"""Files that are small and unpack to far too much: each is named with a code, and the rest of its folder is read."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Picture

from adapters.sources import dicom, dicom_image, nifti
from adapters.sources.dicom import DicomSource
from adapters.sources.findings import DataRefusedError
from adapters.sources.items import Item, read_items
from adapters.sources.medmnist import NpzSource
from adapters.sources.npz import read_arrays
from adapters.sources.resize import area_resize, area_resize_of
from adapters.sources.unusable import PASSED_OVER
from adapters.sources.volumes import NiftiSource
from policies.data_contract import DataContract

from .conftest import SECRET, WriteSite

LONG = 2**16 + 1


def peak_of(work: Callable[[], object]) -> int:
    """The most bytes that were in memory at once."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def found(path: Path, contract: DataContract) -> dict[str, str]:
    codes = {one.name: "ok" if isinstance(one, Item) else one.code for one in read_items(path, contract)}
    return {name: code for name, code in codes.items() if code != PASSED_OVER}


def deflated(path: Path) -> None:
    """The same data set, as one deflated stream behind the file's meta information."""
    from pydicom import dcmread

    dataset = dcmread(path)
    dataset.file_meta.TransferSyntaxUID = dicom_image.DEFLATED
    dataset.save_as(path, enforce_file_format=True)
    assert dcmread(path).file_meta.TransferSyntaxUID == dicom_image.DEFLATED


def claiming(path: Path, width: int, height: int) -> None:
    """A picture whose header says so, and nothing more."""
    Picture.new("L", (1, 1)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    path.write_bytes(data)


def a_folder_of_bombs(folder: Path) -> None:
    folder.mkdir()
    Picture.new("L", (2**24, 1)).save(folder / "a-long.png")
    claiming(folder / "b-large.png", 2**14, 2**13)
    claiming(folder / "b-larger.png", 2**15, 2**15)  # beyond what Pillow itself opens
    Picture.new("CMYK", (2**13, 2**12)).save(folder / "c-colored.jpg")
    np.savez_compressed(folder / "d-long.npz", images=np.zeros((1, 1, LONG), np.uint8))
    long = nibabel.Nifti2Image(np.zeros((LONG, 2), np.uint8), np.eye(4))
    nibabel.save(long, folder / "e-long.nii.gz")
    Picture.new("L", (64, 64), 7).save(folder / "f-fine.png")


def test_bombs_are_named_before_they_go_off_and_the_next_file_is_read(
    tmp_path: Path, contract: DataContract
) -> None:
    a_folder_of_bombs(tmp_path / "in")
    Picture.init()
    codes: dict[str, str] = {}
    peak = peak_of(lambda: codes.update(found(tmp_path / "in", contract)))
    assert codes == {
        "a-long.png": "data.picture-size",
        "b-large.png": "data.picture-size",
        "b-larger.png": "data.picture-size",
        "c-colored.jpg": "data.picture-color",
        "d-long.npz": "data.npz-size",
        "e-long.nii.gz": "data.volume-size",
        "f-fine.png": "ok",
    }
    assert peak < 2**25


def test_images_of_an_npz_are_unpacked_one_by_one(tmp_path: Path, contract: DataContract) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, images=np.zeros((200, 512, 512), np.uint8))
    assert peak_of(lambda: [None for _ in read_items(path, contract)]) < 2**24  # 50 MiB as a whole
    np.savez(tmp_path / "cut.npz", images=np.zeros((3, 9, 9), np.uint8), other=np.zeros(3))
    whole = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole.replace(b"(3, 9, 9)", b"(9, 9, 9)"))
    assert found(tmp_path / "cut.npz", contract)["cut.npz"] == "data.npz-unreadable"


def test_a_shard_with_one_image_too_large_is_refused_before_it_is_unpacked(
    tmp_path: Path, contract: DataContract
) -> None:
    path = tmp_path / "a.npz"
    people = np.array(["p1", "p2"])
    images = np.zeros((2, 2, LONG), np.uint8)
    np.savez(path, images=images, labels=np.zeros(2, np.int8), patients=people, modality=np.array("CR"))
    with pytest.raises(DataRefusedError) as refused:
        NpzSource(path, site="a", secret=SECRET).load(contract)
    assert refused.value.code == "data.npz-size"


def test_a_shard_is_resized_image_by_image(tmp_path: Path, contract: DataContract) -> None:
    path, images = tmp_path / "a.npz", np.zeros((200, 256, 256), np.uint8)
    people = np.array([f"p{number}" for number in range(200)])
    np.savez(path, images=images, labels=np.zeros(200, np.int8), patients=people, modality=np.array("CR"))
    load = NpzSource(path, site="a", secret=SECRET).load
    load(contract)  # what is imported and kept is not counted
    assert peak_of(lambda: load(contract)) < 3 * images.nbytes  # as float64 it would be eight times itself


def test_memory_for_resizing_follows_the_image_and_not_source_times_target() -> None:
    """Weights of every source pixel in every target pixel would be 2 GiB here, and three times that while made."""
    long = np.ones((4, 2**16))
    assert area_resize(long, height_px=8, width_px=16).min() == 1.0  # imports
    assert peak_of(lambda: area_resize(long, height_px=8, width_px=4096)) < 2**25
    assert peak_of(lambda: area_resize(long.T, height_px=4096, width_px=8)) < 2**25
    # Wide first or high first: in between lies the smaller of the two.
    assert peak_of(lambda: area_resize(long, height_px=4096, width_px=8)) < 2**25
    volume = np.ones((2**16, 8, 8), np.uint8)
    assert peak_of(lambda: area_resize_of(volume, (8, 8, 8))) < 2**25


def test_resizing_gives_what_its_definition_says() -> None:
    """Each target pixel is the mean of the source area that it covers, by integrals instead of weights."""
    image = np.random.default_rng(0).random((37, 53))
    for height, width in ((5, 7), (36, 100), (37, 2), (64, 53)):
        integral = np.pad(image.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        rows = np.linspace(0, 37, height + 1)
        columns = np.linspace(0, 53, width + 1)
        across = np.stack([np.interp(columns, np.arange(54), line) for line in integral])
        whole = np.stack([np.interp(rows, np.arange(38), line) for line in across.T], axis=1)
        expected = np.diff(np.diff(whole, axis=0), axis=1) * (height * width) / (37 * 53)
        resized = area_resize(image, height_px=height, width_px=width)
        np.testing.assert_allclose(resized, expected, atol=1e-6)
        np.testing.assert_allclose(area_resize_of(image, (height, width)), expected, atol=1e-9)


def test_a_deflated_file_is_inflated_within_bounds(
    write_site: WriteSite, contract: DataContract, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_site(patients=3, images=1)
    before = DicomSource(folder, site="hospital-a", secret=SECRET).load(contract)
    first = next(iter(sorted(folder.rglob("IM0"))))
    deflated(first)
    after = DicomSource(folder, site="hospital-a", secret=SECRET).load(contract)
    assert np.array_equal(after.inputs, before.inputs)
    monkeypatch.setattr(dicom, "LARGEST_BYTES", first.stat().st_size)
    with monkeypatch.context() as patched:
        patched.setattr(dicom_image, "scaled_image", forbidden)
        assert found(first, contract) == {"IM0": "data.dicom-size"}


def forbidden(*_: object) -> NDArray[np.float64]:
    raise AssertionError("it is not to come so far")


@pytest.mark.parametrize("module", ["dicom", "items"])
def test_what_the_memory_is_too_small_for_is_a_finding_of_that_file_alone(
    write_site: WriteSite, contract: DataContract, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    folder = write_site(patients=3, images=1)
    asked: list[tuple[int, ...]] = []

    def once_too_large(image: NDArray[np.float64], **size: int) -> NDArray[np.float32]:
        asked.append(image.shape)
        if len(asked) == 1:
            raise MemoryError
        return area_resize(image, height_px=size["height_px"], width_px=size["width_px"])

    monkeypatch.setattr(f"adapters.sources.{module}.area_resize", once_too_large)
    if module == "items":
        assert sorted(found(folder, contract).values()) == ["data.memory", "ok", "ok"]
    else:
        with pytest.raises(DataRefusedError) as refused:
            DicomSource(folder, site="hospital-a", secret=SECRET).load(contract)
        assert refused.value.codes == ("data.memory",) and "memory: 1 (" in str(refused.value)
    assert len(asked) == 3


@pytest.mark.parametrize("where", ["dcmread", "pixel_array"])
def test_a_parser_without_memory_says_nothing_of_the_file(
    write_site: WriteSite, contract: DataContract, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Not `unreadable`: the file may be well."""
    import pydicom

    def exhausted(*_: object, **__: object) -> object:
        raise MemoryError

    folder = write_site(patients=1, images=1)
    if where == "dcmread":
        monkeypatch.setattr(pydicom, "dcmread", exhausted)
    else:
        monkeypatch.setattr(dicom_image, "_NATIVE", set[str]())
        monkeypatch.setattr(pydicom.Dataset, "pixel_array", property(exhausted))
    assert list(found(folder, contract).values()) == ["data.memory"]


@pytest.mark.parametrize("where", ["scaled", "_stored", "load"])
def test_a_volume_that_the_memory_is_too_small_for_is_a_finding(
    tmp_path: Path, contract: DataContract, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    rows = ["file,patient_id,label,modality"]
    for number in range(2):
        values = np.random.default_rng(number).random((9, 9)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"{number}.nii")
        rows.append(f"{number}.nii,p{number},0,CR")
    (tmp_path / "patients.csv").write_text("\n".join(rows))

    def exhausted(*_: object, **__: object) -> object:
        raise MemoryError

    if where == "load":
        monkeypatch.setattr(nibabel, "load", exhausted)
    elif where == "_stored":
        monkeypatch.setattr("nibabel.arrayproxy.ArrayProxy.get_unscaled", exhausted)
    else:
        monkeypatch.setattr(nifti, "scaled", exhausted)
    with pytest.raises(DataRefusedError) as refused:
        NiftiSource(tmp_path, site="a", secret=SECRET).load(contract)
    assert refused.value.codes == ("data.memory",) and "memory: 2 (" in str(refused.value)


def test_an_npz_that_the_memory_is_too_small_for_is_no_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object, **__: object) -> object:
        raise MemoryError

    np.savez(tmp_path / "x.npz", images=np.zeros((1, 2, 2), np.uint8))
    monkeypatch.setattr(np, "load", exhausted)
    with pytest.raises(DataRefusedError) as refused:
        read_arrays(tmp_path / "x.npz", ("images",), what="it")
    assert refused.value.code == "data.npz-size"
