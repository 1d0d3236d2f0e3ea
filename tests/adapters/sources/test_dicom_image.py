"""Pixel rules: bits, signs, inversion, rescaling, padding, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from adapters.sources.dicom_image import scaled_image
from adapters.sources.findings import UnusableError


def dataset(pixels: NDArray[np.integer], *, stored: int = 12, allocated: int = 16) -> Dataset:
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.PhotometricInterpretation = "MONOCHROME2"
    data.SamplesPerPixel = 1
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated, data.BitsStored, data.HighBit = allocated, stored, stored - 1
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    raw = pixels.astype("<i4") & ((1 << stored) - 1)
    data.PixelData = raw.astype("<u2" if allocated == 16 else "u1").tobytes()
    if len(data.PixelData) % 2:
        data.PixelData += b"\0"
    return data


def test_a_ramp_goes_from_zero_to_one() -> None:
    image, bits = scaled_image(dataset(np.array([[10, 20], [30, 50]], np.uint16)))
    assert image.tolist() == [[0.0, 0.25], [0.5, 1.0]] and bits == 12


@given(st.integers(8, 16), st.booleans(), st.integers(0, 2**32 - 1))
def test_every_depth_and_sign_gives_the_same_picture(stored: int, signed: bool, seed: int) -> None:
    shape = np.random.default_rng(seed).integers(0, 256, (5, 3))
    shape[0, 0], shape[0, 1] = 0, 255
    pixels = (shape - 128).astype(np.int32) if signed else shape.astype(np.uint32)
    image, bits = scaled_image(dataset(pixels, stored=stored, allocated=16))
    np.testing.assert_allclose(image, shape / 255)
    assert bits == stored


def test_eight_bits_allocated_with_odd_length() -> None:
    image, _ = scaled_image(dataset(np.array([[0, 51, 255]], np.uint8), stored=8, allocated=8))
    np.testing.assert_allclose(image, [[0.0, 0.2, 1.0]])


def test_bits_above_the_stored_ones_are_ignored_and_a_high_bit_is_followed() -> None:
    data = dataset(np.array([[0, 1024], [2048, 4095]], np.uint16))
    expected, _ = scaled_image(data)
    overlaid = np.frombuffer(data.PixelData, "<u2") | 0xF000
    data.PixelData = overlaid.astype("<u2").tobytes()
    np.testing.assert_array_equal(scaled_image(data)[0], expected)
    data.PixelData, data.HighBit = (overlaid << 4).astype("<u2").tobytes(), 15
    np.testing.assert_array_equal(scaled_image(data)[0], expected)


def test_monochrome1_is_inverted_and_a_negative_slope_too() -> None:
    data = dataset(np.array([[0, 100]], np.uint16))
    data.PhotometricInterpretation = "MONOCHROME1"
    assert scaled_image(data)[0].tolist() == [[1.0, 0.0]]
    data.RescaleSlope, data.RescaleIntercept = "-2", "4095"
    assert scaled_image(data)[0].tolist() == [[0.0, 1.0]]
    data.RescaleSlope = "0.5"
    assert scaled_image(data)[0].tolist() == [[1.0, 0.0]]


def test_padding_does_not_stretch_the_range() -> None:
    data = dataset(np.array([[-2000, 0], [50, 100]], np.int16), stored=16)
    data.PixelPaddingValue = 65536 - 2000  # parsed as unsigned, as often happens
    assert scaled_image(data)[0].tolist() == [[0.0, 0.0], [0.5, 1.0]]
    data.PhotometricInterpretation = "MONOCHROME1"
    assert scaled_image(data)[0].tolist() == [[0.0, 1.0], [0.5, 0.0]]
    data.PixelPaddingRangeLimit = 0
    assert scaled_image(data)[0].tolist() == [[0.0, 0.0], [1.0, 0.0]]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_blank_image_is_finite(photometric: str) -> None:
    data = dataset(np.full((3, 3), 7, np.uint16))
    data.PhotometricInterpretation = photometric
    assert np.isfinite(scaled_image(data)[0]).all()
    data.PixelPaddingValue = 7
    assert not scaled_image(data)[0].any()


def test_a_modality_lookup_table_is_applied() -> None:
    data = dataset(np.array([[0, 1], [2, 3]], np.uint16))
    table = Dataset()
    table.LUTDescriptor = [4, 0, 16]
    table.LUTData = [0, 10, 90, 100]
    data.ModalityLUTSequence = [table]
    np.testing.assert_allclose(scaled_image(data)[0], [[0.0, 0.1], [0.9, 1.0]])


def test_compressed_and_big_endian_images_match_the_plain_one() -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (16, 16)).astype(np.uint16)
    expected, _ = scaled_image(dataset(pixels))
    compressed = dataset(pixels)
    compressed.compress(RLELossless, generate_instance_uid=False)
    np.testing.assert_array_equal(scaled_image(compressed)[0], expected)
    swapped = dataset(pixels)
    swapped.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    swapped.PixelData = pixels.astype(">u2").tobytes()
    swapped["PixelData"].VR = "OW"
    np.testing.assert_array_equal(scaled_image(swapped)[0], expected)


def _set(**values: object) -> Callable[[Dataset], None]:
    def change(data: Dataset) -> None:
        for name, value in values.items():
            setattr(data, name, value)

    return change


def _without(name: str) -> Callable[[Dataset], None]:
    return lambda data: delattr(data, name)


def _jpeg_ls(data: Dataset) -> None:
    data.file_meta.TransferSyntaxUID = JPEGLSLossless


def _no_syntax(data: Dataset) -> None:
    del data.file_meta.TransferSyntaxUID


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_set(PhotometricInterpretation="RGB", SamplesPerPixel=3), "data.dicom-color"),
        (_set(PhotometricInterpretation="PALETTE COLOR"), "data.dicom-color"),
        (_set(NumberOfFrames=2), "data.dicom-multiframe"),
        (_set(Rows=0), "data.dicom-size"),
        (_set(Rows=65535, Columns=65535), "data.dicom-size"),
        (_set(BitsAllocated=32), "data.dicom-bits"),
        (_set(BitsStored=7, HighBit=6), "data.dicom-bits"),
        (_set(HighBit=3), "data.dicom-bits"),
        (_set(RescaleSlope="0"), "data.dicom-rescale"),
        (_set(RescaleIntercept=float("inf")), "data.dicom-rescale"),
        (_set(PixelData=b"\0\0"), "data.dicom-unreadable"),
        (_set(PixelData=bytes(64)), "data.dicom-unreadable"),
        (_without("PixelData"), "data.dicom-unreadable"),
        (_without("Rows"), "data.dicom-unreadable"),
        (_no_syntax, "data.dicom-unreadable"),
        (_jpeg_ls, "data.dicom-compressed"),
    ],
)
def test_unsupported_images_are_refused_with_their_code(change: Callable[[Dataset], None], code: str) -> None:
    data = dataset(np.array([[0, 1], [2, 3]], np.uint16))
    change(data)
    with pytest.raises(UnusableError) as refused:
        scaled_image(data)
    assert refused.value.code == code
