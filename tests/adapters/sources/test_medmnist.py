"""Shards of a MedMNIST file: uneven, complete, disjoint, reproducible; and every refusal of a bad .npz."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.sources.cohort import Cohort
from adapters.sources.findings import DataRefusedError
from adapters.sources.medmnist import NpzSource, ShardReport, write_shards
from policies.data_contract import DataContract

from .conftest import MARKER, SECRET, public_surface

REAL = Path(__file__).parents[4] / "shared" / "data" / "pneumoniamnist_28.npz"
SITES = ("hospital-a", "hospital-b", "hospital-c", "hospital-d")
Arrays = dict[str, NDArray[np.generic]]


def medmnist(train: int = 1500, seed: int = 0) -> Arrays:
    random = np.random.default_rng(seed)
    arrays: Arrays = {}
    for split, count in (("train", train), ("val", 100), ("test", 50)):
        arrays[f"{split}_images"] = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_labels"] = (random.random((count, 1)) < 0.6).astype(np.uint8)
    return arrays


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "medmnist.npz"
    np.savez(path, **medmnist())  # type: ignore[arg-type]
    return path


def load(path: Path, contract: DataContract) -> Cohort:
    return NpzSource(path, site="hospital-a", secret=SECRET).load(contract)


def check_split(report: ShardReport, arrays: Arrays, minimum: int, images: int) -> None:
    """Every training image is in exactly one shard, with its label; test images are in the public file alone."""
    pool = np.concatenate([arrays["train_images"], arrays["val_images"]])
    answers = np.concatenate([arrays["train_labels"], arrays["val_labels"]]).reshape(-1)
    seen: set[str] = set()
    total = 0
    for site, path in report.shards.items():
        with np.load(path, allow_pickle=False) as shard:
            rows = [int(identifier.removeprefix("invented-")) for identifier in shard["patients"]]
            assert np.array_equal(shard["images"], pool[rows]) and np.array_equal(
                shard["labels"], answers[rows]
            )
            counts = {label: int((shard["labels"] == label).sum()) for label in (0, 1)}
            assert not seen & set(shard["patients"])
            seen |= set(shard["patients"])
        assert report.images[site] == counts and min(counts.values()) >= minimum
        assert sum(counts.values()) >= images
        total += sum(counts.values())
    assert total == len(pool) == len(seen)
    with np.load(report.public_test, allow_pickle=False) as public:
        assert np.array_equal(public["images"], arrays["test_images"])
        assert np.array_equal(public["labels"], arrays["test_labels"].reshape(-1))
        assert not seen & set(public["patients"])


@pytest.mark.parametrize("seed", range(5))
def test_the_split_is_a_partition_that_meets_its_minimums(source: Path, tmp_path: Path, seed: int) -> None:
    report = write_shards(source, sites=SITES, seed=seed, out=tmp_path / "out")
    check_split(report, medmnist(), 60, 200)


def test_many_sites_fall_back_to_more_even_draws(source: Path, tmp_path: Path) -> None:
    sites = [f"site-{number}" for number in range(8)]  # 1,600 images for 8 x 200: only an even split is left
    report = write_shards(source, sites=sites, seed=0, out=tmp_path / "out")
    check_split(report, medmnist(), 60, 200)
    assert report.concentration > 0.5


def test_the_same_seed_writes_the_same_bytes(source: Path, tmp_path: Path) -> None:
    first, again, other = (
        write_shards(source, sites=SITES, seed=seed, out=tmp_path / name)
        for seed, name in ((1, "first"), (1, "again"), (2, "other"))
    )
    for site in SITES:
        assert first.shards[site].read_bytes() == again.shards[site].read_bytes()
    assert first.images != other.images
    assert first.public_test.read_bytes() == other.public_test.read_bytes()


def test_a_shard_becomes_a_cohort(source: Path, tmp_path: Path, contract: DataContract) -> None:
    report = write_shards(source, sites=SITES, seed=0, out=tmp_path / "out")
    for site, path in [*report.shards.items(), ("public-test", report.public_test)]:
        cohort = NpzSource(path, site=site, secret=SECRET).load(contract)
        assert cohort.inputs.shape[1:] == (1, 28, 28) and 0 <= cohort.inputs.min() <= cohort.inputs.max() <= 1
        assert cohort.patient_count == len(cohort.inputs)
        assert set(cohort.facts["modality"]) == {"CR"} and set(cohort.facts["bits"]) == {8}
    larger = contract.model_copy(update={"image": contract.image.model_copy(update={"width_px": 14})})
    assert load(report.shards["hospital-a"], larger).inputs.shape[1:] == (1, 28, 14)


@pytest.mark.skipif(not REAL.exists(), reason="the real chest X-rays are not beside this checkout")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_real_chest_xrays(tmp_path: Path, contract: DataContract, seed: int) -> None:
    report = write_shards(REAL, sites=SITES, seed=seed, out=tmp_path / "out")
    with np.load(REAL) as stored:
        check_split(report, dict(stored), 60, 200)
    sizes = [sum(counts.values()) for counts in report.images.values()]
    shares = [counts[1] / sum(counts.values()) for counts in report.images.values()]
    assert max(sizes) > 1.5 * min(sizes) and max(shares) - min(shares) > 0.05
    cohort = NpzSource(report.shards["hospital-a"], site="hospital-a", secret=SECRET).load(contract)
    assert 0.4 < cohort.inputs.mean() < 0.7


# Bad files


def _drop(name: str) -> Arrays:
    arrays = medmnist(300)
    del arrays[name]
    return arrays


def _with(name: str, value: NDArray[np.generic]) -> Arrays:
    return {**medmnist(300), name: value}


@pytest.mark.parametrize(
    ("arrays", "code", "said"),
    [
        ({"x": np.zeros(3)}, "data.npz-arrays", "train_images, train_labels, val_images"),
        (_drop("test_labels"), "data.npz-arrays", "arrays missing: test_labels"),
        (_with("train_images", np.zeros((300, 28, 28))), "data.npz-arrays", "train_images must be uint8"),
        (_with("train_images", np.zeros((300, 28, 28, 3), np.uint8)), "data.npz-arrays", "train_images"),
        (_with("val_images", np.zeros((100, 14, 14), np.uint8)), "data.npz-arrays", "one size"),
        (_with("val_images", np.zeros((0, 28, 28), np.uint8)), "data.npz-arrays", "val_images is empty"),
        (_with("val_images", np.array(3, np.uint8)), "data.npz-arrays", "val_images"),
        (
            _with("train_labels", np.zeros((300, 14), np.uint8)),
            "data.npz-arrays",
            "train_labels must be integers",
        ),
        (_with("train_labels", np.zeros(299, np.uint8)), "data.npz-arrays", "train_labels"),
        (_with("train_labels", np.zeros(300)), "data.npz-arrays", "train_labels"),
        (_with("test_labels", np.full((50, 1), 5)), "data.labels-value", "labels outside 0, 1"),
        (medmnist(300), "data.too-few-images", "too few images for 4 sites"),
        (_with("train_labels", np.array([{1}] * 300)), "data.npz-arrays", "pickled objects"),
    ],
)
def test_a_bad_medmnist_file(tmp_path: Path, arrays: Arrays, code: str, said: str) -> None:
    path = tmp_path / f"{MARKER}.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataRefusedError) as refused:
        write_shards(path, sites=SITES, seed=0, out=tmp_path / "out")
    assert refused.value.code == code and said in str(refused.value)
    assert MARKER not in public_surface(refused.value)
    assert not (tmp_path / "out").exists()


def test_all_faults_of_form_are_named_at_once(tmp_path: Path) -> None:
    arrays = _with("train_images", np.zeros((300, 28, 28))) | {"test_labels": np.zeros(3)}
    np.savez(tmp_path / "bad.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataRefusedError, match=r"train_images must.*test_labels must"):
        write_shards(tmp_path / "bad.npz", sites=SITES, seed=0, out=tmp_path / "out")


class _Armed:
    """Would raise if it were ever unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("a pickle was loaded",))


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "medmnist.npz"
    with pytest.raises(DataRefusedError) as refused:
        path.write_bytes(pickle.dumps(_Armed()))
        write_shards(path, sites=SITES, seed=0, out=tmp_path / "out")
    assert refused.value.code == "data.npz-unreadable"
    armed = np.empty(1, dtype=object)
    armed[0] = _Armed()
    np.savez(path, **_with("train_labels", armed))  # type: ignore[arg-type]
    with pytest.raises(DataRefusedError) as refused:
        write_shards(path, sites=SITES, seed=0, out=tmp_path / "out")
    assert refused.value.code == "data.npz-arrays"


def test_a_cut_or_damaged_file_is_refused(source: Path, tmp_path: Path) -> None:
    whole = source.read_bytes()
    damaged = bytearray(whole)
    damaged[1000] ^= 1
    for data in (b"", whole[:100], whole[: len(whole) // 2], whole[:-1], bytes(damaged)):
        source.write_bytes(data)
        with pytest.raises(DataRefusedError) as refused:
            write_shards(source, sites=SITES, seed=0, out=tmp_path / "out")
        assert refused.value.code == "data.npz-unreadable"
    source.unlink()
    with pytest.raises(DataRefusedError) as refused:
        write_shards(source, sites=SITES, seed=0, out=tmp_path / "out")
    assert refused.value.code == "data.missing"


def test_existing_shards_are_left_alone(source: Path, tmp_path: Path) -> None:
    write_shards(source, sites=SITES, seed=0, out=tmp_path / "out")
    with pytest.raises(DataRefusedError) as refused:
        write_shards(source, sites=SITES, seed=0, out=tmp_path / "out")
    assert refused.value.code == "data.exists"


def shard(**changes: object) -> Arrays:
    base: dict[str, object] = {
        "images": np.zeros((4, 28, 28), np.uint8),
        "labels": np.array([0, 1, 0, 1], np.int8),
        "patients": np.array(["a", "b", "c", "c"]),
        "modality": np.array("CR"),
    }
    base["labels"] = np.array([0, 1, 0, 0], np.int8)
    return base | changes  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("arrays", "codes"),
    [
        (shard(labels=np.array([0, 1, 2, 2], np.int8)), ("data.labels-value",)),
        (shard(labels=np.array([0, 1, 0, 1], np.int8)), ("data.labels-contradict",)),
        (shard(modality=np.array(MARKER)), ("data.modality",)),
        (shard(patients=np.array(["", "b", "c", " "])), ("data.patient-missing",)),
        (
            shard(
                modality=np.array("MR"), labels=np.array([9, 1, 0, 0]), patients=np.array(["", "b", "c", "c"])
            ),
            ("data.patient-missing", "data.modality", "data.labels-value"),
        ),
        (shard(patients=np.array([1, 2, 3, 4])), ("data.npz-arrays",)),
        (shard(patients=np.array([MARKER])), ("data.npz-arrays",)),
        (shard(images=np.zeros((4, 28, 28), np.float32)), ("data.npz-arrays",)),
        (shard(images=np.zeros((0, 28, 28), np.uint8)), ("data.npz-arrays",)),
        (shard(modality=np.array(["CR", "CR"])), ("data.npz-arrays",)),
        (shard(labels=np.array([None] * 4)), ("data.npz-arrays",)),
    ],
)
def test_a_bad_shard(tmp_path: Path, contract: DataContract, arrays: Arrays, codes: tuple[str, ...]) -> None:
    path = tmp_path / f"{MARKER}.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataRefusedError) as refused:
        load(path, contract)
    assert refused.value.codes == codes
    assert MARKER not in public_surface(refused.value)


# Sexes in a shard


def test_a_shard_may_name_sexes(source: Path, tmp_path: Path, contract: DataContract) -> None:
    path = write_shards(source, sites=SITES, seed=0, out=tmp_path / "out").shards["hospital-a"]
    with np.load(path) as stored:
        shard = dict(stored)
    assert set(load(path, contract).told_apart("sex")) == {2}
    sexes = np.array(["F", "M", "O", ""])[np.arange(len(shard["images"])) % 4]
    np.savez(path, **shard, sexes=sexes)
    counts = np.bincount(load(path, contract).told_apart("sex"), minlength=3)
    assert counts[0] == (sexes == "F").sum() and counts[1] == (sexes == "M").sum()


@pytest.mark.parametrize("sexes", [np.zeros(3), np.array(["F"]), np.array("F"), np.array([b"F"])])
def test_malformed_sexes_are_refused(
    source: Path, tmp_path: Path, contract: DataContract, sexes: NDArray[np.generic]
) -> None:
    path = write_shards(source, sites=SITES, seed=0, out=tmp_path / "out").shards["hospital-a"]
    with np.load(path) as stored:
        shard = dict(stored)
    np.savez(path, **shard, sexes=sexes)
    with pytest.raises(DataRefusedError) as refused:
        load(path, contract)
    assert refused.value.code == "data.npz-arrays" and "sexes" in str(refused.value)


def test_pickled_sexes_are_never_loaded(source: Path, tmp_path: Path, contract: DataContract) -> None:
    path = write_shards(source, sites=SITES, seed=0, out=tmp_path / "out").shards["hospital-a"]
    with np.load(path) as stored:
        shard = dict(stored)
    np.savez(path, **shard, sexes=np.array(["F"] * len(shard["images"]), dtype=object))
    with pytest.raises(DataRefusedError) as refused:
        load(path, contract)
    assert "pickled" in str(refused.value)


def test_a_small_file_that_unpacks_to_far_too_much_is_refused(
    tmp_path: Path, contract: DataContract, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"{MARKER}.npz"
    np.savez_compressed(path, **shard(images=np.zeros((4, 1000, 1000), np.uint8)))  # type: ignore[arg-type]
    assert load(path, contract).inputs.shape == (4, 1, 28, 28)
    monkeypatch.setattr("adapters.sources.npz.LARGEST_BYTES", 1_000_000)
    with pytest.raises(DataRefusedError) as refused:
        load(path, contract)
    assert refused.value.code == "data.npz-size" and MARKER not in public_surface(refused.value)


@pytest.mark.parametrize("field", ["depth", "mask", "table"])
def test_a_shard_is_no_source_of_volumes_masks_or_rows(
    tmp_path: Path, contract: DataContract, field: str
) -> None:
    np.savez(tmp_path / "x.npz", **shard())  # type: ignore[arg-type]
    other = {
        "depth": contract.model_copy(update={"image": contract.imaged().model_copy(update={"depth_px": 8})}),
        "mask": contract.model_copy(update={"target": "mask"}),
        "table": contract.model_copy(update={"image": None}),
    }[field]
    with pytest.raises(DataRefusedError) as refused:
        load(tmp_path / "x.npz", other)
    assert refused.value.code == "data.kind"
