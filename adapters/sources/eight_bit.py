"""Pixels of eight bits, whose whole range is known, as numbers in [0, 1] in the way that the data contract says.

Every other image is scaled from its own lowest to its own highest value (`dicom_image`): what its bits could hold
says nothing of what they do. Reading files is the sources' affair.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adapters.sources.dicom_image import to_unit
from policies.data_contract import Image


def eight_bit_to_unit(
    pixels: NDArray[np.generic], image: Image, *, highest: float = 255.0
) -> NDArray[np.float64]:
    """(..., height, width) of values from 0 to `highest`, each image by itself."""
    values = pixels.astype(np.float64, copy=False)
    if image.intensities == "by-source":
        return values / highest
    everywhere = np.ones(values.shape[-2:], np.bool_)
    flat = values.reshape(-1, *values.shape[-2:])
    return np.stack([to_unit(one, everywhere) for one in flat]).reshape(values.shape)
