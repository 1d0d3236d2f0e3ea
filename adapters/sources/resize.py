"""Resizing: by area, where each target pixel is the mean of the source area that it covers, and by the nearest voxel.

Lives here: the weights and their sums, in two dimensions and in three. They are sparse, as a target pixel covers few
source pixels: memory follows the image, never source times target. By area is linear, keeps the mean
and the value range, needs no imaging library and gives the same result in every process; aspect ratios are not kept
(an image is stretched to the contract's size). Masks are resized by the nearest voxel, as a mean of labels is none.
Nothing about DICOM, NIfTI or files lives here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def area_resize(images: NDArray[np.float64], *, height_px: int, width_px: int) -> NDArray[np.float32]:
    """(..., H, W) with values in [0, 1] to float32 (..., height_px, width_px) with values in [0, 1]."""
    resized = np.empty((*images.shape[:-2], height_px, width_px), np.float32)
    for place in np.ndindex(images.shape[:-2]):
        # Rounding may leave the range by an ulp; the contract checks [0, 1] exactly.
        resized[place] = np.clip(_plane(images[place], height_px, width_px), 0.0, 1.0)
    return resized


def area_resize_of(values: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(H, W) or (D, H, W) of any real numbers to float64 of `shape`. Slabs are converted one by one, so that a volume
    is never held as float64."""
    if len(shape) == 2:
        return _plane(values.astype(np.float64), *shape)
    weights = _weights(values.shape[0], shape[0])
    resized = np.empty(shape, np.float64)
    for row, (start, end) in enumerate(zip(weights.indptr, weights.indptr[1:], strict=False)):
        slab = np.zeros(values.shape[1:])
        for covered, share in zip(weights.indices[start:end], weights.data[start:end], strict=True):
            slab += share * values[covered].astype(np.float64)
        resized[row] = _plane(slab, *shape[1:])
    return resized


def nearest_resize_of(values: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.generic]:
    """The same by the nearest voxel: each target voxel has the value of the one at its centre."""
    places = [
        ((2 * np.arange(target) + 1) * source) // (2 * target)
        for source, target in zip(values.shape, shape, strict=True)
    ]
    return values[np.ix_(*places)]


def _plane(image: NDArray[np.float64], height_px: int, width_px: int) -> NDArray[np.float64]:
    """(H, W) -> (height_px, width_px), first along the axis that leaves less in between."""
    height, width = image.shape
    if height_px * width <= height * width_px:
        return _along(_along(image, height_px).T, width_px).T
    return _along(_along(image.T, width_px).T, height_px)


def _along(values: NDArray[np.float64], target: int) -> NDArray[np.float64]:
    """(source, n) -> (target, n)."""
    if len(values) == target:
        return values
    resized: NDArray[np.float64] = _weights(len(values), target) @ values
    return resized


@lru_cache(maxsize=32)
def _weights(source: int, target: int) -> csr_array:
    """(target, source): the share of each source pixel in each target pixel; rows sum to 1. It has fewer than
    source + 2 * target numbers that are not zero."""
    from scipy.sparse import csr_array

    edges = np.linspace(0.0, source, target + 1)
    first, end = np.floor(edges[:-1]).astype(np.int64), np.ceil(edges[1:]).astype(np.int64)
    counts = end - first
    starts = np.concatenate([[0], np.cumsum(counts)])
    rows = np.repeat(np.arange(target), counts)
    columns = np.arange(starts[-1]) - starts[rows] + first[rows]
    overlap = np.minimum(edges[rows + 1], columns + 1) - np.maximum(edges[rows], columns)
    totals = np.add.reduceat(overlap, starts[:-1])
    return csr_array((overlap / totals[rows], columns, starts), shape=(target, source))
