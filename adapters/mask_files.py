"""Masks as files that viewers open, of the size of what they are about: PNG, or NIfTI at its place in space.

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


def write_mask(folder: Path, name: str, mask: NDArray[np.uint8], affine: NDArray[np.float64] | None) -> Path:
    """Write a mask, 0 or 1, as NAME-mask.png, or as NAME-mask.nii.gz if there is an affine; its path.

    `affine` leads from places in the mask, its axes in reverse, to millimetres.
    """
    plain = _PLAIN.sub("_", name).lstrip(".")
    path = folder / f"{plain}-mask{'.png' if affine is None else '.nii.gz'}"
    if path.exists() or path.is_symlink():
        raise MaskExistsError(f"{path} exists and is left as it is", remedy="Choose another --out.")
    folder.mkdir(parents=True, exist_ok=True)
    if affine is None:
        from PIL import Image

        Image.fromarray(mask * np.uint8(255)).save(path, format="PNG")
    else:
        import nibabel

        nibabel.save(nibabel.Nifti1Image(mask.transpose(), affine), path)
    return path
