"""Resizing: by area, where each target pixel is the mean of the source area that it covers, and by the nearest voxel.

Lives here: the weight matrices and their products, in two dimensions and in three. By area is linear, keeps the mean
and the value range, needs no imaging library and gives the same result in every process; aspect ratios are not kept
(an image is stretched to the contract's size). Masks are resized by the nearest voxel, as a mean of labels is none.
Nothing about DICOM, NIfTI or files lives here.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def area_resize(images: NDArray[np.float64], *, height_px: int, width_px: int) -> NDArray[np.float32]:
    """(..., H, W) with values in [0, 1] to float32 (..., height_px, width_px) with values in [0, 1]."""
    # Rounding may leave the range by an ulp; the contract checks [0, 1] exactly.
    return np.clip(_plane(images, height_px, width_px), 0.0, 1.0).astype(np.float32)


def area_resize_of(values: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """(H, W) or (D, H, W) of any real numbers to float64 of `shape`. Slabs are converted one by one, so that a volume
    is never held as float64."""
    if len(shape) == 2:
        return _plane(values.astype(np.float64), *shape)
    weights = _weights(values.shape[0], shape[0])
    resized = np.empty(shape, np.float64)
    for row, share in enumerate(weights):
        covered = np.flatnonzero(share)
        slab = np.tensordot(share[covered], values[covered].astype(np.float64), axes=1)
        resized[row] = _plane(slab, *shape[1:])
    return resized


def nearest_resize_of(values: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.generic]:
    """The same by the nearest voxel: each target voxel has the value of the one at its centre."""
    places = [
        ((2 * np.arange(target) + 1) * source) // (2 * target)
        for source, target in zip(values.shape, shape, strict=True)
    ]
    return values[np.ix_(*places)]


def _plane(images: NDArray[np.float64], height_px: int, width_px: int) -> NDArray[np.float64]:
    source_height, source_width = images.shape[-2:]
    resized = images
    if source_height != height_px:
        resized = _weights(source_height, height_px) @ resized
    if source_width != width_px:
        resized = resized @ _weights(source_width, width_px).T
    return resized


@lru_cache(maxsize=128)
def _weights(source: int, target: int) -> NDArray[np.float64]:
    """(target, source): the share of each source pixel in each target pixel; rows sum to 1."""
    edges = np.linspace(0.0, source, target + 1)
    starts = np.arange(source)
    overlap = np.minimum(edges[1:, None], starts[None, :] + 1) - np.maximum(edges[:-1, None], starts[None, :])
    weights = np.clip(overlap, 0.0, None)
    normalised: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return normalised
