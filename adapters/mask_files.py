"""Masks as files that viewers open: PNG, of the size of the image they are about.

Nothing that exists is overwritten. What a mask means is not known here.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ledger.errors import InputError

_PLAIN = re.compile(r"[^A-Za-z0-9._#-]+")


class MaskExistsError(InputError):
    code = "predict.exists"


def write_mask(folder: Path, name: str, mask: NDArray[np.uint8]) -> Path:
    """Write a mask, 0 or 1 of shape (height, width), as NAME-mask.png; its path."""
    plain = _PLAIN.sub("_", name).lstrip(".")
    path = folder / f"{plain}-mask.png"
    if path.exists() or path.is_symlink():
        raise MaskExistsError(f"{path} exists and is left as it is", remedy="Choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    from PIL import Image

    Image.fromarray(mask * np.uint8(255)).save(path, format="PNG")
    return path
