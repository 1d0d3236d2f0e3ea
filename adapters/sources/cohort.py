"""A cohort: the images, volumes or rows of a site's patients as the training sees them, with the identifiers gone.

    inputs    float32 (n_items, *shape), shape being the contract's: (1, height_px, width_px) of images in [0, 1],
              (1, depth_px, height_px, width_px) of volumes in [0, 1], (values,) of table rows in [-1, 1]
    masks     uint8   (n_items, 1, [depth_px,] height_px, width_px), values as the site wrote them; None without
    labels    int8    (n_items,), values as the site wrote them; the contract says which are allowed
    patients  int64   (n_items,), index of the item's patient, 0 .. patient_count - 1
    groups    int8    (n_items, kinds), by kind of `privacy.histogram.KINDS` the group in which the item's record
                      places its patient, as an index into SUBGROUPS[kind]
    keys      one per patient: HMAC-SHA256 of the identifier under the site's secret (32 bytes)
    facts     one row an item, for the data contract (`policies.contract.facts`); holds no identifier

Where masks are learned, an item's label is the contract's second if any mask of its patient has a voxel of it. In the
facts, sizes, minimum, maximum and finite describe the item as the network sees it, and bits what was stored. A pixel
value and a flag are aggregates of one patient's item, so the table stays at the site too.

Patients are numbered in the order of their keys, so the index says nothing about identifiers or files. The
keys stay in the site's process: they decide the held-out split and never cross. No file is read here; what adapters
read is put together in `assembly`.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ledger.errors import InputError, PolicyViolation, Violation
from policies.data_contract import DataContract
from privacy.histogram import KINDS, OTHER, SUBGROUPS, Kind

_PATIENT_LABEL = b"wardround/patient/v1\x00"
_HELD_OUT_LABEL = b"wardround/held-out/v1\x00"


class CohortSource(Protocol):
    """Where a site's cohort comes from."""

    def load(self, contract: DataContract) -> Cohort:
        """All items under the contract. Raises DataRefusedError with everything that is wrong."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Cohort:
    """See the module's docstring. Printing one shows nothing: logs and tracebacks print their arguments."""

    inputs: NDArray[np.float32]
    labels: NDArray[np.int8]
    patients: NDArray[np.int64]
    groups: NDArray[np.int8]
    keys: tuple[bytes, ...]
    facts: pd.DataFrame
    masks: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        count = len(self.inputs)
        row = self.inputs.ndim == 2
        image = self.inputs.ndim in (4, 5) and self.inputs.shape[1] == 1
        if not (row or image) or self.inputs.dtype != np.float32:
            raise ValueError("inputs must be float32 of shape (n, values) or (n, 1, [depth,] height, width)")
        if self.masks is not None and (
            row
            or self.masks.dtype != np.uint8
            or self.masks.ndim != self.inputs.ndim
            or self.masks.shape[:2] != (count, 1)
        ):
            raise ValueError("masks must be uint8 of shape (n, 1, [depth,] height, width), one an image")
        if self.labels.shape != (count,) or self.patients.shape != (count,) or len(self.facts) != count:
            raise ValueError("labels, patients and facts must have one entry an item")
        if self.groups.shape != (count, len(KINDS)):
            raise ValueError("groups must have one entry an item and kind")
        if not np.array_equal(np.unique(self.patients), np.arange(len(self.keys))):
            raise ValueError("every patient index must have an item and a key")

    def __repr__(self) -> str:
        return "Cohort(...)"

    @property
    def patient_count(self) -> int:
        """Stays at the site: outside it only a signed yes or a bucketed figure may be shown."""
        return len(self.keys)

    def positives(self, contract: DataContract) -> NDArray[np.int64]:
        """(n_items,) 0 or 1: whether an item's label is the contract's second."""
        positive: NDArray[np.int64] = (self.labels == contract.labels[1]).astype(np.int64)
        return positive

    def targets(self, contract: DataContract) -> NDArray[np.float32]:
        """What is learned, as 0 or 1: (n_items,), whether the label is the contract's second; where masks are
        learned, (n_items, 1, [depth_px,] height_px, width_px), the same of every pixel or voxel.

        Raises InputError (data.masks-missing) where masks are to be learned and there are none.
        """
        if contract.target == "label":
            return self.positives(contract).astype(np.float32)
        if self.masks is None:
            raise InputError("the plan learns masks and the site's data have none", code="data.masks-missing")
        positive: NDArray[np.float32] = (self.masks == contract.labels[1]).astype(np.float32)
        return positive

    def told_apart(self, kind: Kind) -> NDArray[np.int8]:
        """(patient_count,), indices into SUBGROUPS[kind]. Whose items' records disagree is `other`: every patient
        is in one group, so that one histogram a group counts nobody twice."""
        said = self.groups[:, KINDS.index(kind)]
        first, last = np.full(self.patient_count, 127, np.int8), np.full(self.patient_count, -1, np.int8)
        np.minimum.at(first, self.patients, said)
        np.maximum.at(last, self.patients, said)
        return np.where(first == last, first, np.int8(SUBGROUPS[kind].index(OTHER)))

    def where(self, keys: frozenset[bytes]) -> Cohort:
        """The patients of these keys and no others, with all their items.

        Raises PolicyViolation (consent.nobody) if there is none.
        """
        part = self.among(keys)
        if not part.patient_count:
            message = "No patient of the site consents to the plan's purpose under its policy version"
            raise PolicyViolation([Violation("consent.nobody", message)])
        return part

    def among(self, keys: frozenset[bytes]) -> Cohort:
        """As `where`, but possibly nobody."""
        return self._of(np.array([key in keys for key in self.keys], dtype=bool))

    def split(self, held_out_fraction: float) -> tuple[Cohort, Cohort]:
        """(train, held out), by patient.

        A patient's side depends on the patient's own key and the fraction alone: it is the same in every
        plan and every round, whoever else joins or leaves, and a larger fraction only adds patients to the
        held-out side. The held-out share is therefore the fraction on average, not exactly.

        Raises PolicyViolation (cohort.too-small) if either side would be empty.
        """
        held_out = np.array([_position(key) < held_out_fraction for key in self.keys], dtype=bool)
        if held_out.all() or not held_out.any():
            message = "The cohort is too small to keep patients out of training for evaluation"
            raise PolicyViolation([Violation("cohort.too-small", message)])
        return self._of(~held_out), self._of(held_out)

    def _of(self, chosen: NDArray[np.bool_]) -> Cohort:
        """The patients marked in `chosen` (patient_count,), numbered anew in the same order."""
        if chosen.all():
            return self
        rows = chosen[self.patients]
        renumbered = np.cumsum(chosen) - 1
        patients = renumbered[self.patients[rows]].astype(np.int64)
        facts = self.facts.loc[rows].reset_index(drop=True).assign(patient=patients)
        keys = tuple(key for key, kept in zip(self.keys, chosen, strict=True) if kept)
        masks = None if self.masks is None else self.masks[rows]
        return Cohort(self.inputs[rows], self.labels[rows], patients, self.groups[rows], keys, facts, masks)


def canonical_identifier(identifier: str) -> str:
    """The one form in which a patient's identifiers are compared and keyed.

    Spaces and padding around an identifier carry no meaning in DICOM and one character may be coded in several ways;
    one patient must never count as two.
    """
    return unicodedata.normalize("NFC", identifier).replace("\0", "").strip()


def patient_key(identifier: str, *, site: str, secret: bytes) -> bytes:
    """HMAC-SHA256 under the site's secret over a label, the site and the canonical identifier (32 bytes)."""
    message = _PATIENT_LABEL + site.encode() + b"\x00" + canonical_identifier(identifier).encode()
    return hmac.new(secret, message, hashlib.sha256).digest()


def _position(key: bytes) -> float:
    """A patient's place in [0, 1), uniform over keys, with 53 bits."""
    digest = hashlib.sha256(_HELD_OUT_LABEL + key).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
