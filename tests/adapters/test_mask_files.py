"""Masks end in files of their own: no name costs another item's mask, and nothing half is left behind."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from adapters.mask_files import MaskExistsError, MaskUnwritableError, _plain, write_mask
from tasks.model.predicting import Prediction
from wardround.predict import _rows

MASK = np.eye(4, dtype=np.uint8)


def test_names_that_look_alike_get_a_digest(tmp_path: Path) -> None:
    """Two folders of a hospital's, and a file called like the one in the other."""
    names = ["a_b.png", "a/b.png", "a b.png", ".a_b.png", "n" * 255, "n" * 254 + "m", "\udcff.png"]
    written = [write_mask(tmp_path, name, MASK, None) for name in names]
    assert written[0].name == "a_b.png-mask.png"
    assert len(set(written)) == len(names) and all(path.parent == tmp_path for path in written)
    np.testing.assert_array_equal(np.asarray(Image.open(written[1])), MASK * 255)


@given(st.text(max_size=300))
def test_every_name_becomes_a_file_name(name: str) -> None:
    plain = _plain(name)
    assert len(f"{plain}-mask.nii.gz".encode()) <= 255 and not plain.startswith(".")
    assert set(plain) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._#-")


def test_what_exists_stays(tmp_path: Path) -> None:
    path = write_mask(tmp_path, "a.png", MASK, None)
    before = path.read_bytes()
    with pytest.raises(MaskExistsError):
        write_mask(tmp_path, "a.png", 1 - MASK, None)
    assert path.read_bytes() == before


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: the next run finds no half file that would be in its way."""
    with monkeypatch.context() as full:

        def fails(_: int) -> None:
            raise OSError(28, "No space left on device")

        full.setattr("adapters.home.os.fsync", fails)
        with pytest.raises(MaskUnwritableError):
            write_mask(tmp_path, "a.nii.gz", MASK, np.eye(4))
    assert not list(tmp_path.iterdir())
    written = write_mask(tmp_path, "a.nii.gz", MASK, np.eye(4))
    np.testing.assert_array_equal(np.asarray(nibabel.load(written).dataobj), MASK.T)


def test_a_file_in_the_place_of_the_folder_is_one_items_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(MaskUnwritableError):
        write_mask(tmp_path / "out", "a.png", MASK, None)


def test_an_item_whose_mask_is_there_already_costs_no_other_item_its_own(tmp_path: Path) -> None:
    write_mask(tmp_path, "a.png", MASK, None)
    found = iter([Prediction(name, None, MASK, None, None) for name in ("a.png", "b.png")])
    rows = list(_rows(found, tmp_path))
    assert [row["error"] for row in rows] == ["predict.exists", None]
    assert Path(str(rows[1]["mask_file"])).name == "b.png-mask.png" and rows[0]["mask_file"] is None
