"""A MedMNIST file over the sites of a federation, and one site's shard of it as a cohort.

    MedMNIST .npz      train_images, val_images, test_images   uint8 (n, height_px, width_px)
                       train_labels, val_labels, test_labels   integers (n,) or (n, 1)
    SITE.npz (shard)   images    uint8 (n, height_px, width_px)
                       labels    int8  (n,)
                       patients  text  (n,)
                       modality  text  (): "CR"
                       sexes     text  (n,): "F", "M", anything else; may be left out, and is by `write_shards`

MedMNIST has no patient identifiers: here one image is one patient, with an invented identifier, although the
children behind PneumoniaMNIST had up to several images each. A privacy statement about such a run is therefore
per image. Training and validation images go to the sites; the official test images go to `public-test.npz`,
in the shard's form, and are nobody's training data. Reading .npz safely lives in `npz`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapters.sources.assembly import assemble, require_images
from adapters.sources.cohort import Cohort
from adapters.sources.eight_bit import eight_bit_to_unit
from adapters.sources.findings import DataRefusedError, Findings
from adapters.sources.npz import read_arrays, require_form
from adapters.sources.resize import area_resize
from policies.data_contract import DataContract

PUBLIC_TEST = "public-test"
MODALITY = "CR"

_SPLITS = ("train", "val", "test")
_DRAWS_PER_CONCENTRATION = 200


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What `write_shards` did. Counts are of public data; `images[site][label]`."""

    shards: Mapping[str, Path]
    public_test: Path
    images: Mapping[str, Mapping[int, int]]
    concentration: float
    """The concentration of the draw that was kept: at least the one that was asked for."""
    draws: int


class NpzSource:
    """One shard as a site's cohort, resized to the contract's size, scaled as its `intensities` say."""

    def __init__(self, path: Path, *, site: str, secret: bytes) -> None:
        self._path = path
        self._site = site
        self._secret = secret

    def load(self, contract: DataContract) -> Cohort:
        """Raises DataRefusedError: data.kind, data.missing, data.npz-*, data.empty, data.modality,
        data.labels-value, data.labels-contradict, data.patient-missing, data.secret."""
        require_images(contract, site=self._site)
        what = f"site {self._site}: its .npz shard"
        arrays = read_arrays(
            self._path, ("images", "labels", "patients", "modality"), what=what, optional=("sexes",)
        )
        images, labels = arrays["images"], arrays["labels"]
        patients, modality = arrays["patients"], arrays["modality"]
        faults = [*_image_faults("images", images), *_label_faults("labels", labels, len(images))]
        if patients.shape != (len(images),) or patients.dtype.kind != "U":
            faults.append("patients must be text, one an image")
        sexes = arrays.get("sexes")
        if sexes is not None and (sexes.shape != (len(images),) or sexes.dtype.kind != "U"):
            faults.append("sexes must be text, one an image")
        if modality.shape != () or modality.dtype.kind != "U":
            faults.append("modality must be one text")
        require_form(faults, what=what, path=self._path)

        findings = Findings(self._site)
        flat = labels.reshape(-1).astype(np.int64)
        for row in np.flatnonzero(~np.isin(flat, contract.labels)).tolist():
            findings.add("data.labels-value", f"{self._path} row {row}")
        identifiers = [str(identifier) for identifier in patients]
        for row, identifier in enumerate(identifiers):
            if not identifier.strip():
                findings.add("data.patient-missing", f"{self._path} row {row}")
        if str(modality) not in contract.imaged().modalities:
            findings.add("data.modality", str(self._path))
        findings.refuse()
        size = contract.imaged()
        resized = np.empty((len(images), 1, size.height_px, size.width_px), np.float32)
        for row, image in enumerate(images):  # one at a time: as float64 a shard is eight times itself
            unit = eight_bit_to_unit(image, size)
            resized[row, 0] = area_resize(unit, height_px=size.height_px, width_px=size.width_px)
        return assemble(
            contract,
            site=self._site,
            secret=self._secret,
            inputs=resized,
            labels=[int(label) for label in flat],
            identifiers=identifiers,
            modalities=[str(modality)] * len(images),
            bits=[8] * len(images),
            sexes=None if sexes is None else [str(sex) for sex in sexes],
        )


def write_shards(
    npz_path: Path,
    *,
    sites: Sequence[str],
    seed: int,
    concentration: float = 0.5,
    out: Path,
    labels: Sequence[int] = (0, 1),
    minimum_per_label: int = 60,
    minimum_images: int = 200,
    invent_sexes: bool = False,
) -> ShardReport:
    """Split a MedMNIST file over `sites` into `out/<site>.npz` and `out/public-test.npz`.

    For each label, the sites' shares are one draw from a symmetric Dirichlet of `concentration`, so sites
    differ in size and in prevalence. A draw that leaves a site under `minimum_per_label` of a label or under
    `minimum_images` is drawn again; after every 200 failures the concentration doubles (and the split is more
    even): with many sites an uneven draw that leaves nobody too small may not exist. Everything follows from
    `seed`. Nothing is written unless all of it can be.

    `invent_sexes` gives every image a sex by lot, for trials of what needs subgroups: MedMNIST knows none, and
    figures by an invented sex say nothing of a model.

    Raises DataRefusedError: data.missing, data.npz-*, data.labels-value (labels outside `labels`),
    data.too-few-images, data.exists (`out` has one of the files).
    """
    names = [*sites, PUBLIC_TEST]
    if not sites or len(set(names)) != len(names):
        raise ValueError("sites must be given, and differ from each other and from public-test")
    targets = {name: out / f"{name}.npz" for name in names}
    if any(target.exists() for target in targets.values()):
        raise DataRefusedError(
            "the folder for the shards already holds some of them.",
            code="data.exists",
            remedy="Name another folder or remove them.",
            diagnostics=str(out),
        )
    images, answers, test_images, test_answers = _read_medmnist(npz_path, labels)
    parts, used, draws = _uneven_split(
        answers,
        labels=labels,
        site_count=len(sites),
        random=np.random.default_rng(seed),
        concentration=concentration,
        minimum_per_label=minimum_per_label,
        minimum_images=minimum_images,
    )
    out.mkdir(parents=True, exist_ok=True)
    lots = np.random.default_rng([seed, 1]).choice(["F", "M"], len(images)) if invent_sexes else None
    for site, part in zip(sites, parts, strict=True):
        sexes = None if lots is None else lots[part]
        _write_shard(targets[site], images[part], answers[part], part, sexes=sexes)
    numbers = np.arange(len(images), len(images) + len(test_images))
    _write_shard(targets[PUBLIC_TEST], test_images, test_answers, numbers)
    counts = {
        site: {int(label): int((answers[part] == label).sum()) for label in labels}
        for site, part in zip(sites, parts, strict=True)
    }
    shards = {site: targets[site] for site in sites}
    return ShardReport(shards, targets[PUBLIC_TEST], counts, used, draws)


Uint8Array = NDArray[np.uint8]
Int8Array = NDArray[np.int8]


def _read_medmnist(path: Path, allowed: Sequence[int]) -> tuple[Uint8Array, Int8Array, Uint8Array, Int8Array]:
    """(images, labels) of training and validation together, then of the test set."""
    what = "the MedMNIST file"
    names = [f"{split}_{kind}" for split in _SPLITS for kind in ("images", "labels")]
    arrays = read_arrays(path, names, what=what)
    faults: list[str] = []
    for split in _SPLITS:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        faults += _image_faults(f"{split}_images", images)
        faults += _label_faults(f"{split}_labels", labels, len(images) if images.ndim else 0)
    if not faults and len({arrays[f"{split}_images"].shape[1:] for split in _SPLITS}) != 1:
        faults.append("images must have one size")
    require_form(faults, what=what, path=path)
    if any(not np.isin(arrays[f"{split}_labels"], allowed).all() for split in _SPLITS):
        raise DataRefusedError(
            f"{what}: labels outside {', '.join(map(str, allowed))}.",
            code="data.labels-value",
            remedy="Use a file with these labels, or a plan with the file's labels.",
            diagnostics=str(path),
        )
    flat = {split: arrays[f"{split}_labels"].reshape(-1).astype(np.int8) for split in _SPLITS}
    pixels = {split: arrays[f"{split}_images"].astype(np.uint8) for split in _SPLITS}
    return (
        np.concatenate([pixels["train"], pixels["val"]]),
        np.concatenate([flat["train"], flat["val"]]),
        pixels["test"],
        flat["test"],
    )


def _image_faults(name: str, images: NDArray[np.generic]) -> list[str]:
    if images.dtype != np.uint8 or images.ndim != 3 or 0 in images.shape[1:]:
        return [f"{name} must be uint8 of shape (n, height, width)"]
    return [] if len(images) else [f"{name} is empty"]


def _label_faults(name: str, labels: NDArray[np.generic], count: int) -> list[str]:
    if labels.dtype.kind not in "iu" or labels.shape not in ((count,), (count, 1)):
        return [f"{name} must be integers, one an image"]
    return []


def _uneven_split(
    answers: Int8Array,
    *,
    labels: Sequence[int],
    site_count: int,
    random: np.random.Generator,
    concentration: float,
    minimum_per_label: int,
    minimum_images: int,
) -> tuple[list[NDArray[np.int64]], float, int]:
    """(rows of each site, concentration used, draws). Raises DataRefusedError (data.too-few-images)."""
    totals = np.array([(answers == label).sum() for label in labels])
    if (totals < site_count * minimum_per_label).any() or totals.sum() < site_count * minimum_images:
        raise DataRefusedError(
            f"the MedMNIST file: too few images for {site_count} sites.",
            code="data.too-few-images",
            remedy=f"Each site needs {minimum_images} images, {minimum_per_label} of each label: use fewer sites.",
        )
    draws = 0
    while True:
        shares = random.dirichlet([concentration] * site_count, size=len(labels))  # (labels, sites)
        draws += 1
        cuts = np.rint(np.cumsum(shares, axis=1)[:, :-1] * totals[:, None]).astype(np.int64)
        counts = np.diff(cuts, axis=1, prepend=0, append=totals[:, None])
        # So even a share without any chance of being met ends: an even split meets both minimums.
        if concentration > 1e6:
            counts = np.stack([np.bincount(np.arange(n) % site_count, minlength=site_count) for n in totals])
            cuts = np.cumsum(counts, axis=1)[:, :-1]
        if (counts >= minimum_per_label).all() and (counts.sum(axis=0) >= minimum_images).all():
            break
        if concentration > 1e6:
            raise RuntimeError("an even split must meet the minimums")
        if draws % _DRAWS_PER_CONCENTRATION == 0:
            concentration *= 2
    parts: list[list[NDArray[np.int64]]] = [[] for _ in range(site_count)]
    for label, cut in zip(labels, cuts, strict=True):
        rows = random.permutation(np.flatnonzero(answers == label))
        for part, chosen in zip(parts, np.split(rows, cut), strict=True):
            part.append(chosen)
    return [np.sort(np.concatenate(part)) for part in parts], concentration, draws


def _write_shard(
    path: Path,
    images: Uint8Array,
    labels: Int8Array,
    numbers: NDArray[np.int64],
    *,
    sexes: NDArray[np.str_] | None = None,
) -> None:
    arrays: dict[str, NDArray[np.generic]] = {"images": images, "labels": labels}
    arrays["patients"] = np.array([f"invented-{number:06d}" for number in numbers])
    arrays["modality"] = np.array(MODALITY)
    if sexes is not None:
        arrays["sexes"] = sexes
    beside = path.with_name(f".{path.name}.writing")
    with beside.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
