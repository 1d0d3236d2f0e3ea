"""One NIfTI file to an array: what is accepted, how it is turned, how it is scaled and resized.

Follows the NIfTI-1.1 and NIfTI-2 headers as nibabel reads them; single files (.nii, .nii.gz) only.

    volume    turned to the nearest of the patient's axes (right, anterior, superior), so that all hospitals' volumes
              stand alike, then (depth, height, width) = (superior, anterior, right)
    slice     as it is stored: (height, width) = (second axis, first axis)

Scaling is that of `dicom_image`, from this file alone: (value - lowest) / (highest - lowest); an image of one value
is 0. The header's slope and intercept cancel in it but for the slope's sign; in a mask they count. Images are resized
by area, masks by the nearest voxel; voxels are stretched to the contract's shape whatever their size in millimetres.
nibabel repeats header values in log lines and warnings: both are silenced.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from adapters.sources.findings import UnusableError
from adapters.sources.image_size import LARGEST_VOXELS, fits
from adapters.sources.resize import area_resize_of, nearest_resize_of

SUFFIXES: Final = (".nii", ".nii.gz")
_PLACE_TOLERANCE_MM: Final = 1e-2
_LOGGER = "nibabel.global"


@dataclass(frozen=True, eq=False, repr=False)
class Grid:
    """The stored numbers of one file, turned, with the bits of each, and where they lie in space. Printing one shows
    nothing."""

    values: NDArray[np.generic]
    """(depth, height, width) or (height, width)."""
    bits: int
    affine: NDArray[np.float64]
    """(4, 4), of the array as stored."""
    slope: float
    intercept: float
    """What the stored numbers mean is slope · number + intercept."""


def read_grid(path: Path, *, dimensions: int) -> Grid:
    """The file's numbers in 2 or 3 dimensions. Raises UnusableError: data.volume-unreadable, -type, -dimensions,
    -size, -values."""
    with _silent_nibabel():
        image = _opened(path)
        shape = tuple(int(length) for length in image.shape)
        while len(shape) > dimensions and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) != dimensions:
            raise UnusableError("data.volume-dimensions", f"{len(shape)} dimensions")
        if not fits(shape, largest=LARGEST_VOXELS):  # before anything is unpacked
            raise UnusableError("data.volume-size")
        dtype = np.dtype(image.get_data_dtype())
        if dtype.kind not in "iuf" or dtype.itemsize > 8:
            raise UnusableError("data.volume-type")
        values = _stored(image).reshape(shape)
        affine = np.asarray(image.affine, dtype=np.float64)
        slope, intercept = float(image.dataobj.slope), float(image.dataobj.inter)
    if dtype.kind == "f" and not np.isfinite(values).all():
        raise UnusableError("data.volume-values")
    turned = _turned(values, affine) if dimensions == 3 else values
    return Grid(turned.transpose(), 8 * dtype.itemsize, affine, slope, intercept)


def scaled(grid: Grid, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The image resized to `shape`, without its channel, in [0, 1]."""
    lowest, highest = float(grid.values.min()), float(grid.values.max())
    span = highest / 2 - lowest / 2  # in halves: the difference of two finite numbers may not be one
    if not span > 0:
        return np.zeros(shape, np.float32)
    unit = (area_resize_of(grid.values, shape) / 2 - lowest / 2) / span
    # Rounding may leave the range by an ulp; the contract checks [0, 1] exactly.
    return np.clip(1.0 - unit if grid.slope < 0 else unit, 0.0, 1.0).astype(np.float32)


def mask_of(mask: Grid, image: Grid, shape: tuple[int, ...], *, labels: tuple[int, ...]) -> NDArray[np.uint8]:
    """The mask of that image, resized to `shape`. Raises UnusableError: data.mask-shape, -place, -values."""
    if mask.values.shape != image.values.shape:
        raise UnusableError("data.mask-shape")
    # Turned by another affine than its image's, a mask would come to lie mirrored upon it.
    if not np.allclose(mask.affine, image.affine, rtol=0.0, atol=_PLACE_TOLERANCE_MM):
        raise UnusableError("data.mask-place")
    meant = mask.values
    if (mask.slope, mask.intercept) != (1.0, 0.0):
        meant = mask.values.astype(np.float64) * mask.slope + mask.intercept
    if not np.isin(meant, labels).all():
        raise UnusableError("data.mask-values")
    return nearest_resize_of(meant, shape).astype(np.uint8)


# ANN401: nibabel's images are untyped here (its stubs are not followed), and go no further than this module.
def _opened(path: Path) -> Any:  # noqa: ANN401
    import nibabel

    failure = ""
    try:
        image = nibabel.load(path)
        if isinstance(image, nibabel.Nifti1Image) and np.isfinite(image.affine).all():  # NIfTI-2 is one too
            return image
        failure = "not NIfTI, or without a place in space"
    except MemoryError:  # not the file's fault: a code of its own
        raise
    except Exception as error:  # whatever a damaged file makes the parser raise
        failure = type(error).__name__
    raise UnusableError("data.volume-unreadable", failure)


def _stored(image: Any) -> NDArray[np.generic]:  # noqa: ANN401
    """All numbers as they are stored, without the header's slope. A file that is cut short is refused."""
    try:
        values: NDArray[np.generic] = np.asarray(image.dataobj.get_unscaled())
        return values
    except MemoryError:
        raise
    except Exception as error:  # as above
        failure = type(error).__name__
    raise UnusableError("data.volume-unreadable", failure)


def _turned(values: NDArray[np.generic], affine: NDArray[np.float64]) -> NDArray[np.generic]:
    """(right, anterior, superior), each axis growing that way."""
    from nibabel import orientations

    failure = ""
    try:
        found = orientations.io_orientation(affine)
        if np.isfinite(found).all():
            turned: NDArray[np.generic] = orientations.apply_orientation(values, found)
            return turned
        failure = "an axis without a direction"
    except Exception as error:  # a place in space that is none
        failure = type(error).__name__
    raise UnusableError("data.volume-unreadable", failure)


def turned_affine(grid: Grid) -> NDArray[np.float64]:
    """(4, 4), from places in `values`, its axes in reverse, to millimetres."""
    from nibabel import orientations

    if grid.values.ndim == 2:
        return grid.affine
    found, turned = orientations.io_orientation(grid.affine), grid.values.shape[::-1]
    stored = tuple(turned[int(axis)] for axis in found[:, 0])
    whole: NDArray[np.float64] = grid.affine @ orientations.inv_ornt_aff(found, stored)
    return whole


@contextmanager
def _silent_nibabel() -> Iterator[None]:
    logger = logging.getLogger(_LOGGER)
    disabled, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled
