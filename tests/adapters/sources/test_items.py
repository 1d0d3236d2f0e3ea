"""Files to try a model on: read as the training data were, and never refused as a whole."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from adapters.home import FeatureLayout
from adapters.mask_files import MaskExistsError, write_mask
from adapters.sources import nifti
from adapters.sources.dicom import DicomSource
from adapters.sources.feature_table import FeatureTableSource
from adapters.sources.findings import DataRefusedError
from adapters.sources.items import Item, Unusable, read_items
from adapters.sources.unusable import PASSED_OVER
from policies.data_contract import DataContract

from .conftest import SECRET, WriteSite

TABLE = DataContract.from_value(
    {
        "table": {
            "features": [
                {"kind": "number", "name": "age", "lower": 20.0, "upper": 80.0},
                {"kind": "word", "name": "sex", "categories": ["female", "male"]},
            ],
            "label": "disease",
        },
        "labels": [0, 1],
        "minimum_patients": 1,
        "held_out_fraction": 0.2,
    },
    what="data",
)
VOLUME = DataContract.from_value(
    {
        "image": {"depth_px": 8, "height_px": 8, "width_px": 8, "modalities": ["CT"]},
        "target": "mask",
        "labels": [0, 1],
        "minimum_patients": 1,
        "held_out_fraction": 0.2,
    },
    what="data",
)


def usable(path: Path, contract: DataContract, layout: FeatureLayout | None = None) -> list[Item]:
    found = [one for one in read_items(path, contract, layout) if getattr(one, "code", "") != PASSED_OVER]
    assert all(isinstance(one, Item) for one in found), found
    return [one for one in found if isinstance(one, Item)]


def test_dicom_images_are_read_as_the_cohort_is(write_site: WriteSite, contract: DataContract) -> None:
    folder = write_site()
    cohort = DicomSource(folder, site="hospital-a", secret=SECRET).load(contract)
    items = usable(folder, contract)
    assert sorted(item.input.tobytes() for item in items) == sorted(one.tobytes() for one in cohort.inputs)


def test_rows_of_a_table_are_read_as_the_cohort_is_without_patient_or_label(tmp_path: Path) -> None:
    whole, bare = tmp_path / "whole.csv", tmp_path / "bare.csv"
    whole.write_text("patient_id,age,sex,disease\np1,30,male,0\np2,,female,1\n")
    bare.write_text("Sex,age\nmale,30\nfemale,\n")
    cohort = FeatureTableSource(whole, site="hospital-a", secret=SECRET).load(TABLE)
    items = usable(bare, TABLE)
    assert [item.name for item in items] == ["bare.csv#2", "bare.csv#3"]
    rows = sorted(one.tolist() for one in cohort.inputs)
    assert sorted(item.input.tolist() for item in items) == rows
    assert sorted(item.input.tolist() for item in usable(whole, TABLE)) == rows


def test_faults_of_rows_and_tables_are_named_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("age,sex\nold,male\n40,other\n40\n40,female\n")
    (tmp_path / "b.csv").write_text("age\n40\n")
    (tmp_path / "c.png").write_bytes(b"")
    found = [one.code if isinstance(one, Unusable) else "ok" for one in read_items(tmp_path, TABLE)]
    assert found == [
        "data.table-number", "data.table-word", "data.table-row", "ok", "data.table-columns", "data.not-table",
    ]  # fmt: skip


@pytest.mark.parametrize("flip", [False, True])
def test_a_mask_comes_to_lie_where_the_volume_is(tmp_path: Path, flip: bool) -> None:
    """A lesion at a known place in millimetres, in a volume that is stored either way round."""
    affine = np.diag([-2.0 if flip else 2.0, 1.0, 3.0, 1.0])
    values = np.zeros((12, 10, 8), np.float32)
    values[9, 2, 6] = 1.0
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "volume.nii.gz")
    (item,) = usable(tmp_path / "volume.nii.gz", VOLUME)
    assert item.input.shape == VOLUME.shape and item.size == (8, 10, 12) and item.affine is not None
    grid = nifti.read_grid(tmp_path / "volume.nii.gz", dimensions=3)
    mask = (grid.values > 0).astype(np.uint8)
    written = write_mask(tmp_path / "out", item.name, mask, item.affine)
    read = nibabel.load(written)
    places = np.argwhere(np.asarray(read.dataobj))
    assert len(places) == 1
    where = read.affine @ np.array([*places[0], 1.0])
    np.testing.assert_allclose(where, affine @ np.array([9.0, 2.0, 6.0, 1.0]))
    with pytest.raises(MaskExistsError):
        write_mask(tmp_path / "out", item.name, mask, item.affine)


def test_a_name_never_leads_out_of_the_folder(tmp_path: Path) -> None:
    written = write_mask(tmp_path / "out", "../../etc/x", np.ones((2, 2), np.uint8), None)
    assert written.parent == tmp_path / "out"


def test_images_are_no_volumes(write_site: WriteSite) -> None:
    found = list(read_items(write_site(patients=1, images=1), VOLUME))
    codes = [one.code for one in found if isinstance(one, Unusable)]
    assert sorted(codes) == ["data.passed-over", "data.volume-dimensions"]  # its labels.csv, its image


def test_nothing_to_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataRefusedError, match=r"data\.empty"):
        list(read_items(tmp_path, TABLE))
    with pytest.raises(DataRefusedError, match=r"data\.missing"):
        list(read_items(tmp_path / "none", TABLE))
