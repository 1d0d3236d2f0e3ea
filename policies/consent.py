"""Consent: what a patient agreed to, and whether that holds for a plan now. Pure; the clock is given.

Of one patient and one version of the consent policy the latest grant counts. A withdrawal ends every grant up to its
own second and is final until a later grant; an expiry is the first second at which consent no longer holds. What
cannot be decided counts as no consent. Denying from the start is a record that is withdrawn when it is granted.

Records live at the site alone, encrypted (`adapters.consent.store`), and hold its keyed patient key instead of an
identifier. What the ledger gets of them is a keyed root (`policies.consent_tree`). No file is read here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

from ledger.errors import InputError
from policies.document import ConsentVersion, Digest, Document, Name

YEAR_2200_S = 7_258_118_400
"""No consent is given, ends or is withdrawn from here on; and none before 1970."""
_SHOWN = 20

Second = Annotated[int, Field(ge=0, lt=YEAR_2200_S)]


def _distinct(purposes: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(purposes)) != len(purposes):
        raise ValueError("a purpose is named twice")
    return tuple(sorted(purposes))


class ConsentRecord(Document):
    """One grant. Times are Unix seconds."""

    patient_key: Digest
    """`adapters.sources.cohort.patient_key` in hex: an HMAC under the site's secret."""
    policy_version: ConsentVersion
    purposes: Annotated[tuple[Name, ...], Field(min_length=1, max_length=32), AfterValidator(_distinct)]
    granted_at_s: Second
    expires_at_s: Second | None = None
    withdrawn_at_s: Second | None = None

    @property
    def about(self) -> tuple[str, str]:
        """Whose consent to which version: the latest grant of these counts."""
        return (self.patient_key, self.policy_version)

    def same_terms(self, other: ConsentRecord) -> bool:
        return self.purposes == other.purposes and self.expires_at_s == other.expires_at_s

    def withdrawn(self, at_s: int) -> ConsentRecord:
        """The record, withdrawn at a time or where it was withdrawn before. Never before its own grant."""
        at_s = max(at_s, self.granted_at_s)
        if self.withdrawn_at_s is not None:
            at_s = min(at_s, self.withdrawn_at_s)
        return self.model_copy(update={"withdrawn_at_s": at_s})


@dataclass(frozen=True, slots=True)
class Terms:
    """What a plan asks of a patient's consent."""

    policy_version: str
    purpose: str


class ConsentRefusedError(InputError):
    """Consents that cannot be taken in. Names each by its place, never by its patient."""

    code = "consent.refused"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one record: `where` it stands ("row 3"), a stable code and words for a steward."""

    where: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Merged:
    """Records after an import, and what it brought: new grants, and withdrawals of known ones."""

    records: tuple[ConsentRecord, ...]
    added: int
    withdrawn: int


def refuse(faults: Sequence[Fault], *, what: str) -> None:
    """Raise ConsentRefusedError with every fault, if there is one; its code is the first one's."""
    if not faults:
        return
    shown = [f"{fault.where}: {fault.message} ({fault.code})" for fault in faults[:_SHOWN]]
    if len(faults) > _SHOWN:
        shown.append(f"and {len(faults) - _SHOWN} more")
    raise ConsentRefusedError(
        f"{what}: {'; '.join(shown)}",
        code=faults[0].code,
        remedy="Nothing was changed. Correct these and give the whole again.",
    )


def consents(record: ConsentRecord, terms: Terms, now_s: int) -> bool:
    """Whether this record alone permits `terms` at `now_s`. A withdrawal counts whatever the clock says."""
    return (
        record.policy_version == terms.policy_version
        and terms.purpose in record.purposes
        and record.granted_at_s <= now_s
        and (record.expires_at_s is None or now_s < record.expires_at_s)
        and record.withdrawn_at_s is None
    )


def consenting(records: Iterable[ConsentRecord], terms: Terms, now_s: int) -> frozenset[bytes]:
    """Keys (32 bytes) of the patients whose consent to `terms` is in force at `now_s`."""
    return frozenset(
        bytes.fromhex(history[0].patient_key)
        for history in _histories(records, terms.policy_version)
        if all(consents(record, terms, now_s) for record in _latest(history, now_s))
    )


def objecting(records: Iterable[ConsentRecord]) -> frozenset[bytes]:
    """Keys (32 bytes) of the patients whose last word, to whichever version, is no: for hospitals that take patients
    in without their consent, on a waiver, and still heed who objects. A withdrawal counts whatever the clock
    says."""
    said: dict[str, tuple[int, bool]] = {}
    for record in records:
        for word in ((record.granted_at_s, False), (record.withdrawn_at_s, True)):
            if word[0] is not None:
                said[record.patient_key] = max(said.get(record.patient_key, (-1, False)), (word[0], word[1]))
    return frozenset(bytes.fromhex(key) for key, (_, objects) in said.items() if objects)


def next_expiry_s(records: Iterable[ConsentRecord], terms: Terms, now_s: int) -> int | None:
    """When the first of the consents to `terms` that are in force expires, if any does."""
    coming = [
        record.expires_at_s
        for record in records
        if record.expires_at_s is not None and consents(record, terms, now_s)
    ]
    return min(coming, default=None)


def faults_of(records: Sequence[ConsentRecord], *, now_s: int, where: Sequence[str]) -> list[Fault]:
    """Everything that is wrong with records that somebody wants taken in together.

    Codes: consent.expiry, consent.future, consent.withdrawal, consent.duplicate, consent.contradiction.
    """
    found = []
    first: dict[tuple[str, str, int], tuple[str, ConsentRecord]] = {}
    for place, record in zip(where, records, strict=True):
        if record.expires_at_s is not None and record.expires_at_s <= record.granted_at_s:
            found.append(Fault(place, "consent.expiry", "it expires no later than it is granted"))
        if record.granted_at_s > now_s or (record.withdrawn_at_s or 0) > now_s:
            found.append(Fault(place, "consent.future", "it is granted or withdrawn in the future (UTC)"))
        if record.withdrawn_at_s is not None and record.withdrawn_at_s < record.granted_at_s:
            found.append(Fault(place, "consent.withdrawal", "it is withdrawn before it is granted"))
        name = (*record.about, record.granted_at_s)
        if name not in first:
            first[name] = (place, record)
        elif first[name][1] == record:
            found.append(Fault(place, "consent.duplicate", f"it says again what {first[name][0]} says"))
        else:
            found.append(Fault(place, "consent.contradiction", f"it contradicts {first[name][0]}"))
    return found


def merged(
    known: Sequence[ConsentRecord], incoming: Sequence[ConsentRecord], *, now_s: int, where: Sequence[str]
) -> Merged:
    """The records after an import, all or nothing. Raises ConsentRefusedError with every fault.

    A hospital's system may export the same consents every night, so a grant that is on record is no fault. An import
    can withdraw such a grant, in whatever terms, and never undo its withdrawal or date it back: of two the later one
    stays, because it ends more grants.
    """
    faults = faults_of(incoming, now_s=now_s, where=where)
    records = {(*record.about, record.granted_at_s): record for record in known}
    added = withdrawn = 0
    for place, record in zip(where, incoming, strict=True):
        name = (*record.about, record.granted_at_s)
        before = records.get(name)
        if before is None:
            records[name], added = record, added + 1
        elif record.withdrawn_at_s is not None:
            # Whatever terms it names: a system that ends a consent may also shorten its period or drop its purposes.
            if before.withdrawn_at_s is None or before.withdrawn_at_s < record.withdrawn_at_s:
                records[name] = before.model_copy(update={"withdrawn_at_s": None}).withdrawn(
                    record.withdrawn_at_s
                )
                withdrawn += 1
        elif not before.same_terms(record):
            message = "it has other terms than the consent on record that was granted at that time"
            faults.append(Fault(place, "consent.contradiction", message))
    # A contradiction within the file may show as one against its own first record too: each place is named once.
    refuse(
        list({(fault.where, fault.code): fault for fault in reversed(faults)}.values())[::-1], what="consents"
    )
    return Merged(tuple(records.values()), added, withdrawn)


def _histories(records: Iterable[ConsentRecord], policy_version: str) -> Iterable[list[ConsentRecord]]:
    """All grants of each patient under the version."""
    by_patient: dict[str, list[ConsentRecord]] = defaultdict(list)
    for record in records:
        if record.policy_version == policy_version:
            by_patient[record.patient_key].append(record)
    return by_patient.values()


def _latest(history: list[ConsentRecord], now_s: int) -> list[ConsentRecord]:
    """The grants that count: those of the latest second up to `now_s`, or the withdrawal that came after.

    Never empty. A grant in the future counts only where nothing else is known, and then permits nothing.
    """
    if len(history) == 1:
        return history
    past = [record for record in history if record.granted_at_s <= now_s] or history
    latest_s = max(record.granted_at_s for record in past)
    ended = [
        record for record in past if record.withdrawn_at_s is not None and record.withdrawn_at_s >= latest_s
    ]
    return ended or [record for record in past if record.granted_at_s == latest_s]
