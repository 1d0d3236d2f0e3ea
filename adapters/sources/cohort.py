"""A cohort: the images of a site's patients as the training sees them, with the identifiers already gone.

    images    float32 (n_images, 1, height_px, width_px), values in [0, 1]
    labels    int8    (n_images,), values as the site wrote them; the contract says which are allowed
    patients  int64   (n_images,), index of the image's patient, 0 .. patient_count - 1
    groups    int8    (n_images,), index of the sex that the image's record names in SUBGROUPS["sex"]
    keys      one per patient: HMAC-SHA256 of the identifier under the site's secret (32 bytes)
    facts     one row an image, for the data contract (`policies.contract.FACTS`); holds no identifier

In the facts, rows, columns, minimum, maximum and finite describe the image as the network sees it, and bits what was
stored. A pixel value and a flag are aggregates of one patient's image, so the table stays at the site too.

Patients are numbered in the order of their keys, so the index says nothing about identifiers or files. The
keys stay in the site's process: they decide the held-out split and never cross. No file is read here.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from adapters.sources.findings import DataRefusedError, Findings
from ledger.errors import PolicyViolation, Violation
from policies.contract import FACTS
from policies.data_contract import DataContract
from privacy.histogram import OTHER, SUBGROUPS

_SEXES = {"F": SUBGROUPS["sex"].index("female"), "M": SUBGROUPS["sex"].index("male")}
_OTHER = SUBGROUPS["sex"].index(OTHER)
_SECRET_BYTES = 16
_PATIENT_LABEL = b"wardround/patient/v1\x00"
_HELD_OUT_LABEL = b"wardround/held-out/v1\x00"


class CohortSource(Protocol):
    """Where a site's cohort comes from."""

    def load(self, contract: DataContract) -> Cohort:
        """All images under the contract. Raises DataRefusedError with everything that is wrong."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Cohort:
    """See the module's docstring. Printing one shows nothing: logs and tracebacks print their arguments."""

    images: NDArray[np.float32]
    labels: NDArray[np.int8]
    patients: NDArray[np.int64]
    groups: NDArray[np.int8]
    keys: tuple[bytes, ...]
    facts: pd.DataFrame

    def __post_init__(self) -> None:
        count = len(self.images)
        if self.images.ndim != 4 or self.images.shape[1] != 1 or self.images.dtype != np.float32:
            raise ValueError("images must be float32 of shape (n, 1, height, width)")
        columns = (self.labels, self.patients, self.groups)
        if any(column.shape != (count,) for column in columns) or len(self.facts) != count:
            raise ValueError("labels, patients, groups and facts must have one entry an image")
        if not np.array_equal(np.unique(self.patients), np.arange(len(self.keys))):
            raise ValueError("every patient index must have an image and a key")

    def __repr__(self) -> str:
        return "Cohort(...)"

    @property
    def patient_count(self) -> int:
        """Stays at the site: outside it only a signed yes or a bucketed figure may be shown."""
        return len(self.keys)

    def sexes(self) -> NDArray[np.int8]:
        """(patient_count,), indices into SUBGROUPS["sex"]. Whose images' records disagree is `other`: every patient
        is in one group, so that one histogram a group counts nobody twice."""
        first, last = np.full(self.patient_count, 127, np.int8), np.full(self.patient_count, -1, np.int8)
        np.minimum.at(first, self.patients, self.groups)
        np.maximum.at(last, self.patients, self.groups)
        return np.where(first == last, first, np.int8(_OTHER))

    def where(self, keys: frozenset[bytes]) -> Cohort:
        """The patients of these keys and no others, with all their images.

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
        return Cohort(self.images[rows], self.labels[rows], patients, self.groups[rows], keys, facts)


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


def assemble(
    *,
    site: str,
    secret: bytes,
    images: NDArray[np.float32],
    labels: Sequence[int],
    identifiers: Sequence[str],
    modalities: Sequence[str],
    bits: Sequence[int],
    sexes: Sequence[str] | None = None,
) -> Cohort:
    """Build a cohort from what an adapter read; the identifiers end here.

    All sequences have one entry an image; `images` is (n, 1, height_px, width_px) float32. `sexes` are codes of
    DICOM's PatientSex: F and M, and anything else is of the group `other`, as everybody is without `sexes`.
    Raises DataRefusedError: data.secret (under 16 bytes), data.empty, data.labels-contradict.
    """
    if len(secret) < _SECRET_BYTES:
        raise DataRefusedError(
            f"site {site}: the secret that keys patients is shorter than {_SECRET_BYTES} bytes.",
            code="data.secret",
            remedy="Create the site's secret again with 32 random bytes.",
        )
    if not len(images):
        raise DataRefusedError(
            f"site {site}: no image.", code="data.empty", remedy="Point the site at a folder with images."
        )
    by_image = [patient_key(identifier, site=site, secret=secret) for identifier in identifiers]
    keys = tuple(sorted(set(by_image)))
    number = {key: index for index, key in enumerate(keys)}
    patients = np.array([number[key] for key in by_image], dtype=np.int64)
    order = np.argsort(patients, kind="stable")
    images, patients = np.ascontiguousarray(images[order]), patients[order]
    label_array = np.array(labels, dtype=np.int8)[order]
    _one_label_each(site, patients, label_array)
    named = ["" for _ in by_image] if sexes is None else [sex.strip() for sex in sexes]
    groups = np.array([_SEXES.get(sex, _OTHER) for sex in named], dtype=np.int8)[order]
    facts = pd.DataFrame(
        {
            "patient": patients,
            "modality": np.array(modalities, dtype=object)[order],
            "rows": images.shape[2],
            "columns": images.shape[3],
            "bits": np.array(bits, dtype=np.int64)[order],
            "label": label_array,
            "minimum": images.min(axis=(1, 2, 3)).astype(np.float64),
            "maximum": images.max(axis=(1, 2, 3)).astype(np.float64),
            "finite": np.isfinite(images).all(axis=(1, 2, 3)),
        },
        columns=list(FACTS),
    )
    return Cohort(images, label_array, patients, groups, keys, facts)


def _one_label_each(site: str, patients: NDArray[np.int64], labels: NDArray[np.int8]) -> None:
    findings = Findings(site)
    pairs = np.unique(np.stack([patients, labels.astype(np.int64)], axis=1), axis=0)
    numbers, counts = np.unique(pairs[:, 0], return_counts=True)
    for number in numbers[counts > 1]:
        findings.add("data.labels-contradict", f"patient number {number} in key order")
    findings.refuse()


def _position(key: bytes) -> float:
    """A patient's place in [0, 1), uniform over keys, with 53 bits."""
    digest = hashlib.sha256(_HELD_OUT_LABEL + key).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


class MemorySource:
    """The in-memory twin: arrays in, cohort out. Values are taken as they are, so that a test may break the
    contract; images are not resized."""

    def __init__(
        self,
        images: NDArray[np.float32],
        labels: Sequence[int],
        identifiers: Sequence[str],
        *,
        site: str,
        secret: bytes,
        modality: str = "CR",
        sexes: Sequence[str] | None = None,
    ) -> None:
        self._arguments = (images, labels, identifiers)
        self._sexes = sexes
        self._site, self._secret, self._modality = site, secret, modality

    def load(self, contract: DataContract) -> Cohort:
        images, labels, identifiers = self._arguments
        return assemble(
            site=self._site,
            secret=self._secret,
            images=images,
            labels=labels,
            identifiers=identifiers,
            modalities=[self._modality] * len(images),
            bits=[8] * len(images),
            sexes=self._sexes,
        )
