"""Reading arrays out of an .npz as untrusted input: no pickles, known names, exact types, or a clear refusal.

Arrays of three dimensions are images one after the other, and no image may be larger than `image_size` has it.

What the arrays mean lives in `medmnist`.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from adapters.sources.findings import DataRefusedError, UnusableError
from adapters.sources.image_size import fits

LARGEST_BYTES: Final = 2**32
"""Of all arrays unpacked: a small file may hold far more than its size says."""
_DAMAGED = (
    OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError,
)  # fmt: skip
"""The last two: an unknown compression, an encrypted file."""
_EXPECTED = "See the README for the arrays that it must hold."


def read_arrays(
    path: Path, names: Sequence[str], *, what: str, optional: Sequence[str] = ()
) -> dict[str, NDArray[np.generic]]:
    """The named arrays of `path`, and those of `optional` that are there; others are ignored.

    Raises DataRefusedError: data.missing, data.npz-unreadable (not a zip, cut short, damaged),
    data.npz-size (all arrays, or one image, or more than the machine's memory),
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
            for name in {*names, *optional} & members:
                with archive.open(f"{name}.npy") as member:
                    shape = _form(member)[0]
                too_large = too_large or (len(shape) == 3 and 0 not in shape and not fits(shape[1:]))
        missing = [name for name in names if name not in members]
        if not missing and not too_large:
            with np.load(path, allow_pickle=False) as stored:
                for name in [*names, *(name for name in optional if name in members)]:
                    try:
                        arrays[name] = stored[name]
                    except ValueError as error:
                        pickled = pickled or "allow_pickle" in str(error)
                        unreadable = unreadable or f"{name}: ValueError"
    except MemoryError:
        too_large = True
    except _DAMAGED as error:
        unreadable = type(error).__name__
    if too_large:
        raise DataRefusedError(
            f"{what}: holds more than {LARGEST_BYTES >> 30} GiB or this machine's memory, an image of more than 67 "
            "megapixels, or one with a side above 65,536.",
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


def eight_bit_images(path: Path, names: Sequence[str]) -> Iterator[NDArray[np.uint8]]:
    """Each (height, width) of the first of `names` that is there, one in memory at a time.

    Raises UnusableError: data.npz-unreadable, data.npz-arrays (none of the names, or no images of eight bits),
    data.npz-size (an image).
    """
    code = ""
    try:
        with zipfile.ZipFile(path) as archive:
            found = [f"{name}.npy" for name in names if f"{name}.npy" in archive.namelist()]
            if not found:
                code = "data.npz-arrays"
            else:
                with archive.open(found[0]) as member:
                    shape, by_columns, dtype = _form(member)
                    if dtype != np.uint8 or by_columns or len(shape) != 3 or 0 in shape:
                        code = "data.npz-arrays"
                    elif not fits(shape[1:]):
                        code = "data.npz-size"
                    else:
                        for _ in range(shape[0]):
                            data = member.read(shape[1] * shape[2])
                            if len(data) < shape[1] * shape[2]:
                                raise EOFError
                            yield np.frombuffer(data, np.uint8).reshape(shape[1:])
    except _DAMAGED:
        code = "data.npz-unreadable"
    if code:
        raise UnusableError(code)


def _form(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    """(shape, whether stored by columns, type) of an array, before it is unpacked. Raises ValueError."""
    version = np.lib.format.read_magic(member)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(
        version
    )
    if read is None:
        raise ValueError("an .npy of a version for field names beyond Latin-1, which no plain array has")
    return read(member)


def require_form(faults: Sequence[str], *, what: str, path: Path) -> None:
    """Raise DataRefusedError (data.npz-arrays) naming every fault in the form of the arrays."""
    if faults:
        raise DataRefusedError(
            f"{what}: {'; '.join(faults)}.", code="data.npz-arrays", remedy=_EXPECTED, diagnostics=str(path)
        )
