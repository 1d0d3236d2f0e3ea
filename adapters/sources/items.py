"""Files that a model is tried on: images, volumes or rows without labels, each as the network takes it.

    PATH                     a file, or a folder with any sub-folders
    *.npz                    `images` of a shard, else `test_images` of MedMNIST: one item an image, FILE#NUMBER
    *.png, *.jpg, *.jpeg     grey-scale, or colour of equal channels without transparency; 8 bits scaled as of .npz
                             (`eight_bit`), 16 bits as DICOM's
    *.nii, *.nii.gz          one volume or slice (`nifti`)
    *.csv, *.parquet         under a contract of a table, which takes nothing else: one item a row, FILE#ROW as the
                             file numbers them (`feature_table`)
    anything else            one DICOM image (`dicom_image`)

Nothing is refused as a whole: a file that cannot be used is an `Unusable` with its code, and the next one is read. So
is one that is passed over for its name (hidden, notes, labels), and a hidden folder as a whole. No patient's
identifier is read or needed. What is scored, and where it goes, is not known here.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.home import FeatureLayout
from adapters.sources import dicom_image, nifti
from adapters.sources.dicom import parsed, silent_pydicom
from adapters.sources.eight_bit import eight_bit_to_unit
from adapters.sources.feature_table import feature_values
from adapters.sources.findings import DataRefusedError, UnusableError
from adapters.sources.image_size import fits
from adapters.sources.npz import eight_bit_images
from adapters.sources.resize import area_resize
from adapters.sources.table_rows import find_columns, table_rows
from adapters.sources.unusable import PASSED_OVER
from policies.data_contract import DataContract, FeatureTable

_SKIPPED_NAMES = {"labels.csv", "patients.csv", "DICOMDIR"}
_SKIPPED_SUFFIXES = {".txt", ".json", ".md", ".yaml"}
_TABLES = {".csv", ".parquet"}
_PICTURES = {".png", ".jpg", ".jpeg"}


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    name: str
    input: NDArray[np.float32]
    """Of the contract's shape."""
    size: tuple[int, ...]
    """([depth,] height, width) as it is stored; () of a row. Masks are brought back to it."""
    affine: NDArray[np.float64] | None = None
    """Of NIfTI: (4, 4), from places in `size`, its axes in reverse, to millimetres."""


@dataclass(frozen=True, slots=True)
class Unusable:
    name: str
    code: str


def read_items(
    path: Path, contract: DataContract, layout: FeatureLayout | None = None
) -> Iterator[Item | Unusable]:
    """Every item under `path`, sorted by file; `layout` is of tables. Raises DataRefusedError: data.missing,
    data.empty."""
    if not path.exists():
        raise DataRefusedError(
            "the path to predict on does not exist.", code="data.missing", remedy="Check it."
        )
    files = [path] if path.is_file() else sorted(_files(path))
    if all(file != path and _is_passed_over(file) for file in files):
        raise DataRefusedError(
            "there is no file to predict on.", code="data.empty", remedy="Give a file or a folder with files."
        )
    with silent_pydicom():
        for file in files:
            name = str(file.relative_to(path.parent if path.is_file() else path))
            if file != path and _is_passed_over(file):
                yield Unusable(name, PASSED_OVER)
                continue
            try:
                if contract.table is not None:
                    yield from _rows(file, name, contract.table, layout or FeatureLayout())
                else:
                    yield from _read(file, name, contract)
            except UnusableError as unusable:
                yield Unusable(name, unusable.code)
            except DataRefusedError as refused:
                yield Unusable(name, refused.code)
            except MemoryError:
                yield Unusable(name, "data.memory")


def _files(folder: Path) -> Iterator[Path]:
    """All of them, and the folders into which nobody looks: hidden ones and links."""
    for parent, folders, names in os.walk(folder):
        closed = [name for name in folders if name.startswith(".") or Path(parent, name).is_symlink()]
        yield from (Path(parent, name) for name in closed)
        folders[:] = sorted(set(folders) - set(closed))
        yield from (Path(parent, name) for name in names)


def _is_passed_over(path: Path) -> bool:
    """What is no file (a link to nothing, a pipe) would be waited for, and is not opened."""
    named = path.name.startswith(".") or path.name in _SKIPPED_NAMES
    return named or path.suffix.lower() in _SKIPPED_SUFFIXES or not path.is_file()


def _read(path: Path, name: str, contract: DataContract) -> Iterator[Item]:
    suffix = path.suffix.lower()
    if suffix in _TABLES:
        raise UnusableError("data.not-image")
    if path.name.lower().endswith(nifti.SUFFIXES):
        grid = nifti.read_grid(path, dimensions=len(contract.shape) - 1)
        scaled = nifti.scaled(grid, contract.shape[1:])[None]
        yield Item(name, scaled, grid.values.shape, nifti.turned_affine(grid))
    elif contract.imaged().depth_px is not None:
        raise UnusableError("data.volume-dimensions")
    elif suffix == ".npz":
        yield from _arrays(path, name, contract)
    else:
        yield (_picture if suffix in _PICTURES else _dicom)(path, name, contract)


def _rows(path: Path, name: str, table: FeatureTable, layout: FeatureLayout) -> Iterator[Item | Unusable]:
    """Needs the columns of the features alone: no patient, no label."""
    if path.suffix.lower() not in _TABLES:
        raise UnusableError("data.not-table")
    header, *rows = table_rows(path) or [[]]
    names = [feature.name for feature in table.features]
    places, lacking = find_columns(layout, header, names, patient=False)
    if lacking:
        raise UnusableError("data.table-columns")
    for number, fields in enumerate(rows, start=2):
        if not any(text.strip() for text in fields):
            continue
        label = f"{name}#{number}"
        if len(fields) != len(header):
            yield Unusable(label, "data.table-row")
            continue
        texts = [fields[place] for place in places]
        values, faults = feature_values(layout, table.features, texts)
        yield Unusable(label, faults[0][0]) if faults else Item(label, values, ())


def _image(name: str, scaled: NDArray[np.float64], contract: DataContract) -> Item:
    size = contract.imaged()
    resized = area_resize(scaled, height_px=size.height_px, width_px=size.width_px)
    return Item(name, resized[None], scaled.shape)


def _arrays(path: Path, name: str, contract: DataContract) -> Iterator[Item]:
    for number, image in enumerate(eight_bit_images(path, ("images", "test_images"))):
        yield _image(f"{name}#{number}", eight_bit_to_unit(image, contract.imaged()), contract)


def _picture(path: Path, name: str, contract: DataContract) -> Item:
    from PIL import Image

    code, highest, pixels = "", 0.0, np.zeros((0, 0))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `fits` asks for less
            with Image.open(path) as picture:  # reads the header alone
                highest = {"1": 1.0, "L": 255.0, "RGB": 255.0, "RGBA": 255.0}.get(picture.mode, 0.0)
                if not fits(picture.size):
                    code = "data.picture-size"
                elif not highest and not picture.mode.startswith("I"):
                    code = "data.picture-color"
                else:
                    pixels = np.asarray(picture)
    except Image.DecompressionBombError:
        code = "data.picture-size"
    except (OSError, ValueError, SyntaxError):
        code = "data.picture-unreadable"
    if code:
        raise UnusableError(code)
    pixels = (pixels if pixels.ndim == 2 else _grey(pixels)).astype(np.float64)
    if highest:
        return _image(name, eight_bit_to_unit(pixels, contract.imaged(), highest=highest), contract)
    return _image(name, dicom_image.to_unit(pixels, np.ones(pixels.shape, np.bool_)), contract)


def _grey(pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    """The one channel of a grey picture that was saved in colour, uint8 (height, width, 3 or 4). Refuses any other:
    which grey a colour would be is nobody's to guess, nor what lies behind a transparent pixel."""
    grey = pixels[..., 0]
    same = all(np.array_equal(grey, pixels[..., channel]) for channel in (1, 2))
    if not same or (pixels.shape[-1] == 4 and bool((pixels[..., 3] != 255).any())):
        raise UnusableError("data.picture-color")
    return grey


def _dicom(path: Path, name: str, contract: DataContract) -> Item:
    dataset, (modality, *_) = parsed(path)
    if str(modality).strip() not in contract.imaged().modalities:
        raise UnusableError("data.modality")
    return _image(name, dicom_image.scaled_image(dataset)[0], contract)
