"""Masks as files that viewers open, of the size of what they are about: PNG, or NIfTI at its place in space.

    scan.png            scan.png-mask.png
    a/scan.nii.gz       a_scan.nii.gz-1f0c2a9b-mask.nii.gz      a name that cannot stay as it is gets its own digest

Nothing that exists is overwritten, and no file is there half. What a mask means is not known here.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.home import write_atomically
from ledger.errors import InputError

_PLAIN = re.compile(r"[^A-Za-z0-9._#-]+")
_LONGEST = 200  # of 255 that file systems take, with room for what is added


class MaskExistsError(InputError):
    code = "predict.exists"


class MaskUnwritableError(InputError):
    """The folder takes no such file: it is full, or not ours."""

    code = "predict.unwritable"


def write_mask(folder: Path, name: str, mask: NDArray[np.uint8], affine: NDArray[np.float64] | None) -> Path:
    """Write a mask, 0 or 1, as NAME-mask.png, or as NAME-mask.nii.gz if there is an affine; its path.

    `affine` leads from places in the mask, its axes in reverse, to millimetres. Raises MaskExistsError and
    MaskUnwritableError.
    """
    path = folder / f"{_plain(name)}-mask{'.png' if affine is None else '.nii.gz'}"
    if path.exists() or path.is_symlink():
        raise MaskExistsError(
            "a mask of this name exists and is left as it is", remedy="Choose another --out."
        )
    data = _png(mask) if affine is None else _nifti(mask, affine)
    try:
        write_atomically(path, data)
    except OSError as error:
        failure = type(error).__name__
    else:
        return path
    raise MaskUnwritableError(f"the mask could not be written: {failure}", remedy="Choose another --out.")


def _plain(name: str) -> str:
    """Without what file systems and shells take amiss. Two names become one file's for no two names that people
    have: what had to be changed carries a digest of what it was."""
    plain = _PLAIN.sub("_", name).lstrip(".")[:_LONGEST]
    if plain == name:
        return plain
    return f"{plain}-{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()[:8]}"


def _png(mask: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    written = io.BytesIO()
    Image.fromarray(mask * np.uint8(255)).save(written, format="PNG")
    return written.getvalue()


def _nifti(mask: NDArray[np.uint8], affine: NDArray[np.float64]) -> bytes:
    import nibabel

    return gzip.compress(nibabel.Nifti1Image(mask.transpose(), affine).to_bytes(), mtime=0)
