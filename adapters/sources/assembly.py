"""Putting together what an adapter read: items and identifiers in, a cohort out. The identifiers end here.

Lives here: keying and ordering of patients, the rule of one label a patient, and the facts that the data contract is
checked against (`policies.contract.facts`). Files are the adapters' business, and what a cohort is, `cohort`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adapters.sources.cohort import Cohort, patient_key
from adapters.sources.findings import DataRefusedError, Findings
from adapters.sources.subgroups import groups_of
from policies.data_contract import DataContract

_SECRET_BYTES = 16


def assemble(
    contract: DataContract,
    *,
    site: str,
    secret: bytes,
    inputs: NDArray[np.float32],
    labels: Sequence[int],
    identifiers: Sequence[str],
    modalities: Sequence[str] | None = None,
    bits: Sequence[int] | None = None,
    sexes: Sequence[str] | None = None,
    ages: Sequence[str] | None = None,
    races: Sequence[str] | None = None,
    masks: NDArray[np.uint8] | None = None,
) -> Cohort:
    """Build a cohort from what an adapter read.

    All sequences have one entry an item; `inputs` and `masks` are as in `Cohort`. Rows of a table have no modalities
    and no bits. `sexes` (codes of DICOM's PatientSex, or words), `ages` (years) and `races` place patients in
    subgroups; whom they do not place is in `other`, as everybody is without them. Where masks are learned, labels
    follow from them and `labels` are not looked at; elsewhere masks are left out. Rows of one patient may differ in
    their label (a readmission), images may not.
    Raises DataRefusedError: data.secret (under 16 bytes), data.empty, data.labels-contradict, data.masks-missing.
    """
    if len(secret) < _SECRET_BYTES:
        raise DataRefusedError(
            f"site {site}: the secret that keys patients is shorter than {_SECRET_BYTES} bytes.",
            code="data.secret",
            remedy="Create the site's secret again with 32 random bytes.",
        )
    if not len(inputs):
        raise DataRefusedError(
            f"site {site}: no image, or no row of a table.",
            code="data.empty",
            remedy="Point the site at a folder with images, or a table with rows.",
        )
    if contract.target == "mask" and masks is None:
        raise DataRefusedError(
            f"site {site}: the plan learns masks, and the images have none.",
            code="data.masks-missing",
            remedy="Use a source that holds a mask for every image.",
        )
    by_item = [patient_key(identifier, site=site, secret=secret) for identifier in identifiers]
    keys = tuple(sorted(set(by_item)))
    number = {key: index for index, key in enumerate(keys)}
    patients = np.array([number[key] for key in by_item], dtype=np.int64)
    order = np.argsort(patients, kind="stable")
    inputs, patients = np.ascontiguousarray(inputs[order]), patients[order]
    if contract.target == "mask" and masks is not None:
        masks = np.ascontiguousarray(masks[order])
        label_array = _labels_of_masks(masks, patients, contract)
    else:
        masks, label_array = None, np.array(labels, dtype=np.int8)[order]
    if contract.table is None:
        _one_label_each(site, patients, label_array)
    groups = groups_of({"sex": sexes, "age": ages, "race": races}, items=len(by_item))[order]
    facts = pd.DataFrame({"patient": patients, "label": label_array, **_sizes(inputs)})
    if modalities is not None:
        facts["modality"] = np.array(modalities, dtype=object)[order]
    if bits is not None:
        facts["bits"] = np.array(bits, dtype=np.int64)[order]
    if masks is not None:
        facts["mask_shape"] = masks.shape[1:] == inputs.shape[1:]
        facts["mask_values"] = np.asarray(np.isin(masks, contract.labels).all(axis=_within(masks)))
    return Cohort(inputs, label_array, patients, groups, keys, facts, masks)


def require_images(contract: DataContract, *, site: str) -> None:
    """Raises DataRefusedError (data.kind) unless the plan learns labels of images of two dimensions, which is all
    that DICOM files and shards give."""
    if contract.image is None or contract.image.depth_px is not None or contract.target == "mask":
        raise DataRefusedError(
            f"site {site}: the plan learns from a table, from volumes or masks, and the site's source is images.",
            code="data.kind",
            remedy="Convert series and masks to NIfTI (kind: nifti), or name a table (kind: table), under source in "
            "institution.yaml.",
        )


def _sizes(inputs: NDArray[np.float32]) -> dict[str, object]:
    """The columns of the facts that the items themselves give."""
    names = {2: ("values",), 4: ("rows", "columns"), 5: ("depth", "rows", "columns")}[inputs.ndim]
    within = _within(inputs)
    return {
        **dict(zip(names, inputs.shape[-len(names) :], strict=True)),
        "minimum": inputs.min(axis=within).astype(np.float64),
        "maximum": inputs.max(axis=within).astype(np.float64),
        "finite": np.isfinite(inputs).all(axis=within),
    }


def _within(items: NDArray[np.generic]) -> tuple[int, ...]:
    return tuple(range(1, items.ndim))


def _labels_of_masks(
    masks: NDArray[np.uint8], patients: NDArray[np.int64], contract: DataContract
) -> NDArray[np.int8]:
    """(n_items,): the contract's second label if any mask of the item's patient has a voxel of it, else its first."""
    positive = np.zeros(patients[-1] + 1, dtype=np.bool_)
    np.logical_or.at(positive, patients, (masks == contract.labels[1]).any(axis=_within(masks)))
    return np.where(positive[patients], contract.labels[1], contract.labels[0]).astype(np.int8)


def _one_label_each(site: str, patients: NDArray[np.int64], labels: NDArray[np.int8]) -> None:
    findings = Findings(site)
    pairs = np.unique(np.stack([patients, labels.astype(np.int64)], axis=1), axis=0)
    numbers, counts = np.unique(pairs[:, 0], return_counts=True)
    for number in numbers[counts > 1]:
        findings.add("data.labels-contradict", f"patient number {number} in key order")
    findings.refuse()


class MemorySource:
    """The in-memory twin: arrays in, cohort out. Values are taken as they are, so that a test may break the
    contract; images are not resized."""

    def __init__(
        self,
        inputs: NDArray[np.float32],
        labels: Sequence[int],
        identifiers: Sequence[str],
        *,
        site: str,
        secret: bytes,
        modality: str = "CR",
        sexes: Sequence[str] | None = None,
        masks: NDArray[np.uint8] | None = None,
    ) -> None:
        self._inputs, self._labels, self._identifiers = inputs, labels, identifiers
        self._sexes, self._masks = sexes, masks
        self._site, self._secret, self._modality = site, secret, modality

    def load(self, contract: DataContract) -> Cohort:
        imaged = self._inputs.ndim > 2
        return assemble(
            contract,
            site=self._site,
            secret=self._secret,
            inputs=self._inputs,
            labels=self._labels,
            identifiers=self._identifiers,
            modalities=[self._modality] * len(self._inputs) if imaged else None,
            bits=[8] * len(self._inputs) if imaged else None,
            sexes=self._sexes,
            masks=self._masks,
        )
