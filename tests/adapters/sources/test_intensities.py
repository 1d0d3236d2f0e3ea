"""Two hospitals keep the same picture in files of two kinds: what the plan says decides whether it stays the same."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image as Picture

from adapters.sources.items import Item, read_items
from adapters.sources.medmnist import NpzSource
from adapters.sources.volumes import NiftiSource
from policies.data_contract import DataContract, Image
from tasks.model.exported import preprocessing

from .conftest import SECRET

DARK = np.linspace(16, 90, 28 * 28).reshape(28, 28).astype(np.uint8)


def with_intensities(contract: DataContract, said: str | None) -> DataContract:
    image = contract.imaged().to_json()
    del image["intensities"]
    return contract.with_fields({"image": image if said is None else {**image, "intensities": said}})


def both(folder: Path, contract: DataContract) -> list[np.ndarray]:
    """As the hospital with shards has it, and as the one with NIfTI."""
    images = np.stack([DARK, np.full((28, 28), 7, np.uint8), DARK // 2])
    shard = folder / "a.npz"
    people = np.array(["p1", "p2", "p3"])
    np.savez(shard, images=images, labels=np.zeros(3, np.int8), patients=people, modality=np.array("CR"))
    rows = ["file,patient_id,label,modality"]
    for person, image in zip(people, images, strict=True):
        nibabel.save(nibabel.Nifti1Image(image.T, np.eye(4)), folder / f"{person}.nii")
        rows.append(f"{person}.nii,{person},0,CR")
    (folder / "patients.csv").write_text("\n".join(rows))
    sources = (NpzSource(shard, site="a", secret=SECRET), NiftiSource(folder, site="b", secret=SECRET))
    return [source.load(contract).inputs for source in sources]


def test_the_same_picture_is_the_same_whatever_its_file(tmp_path: Path, contract: DataContract) -> None:
    own = with_intensities(contract, "own-range")
    shards, volumes = both(tmp_path, own)
    np.testing.assert_allclose(shards, volumes, atol=1e-6)
    assert sorted(float(one.max()) for one in shards) == pytest.approx([0.0, 1.0, 1.0])
    # What `wardround predict` reads is what was trained on.
    Picture.fromarray(DARK).save(tmp_path / "dark.png")
    items = [one for name in ("dark.png", "a.npz") for one in read_items(tmp_path / name, own)]
    assert all(isinstance(one, Item) for one in items)
    given = [one.input for one in items if isinstance(one, Item)]
    np.testing.assert_allclose(given[0], given[1], atol=1e-6)
    assert sorted(one.tobytes() for one in given[1:]) == sorted(one.tobytes() for one in shards)


def test_by_source_keeps_a_dark_shard_dark(tmp_path: Path, contract: DataContract) -> None:
    """The default, for hospitals whose files are of one kind."""
    default = with_intensities(contract, None)
    assert default == with_intensities(contract, "by-source") and isinstance(default.image, Image)
    shards, volumes = both(tmp_path, default)
    assert float(shards.max()) == pytest.approx(90 / 255) and float(volumes.max()) == 1.0


def test_an_exported_model_says_which_it_was(contract: DataContract) -> None:
    said = {
        one: preprocessing(with_intensities(contract, one))["intensities"]
        for one in ("by-source", "own-range")
    }
    assert "255" in str(said["by-source"]) and "every image: own lowest to 0" in str(said["own-range"])
