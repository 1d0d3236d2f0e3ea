"""How large one image may be, asked of its header before anything of it is unpacked.

A small file may unpack to far more than a hospital's machine holds, and Linux then ends the process rather than the
allocation. What a source does with an image that is too large is its own affair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

LARGEST_SIDE: Final = 2**16
LARGEST_PX: Final = 2**26
"""Of one image: 67 megapixels, half a gigabyte as float64."""
LARGEST_VOXELS: Final = 2**27
"""Of one NIfTI file, whose volumes are never float64 as a whole."""


def fits(shape: Sequence[int], *, largest: int = LARGEST_PX) -> bool:
    """Whether an image of `shape` is neither empty nor too large."""
    return all(0 < length <= LARGEST_SIDE for length in shape) and math.prod(shape) <= largest
