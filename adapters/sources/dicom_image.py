"""One DICOM data set to one image in [0, 1]: the pixel rules, and which attributes are read at all.

Follows DICOM PS3.3 C.7.6.3 (image pixel), C.11.1 (modality rescale) and C.7.5.1.1.2 (pixel padding).

Scaling, the same for every vendor, computed from this image alone:

    stored value -> modality rescale -> (value - lowest) / (highest - lowest) -> 1 - x for MONOCHROME1

over the pixels that are not padding; padding and images of one value become 0. Why not the range that Bits
Stored allows: many exports declare 16 bits and use 12, which would leave an image sixteen times too dark at
one hospital. Lowest and highest rather than percentiles: no tuning, no ties. A linear rescale cancels in it
except for the sign of its slope; it is validated all the same. The values of projection radiographs (CR, DX)
have no unit; a calibrated modality (CT in Hounsfield units) would need a window in the plan. VOI windows are
not applied: they are a reader's choice. No file is opened here and no identifier is interpreted.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.sources.findings import UnusableError
from adapters.sources.image_size import fits

TAGS = [
    "SpecificCharacterSet", "Modality", "PatientID", "PatientSex",
    "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "PixelPaddingValue", "PixelPaddingRangeLimit",
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "PixelData",
]  # fmt: skip
"""All that is ever parsed: names, birth dates and private elements are skipped over, not read."""

DEFLATED = "1.2.840.10008.1.2.1.99"
_NATIVE = {
    "1.2.840.10008.1.2",  # implicit VR little endian
    "1.2.840.10008.1.2.1",  # explicit VR little endian
    DEFLATED,  # inflated while parsing
}


# ANN401: a pydicom Dataset is untyped here (its stubs are not followed), and goes no further than this module.
def scaled_image(dataset: Any) -> tuple[NDArray[np.float64], int]:  # noqa: ANN401
    """(image float64 (rows, columns) in [0, 1], bits stored). Raises UnusableError with a finding's code."""
    photometric = str(dataset.get("PhotometricInterpretation", "")).strip()
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or _integer(dataset, "SamplesPerPixel", 1) != 1:
        raise UnusableError("data.dicom-color")
    if _integer(dataset, "NumberOfFrames", 1) != 1:
        raise UnusableError("data.dicom-multiframe")
    rows, columns = _integer(dataset, "Rows"), _integer(dataset, "Columns")
    if not fits((rows, columns)):  # before anything is decoded
        raise UnusableError("data.dicom-size")
    allocated, stored = _integer(dataset, "BitsAllocated"), _integer(dataset, "BitsStored")
    high_bit = _integer(dataset, "HighBit", stored - 1)
    if allocated not in (8, 16) or not 8 <= stored <= allocated or not stored - 1 <= high_bit < allocated:
        raise UnusableError("data.dicom-bits")
    signed = _integer(dataset, "PixelRepresentation", 0) == 1

    if str(dataset.file_meta.get("TransferSyntaxUID", "")) in _NATIVE:
        raw = _native(dataset, rows, columns, allocated) >> (high_bit - stored + 1)
    else:
        raw = _decoded(dataset, rows, columns)
    values = _stored_values(raw, stored, signed)
    valid = ~_padding(dataset, values, stored, signed)
    scaled = to_unit(_rescaled(dataset, values), valid)
    if photometric == "MONOCHROME1":
        scaled = np.where(valid, 1.0 - scaled, 0.0)
    return scaled, stored


def _integer(dataset: Any, name: str, default: int | None = None) -> int:  # noqa: ANN401
    value = dataset.get(name, None)
    if value is None or value == "":
        if default is None:
            raise UnusableError("data.dicom-unreadable", f"{name} is missing")
        return default
    try:
        return int(value)
    except (TypeError, ValueError):
        detail = f"{name} is not a number"
    raise UnusableError("data.dicom-unreadable", detail)


def _native(dataset: Any, rows: int, columns: int, allocated: int) -> NDArray[np.int32]:  # noqa: ANN401
    """(rows, columns) of uncompressed pixels. A length that does not match is a truncated file."""
    data = dataset.get("PixelData", None)
    expected = rows * columns * allocated // 8
    if not isinstance(data, bytes) or len(data) not in (expected, expected + expected % 2):
        raise UnusableError("data.dicom-unreadable", "pixel data missing, cut short or too long")
    pixels = np.frombuffer(data, dtype="<u2" if allocated == 16 else "u1", count=rows * columns)
    return pixels.reshape(rows, columns).astype(np.int32)


def _decoded(dataset: Any, rows: int, columns: int) -> NDArray[np.int32]:  # noqa: ANN401
    """(rows, columns) through pydicom's decoders, for compressed and big-endian transfer syntaxes."""
    code = "data.dicom-unreadable"
    try:
        pixels = np.asarray(dataset.pixel_array)
        if pixels.shape == (rows, columns) and pixels.dtype.kind in "iu":
            return pixels.astype(np.int32)
    except (NotImplementedError, RuntimeError, ImportError):
        code = "data.dicom-compressed"  # no decoder for it in this installation
    except MemoryError:  # not the file's fault: a code of its own
        raise
    except Exception:
        code = "data.dicom-unreadable"  # whatever a decoder raises on a damaged stream
    raise UnusableError(code, "pixel data cannot be decoded")


def _stored_values(raw: NDArray[np.int32], stored: int, signed: bool) -> NDArray[np.int32]:
    """Keep the low `stored` bits (the others may hold an overlay) and extend the sign."""
    values = raw & ((1 << stored) - 1)
    if signed:
        sign = 1 << (stored - 1)
        values = (values ^ sign) - sign
    return values


def _padding(dataset: Any, values: NDArray[np.int32], stored: int, signed: bool) -> NDArray[np.bool_]:  # noqa: ANN401
    """Where the image is padded: outside the collimated field, with no tissue behind it."""
    first = _padding_value(dataset, "PixelPaddingValue", stored, signed)
    if first is None:
        return np.zeros(values.shape, dtype=bool)
    second = _padding_value(dataset, "PixelPaddingRangeLimit", stored, signed)
    low, high = sorted((first, first if second is None else second))
    return (values >= low) & (values <= high)


def _padding_value(dataset: Any, name: str, stored: int, signed: bool) -> int | None:  # noqa: ANN401
    """The value in the image's own signedness: its VR is ambiguous and often parsed as the other one."""
    if dataset.get(name, None) in (None, ""):
        return None
    value = _integer(dataset, name)
    return int(_stored_values(np.array(value, dtype=np.int32), stored, signed))


def _rescaled(dataset: Any, values: NDArray[np.int32]) -> NDArray[np.float64]:  # noqa: ANN401
    """Values in the order that the modality rescale gives them; see the module on why a sign is enough."""
    if dataset.get("ModalityLUTSequence", None):
        from pydicom.pixels import apply_modality_lut

        looked_up: NDArray[np.float64] = np.asarray(apply_modality_lut(values, dataset), dtype=np.float64)
        return looked_up
    slope = _number(dataset, "RescaleSlope", 1.0)
    _number(dataset, "RescaleIntercept", 0.0)
    if slope == 0.0:
        raise UnusableError("data.dicom-rescale")
    return values.astype(np.float64) * math.copysign(1.0, slope)


def _number(dataset: Any, name: str, default: float) -> float:  # noqa: ANN401
    value = dataset.get(name, None)
    if value is None or value == "":
        return default
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UnusableError("data.dicom-rescale")
    return number


def to_unit(values: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(value - lowest) / (highest - lowest) over the valid pixels; 0 elsewhere and for a single value."""
    if not valid.any():
        return np.zeros(values.shape)
    low, high = float(values[valid].min()), float(values[valid].max())
    if high == low:
        return np.zeros(values.shape)
    return np.where(valid, (values - low) / (high - low), 0.0)
