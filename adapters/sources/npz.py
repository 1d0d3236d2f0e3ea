"""Reading arrays out of an .npz as untrusted input: no pickles, known names, exact types, or a clear refusal.

What the arrays mean lives in `medmnist`.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adapters.sources.findings import DataRefusedError

LARGEST_BYTES: Final = 2**32
"""Of all arrays unpacked: a small file may hold far more than its size says."""
_EXPECTED = "See the README for the arrays that it must hold."


def read_arrays(
    path: Path, names: Sequence[str], *, what: str, optional: Sequence[str] = ()
) -> dict[str, NDArray[np.generic]]:
    """The named arrays of `path`, and those of `optional` that are there; others are ignored.

    Raises DataRefusedError: data.missing, data.npz-unreadable (not a zip, cut short, damaged),
    data.npz-size,
    data.npz-arrays (names missing, or pickled objects, which are never loaded). `what` names the file publicly.
    """
    if not path.is_file():
        raise DataRefusedError(
            f"{what}: the file is missing.",
            code="data.missing",
            remedy="Check the path.",
            diagnostics=str(path),
        )
    unreadable, pickled, missing, too_large = "", False, [], False
    arrays: dict[str, NDArray[np.generic]] = {}
    try:
        # The zip layer first: np.load would take a bare .npy or a pickle for what it is not.
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy") for name in archive.namelist()}
            too_large = sum(member.file_size for member in archive.infolist()) > LARGEST_BYTES
        missing = [name for name in names if name not in members]
        if not missing and not too_large:
            with np.load(path, allow_pickle=False) as stored:
                for name in [*names, *(name for name in optional if name in members)]:
                    try:
                        arrays[name] = stored[name]
                    except ValueError as error:
                        pickled = pickled or "allow_pickle" in str(error)
                        unreadable = unreadable or f"{name}: ValueError"
    except (OSError, EOFError, KeyError, ValueError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        unreadable = type(error).__name__
    except (NotImplementedError, RuntimeError) as error:  # unknown compression, encrypted
        unreadable = type(error).__name__
    if too_large:
        raise DataRefusedError(
            f"{what}: holds more than {LARGEST_BYTES >> 30} GiB.",
            code="data.npz-size",
            remedy="Split it, or shrink its images.",
            diagnostics=str(path),
        )
    if missing:
        raise DataRefusedError(
            f"{what}: arrays missing: {', '.join(missing)}.",
            code="data.npz-arrays",
            remedy=_EXPECTED,
            diagnostics=str(path),
        )
    if pickled:
        raise DataRefusedError(
            f"{what}: holds pickled objects, which are never loaded.",
            code="data.npz-arrays",
            remedy="Save plain number arrays.",
            diagnostics=f"{path}: {unreadable}",
        )
    if unreadable:
        raise DataRefusedError(
            f"{what}: cannot be read as .npz; it may be cut short or damaged.",
            code="data.npz-unreadable",
            remedy="Copy or download it again.",
            diagnostics=f"{path}: {unreadable}",
        )
    return arrays


def require_form(faults: Sequence[str], *, what: str, path: Path) -> None:
    """Raise DataRefusedError (data.npz-arrays) naming every fault in the form of the arrays."""
    if faults:
        raise DataRefusedError(
            f"{what}: {'; '.join(faults)}.", code="data.npz-arrays", remedy=_EXPECTED, diagnostics=str(path)
        )
