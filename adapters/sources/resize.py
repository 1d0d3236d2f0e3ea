"""Area resizing: each target pixel is the mean of the source area that it covers.

Lives here: the two weight matrices and their product. It is linear, keeps the mean and the value range, needs
no imaging library and gives the same result in every process; aspect ratios are not kept (an image is
stretched to the contract's size). Nothing about DICOM or files lives here.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def area_resize(images: NDArray[np.float64], *, height_px: int, width_px: int) -> NDArray[np.float32]:
    """(..., H, W) with values in [0, 1] to float32 (..., height_px, width_px) with values in [0, 1]."""
    source_height, source_width = images.shape[-2:]
    resized = images
    if source_height != height_px:
        resized = _weights(source_height, height_px) @ resized
    if source_width != width_px:
        resized = resized @ _weights(source_width, width_px).T
    # Rounding may leave the range by an ulp; the contract checks [0, 1] exactly.
    return np.clip(resized, 0.0, 1.0).astype(np.float32)


@lru_cache(maxsize=128)
def _weights(source: int, target: int) -> NDArray[np.float64]:
    """(target, source): the share of each source pixel in each target pixel; rows sum to 1."""
    edges = np.linspace(0.0, source, target + 1)
    starts = np.arange(source)
    overlap = np.minimum(edges[1:, None], starts[None, :] + 1) - np.maximum(edges[:-1, None], starts[None, :])
    weights = np.clip(overlap, 0.0, None)
    normalised: NDArray[np.float64] = weights / weights.sum(axis=1, keepdims=True)
    return normalised
