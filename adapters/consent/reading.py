"""What came of reading a file of consents: records, each with its place in the file, or one error with every fault.

The formats themselves are `adapters.consent.fhir` and `adapters.consent.table`. Identifiers of patients end where a
format calls `key`; places, faults and reasons never name a patient. Nothing is stored here.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from ledger.errors import InputError
from policies.consent import ConsentRecord, Fault, faults_of, refuse

PatientKey = Callable[[str], str | None]
"""From an identifier to the site's patient key in hex; None for an identifier that is empty."""

MOST_BYTES: Final = 256 * 2**20
_WORDS: Final = {
    "policy_version": ("consent.version", "its policy version is not a name like 2026-1"),
    "purposes": (
        "consent.purpose",
        "its purposes must be one to 32 different names like research (small letters, digits, hyphens)",
    ),
    "granted_at_s": ("consent.time", "it is granted before 1970 or after 2199"),
    "expires_at_s": ("consent.time", "it expires before 1970 or after 2199"),
    "withdrawn_at_s": ("consent.time", "it is withdrawn before 1970 or after 2199"),
}


class ConsentFileError(InputError):
    """The file as a whole cannot be read."""

    code = "consent.file"


@dataclass(frozen=True, slots=True)
class Reading:
    """Records in the order of the file; `where` has one place each; `left_out` counts, by reason, what neither grants
    nor refuses."""

    records: tuple[ConsentRecord, ...]
    where: tuple[str, ...]
    left_out: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Given:
    """The fields of one consent as a format has read them; see `ConsentRecord`."""

    patient_key: str
    policy_version: str
    purposes: Sequence[str]
    granted_at_s: int
    expires_at_s: int | None
    withdrawn_at_s: int | None


class Collector:
    """Takes what a format finds, then refuses everything that is wrong at once."""

    def __init__(self) -> None:
        self._records: list[ConsentRecord] = []
        self._where: list[str] = []
        self._faults: list[Fault] = []
        self._left_out: Counter[str] = Counter()

    def fault(self, where: str, code: str, message: str) -> None:
        self._faults.append(Fault(where, code, message))

    def leave_out(self, reason: str) -> None:
        self._left_out[reason] += 1

    def take(self, where: str, given: Given) -> None:
        try:
            record = ConsentRecord(
                patient_key=given.patient_key,
                policy_version=given.policy_version,
                purposes=tuple(given.purposes),
                granted_at_s=given.granted_at_s,
                expires_at_s=given.expires_at_s,
                withdrawn_at_s=given.withdrawn_at_s,
            )
        except ValidationError as error:
            fields = dict.fromkeys(str(item["loc"][0]) for item in error.errors(include_input=False))
            for field in fields:
                code, message = _WORDS[field]
                self.fault(where, code, message)
            return
        self._records.append(record)
        self._where.append(where)

    def done(self, *, now_s: int) -> Reading:
        """Raises ConsentRefusedError with every fault of the file."""
        refuse(self._faults + faults_of(self._records, now_s=now_s, where=self._where), what="the file")
        return Reading(tuple(self._records), tuple(self._where), tuple(sorted(self._left_out.items())))


def read_text(path: Path) -> str:
    """UTF-8, a byte-order mark accepted. Raises ConsentFileError, which never repeats the content."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConsentFileError(
            f"the file of consents cannot be read: {os.strerror(error.errno or 0)}",
            remedy="Check its name and whether this user may read it.",
        ) from None
    if len(data) > MOST_BYTES:
        raise ConsentFileError(
            f"the file of consents is larger than {MOST_BYTES >> 20} MiB", remedy="Give it in parts."
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        failed = ConsentFileError("the file of consents is not UTF-8", remedy="Save it as UTF-8.")
    # Raised outside the handler: a chained exception would carry the file's content along.
    raise failed


def patient_keys(*, site: str, secret: bytes) -> PatientKey:
    """How a site keys the identifiers that it is given: as those of its images are keyed."""
    from adapters.sources.cohort import canonical_identifier, patient_key

    def key(identifier: str) -> str | None:
        try:
            if not canonical_identifier(identifier):
                return None
            return patient_key(identifier, site=site, secret=secret).hex()
        except UnicodeEncodeError:  # a lone surrogate, which JSON can write and no image can have
            return None

    return key
