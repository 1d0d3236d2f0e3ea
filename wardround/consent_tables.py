"""What a steward is shown of the site's consents: every record with what it is worth now, and counts of patients.

The figures are exact: they are for this site's steward and never leave it. Patients stand under pseudonyms, the first
digits of their keys, which lead to nobody without the site's secret. What consents say is decided in
`policies.consent`; nothing is read or changed here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from ledger.canonical import JsonValue
    from policies.consent import ConsentRecord

_PSEUDONYM_DIGITS: Final = 12
_SHOWN: Final = 200

State = Literal["in force", "withdrawn", "expired", "replaced"]


@dataclass(frozen=True, slots=True)
class Listed:
    record: ConsentRecord
    state: State

    def to_json(self) -> dict[str, JsonValue]:
        fields = self.record.to_json()
        del fields["patient_key"]
        return {"patient": pseudonym(self.record.patient_key), **fields, "state": self.state}


@dataclass(frozen=True, slots=True)
class Counted:
    """Patients who ever consented to a version and purpose, by what holds now. `other`: their latest grant has other
    purposes, or lies in the future."""

    policy_version: str
    purpose: str
    consenting: int
    withdrawn: int
    expired: int
    other: int

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "policy_version": self.policy_version,
            "purpose": self.purpose,
            "consenting": self.consenting,
            "withdrawn": self.withdrawn,
            "expired": self.expired,
            "other": self.other,
        }


def pseudonym(patient_key: str) -> str:
    return patient_key[:_PSEUDONYM_DIGITS]


def terms_of(records: Iterable[ConsentRecord]) -> set[tuple[str, str]]:
    """(policy version, purpose) of every record."""
    return {(record.policy_version, purpose) for record in records for purpose in record.purposes}


def listed(
    records: Sequence[ConsentRecord], now_s: int, *, patient_key: str | None = None
) -> tuple[Listed, ...]:
    """Every record, or one patient's, in the order of pseudonyms, versions and grants."""
    from policies.consent import Terms, consenting, consents

    chosen = [record for record in records if patient_key in (None, record.patient_key)]
    inside = {terms: consenting(chosen, Terms(*terms), now_s) for terms in terms_of(chosen)}
    latest = _latest_grants(chosen)

    def state(record: ConsentRecord) -> State:
        terms = (record.policy_version, record.purposes[0])
        if record.withdrawn_at_s is not None:
            return "withdrawn"
        if record.expires_at_s is not None and record.expires_at_s <= now_s:
            return "expired"
        counts = record.granted_at_s == latest[record.about] and consents(record, Terms(*terms), now_s)
        return "in force" if counts and bytes.fromhex(record.patient_key) in inside[terms] else "replaced"

    chosen.sort(key=lambda record: (record.patient_key, record.policy_version, record.granted_at_s))
    return tuple(Listed(record, state(record)) for record in chosen)


def counted(
    records: Sequence[ConsentRecord], now_s: int, *, version: str | None = None, purpose: str | None = None
) -> tuple[Counted, ...]:
    """One row for every version and purpose on record, and for the pair that was asked for."""
    from policies.consent import Terms, consenting

    wanted = {
        terms for terms in terms_of(records) if version in (None, terms[0]) and purpose in (None, terms[1])
    }
    if version is not None and purpose is not None:
        wanted.add((version, purpose))
    found = []
    for terms in sorted(wanted):
        about = [record for record in records if record.policy_version == terms[0]]
        latest = _latest_grants(about)
        ever = {record.patient_key for record in about if terms[1] in record.purposes}
        inside = {key.hex() for key in consenting(about, Terms(*terms), now_s)}
        withdrawn = {
            record.patient_key
            for record in about
            if record.withdrawn_at_s is not None and record.withdrawn_at_s >= latest[record.about]
        } & ever
        expired = {
            record.patient_key
            for record in about
            if record.granted_at_s == latest[record.about]
            and record.expires_at_s is not None
            and record.expires_at_s <= now_s
        } & ever - withdrawn
        other = len(ever) - len(inside) - len(withdrawn) - len(expired)
        found.append(Counted(*terms, len(inside), len(withdrawn), len(expired), other))
    return tuple(found)


def show_listed(rows: Sequence[Listed], *, title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from adapters.consent.dates import show

    table = Table(title=title)
    for heading in ("patient", "version", "purposes", "granted", "expires", "withdrawn", "state"):
        table.add_column(heading, overflow="fold")
    for row in rows[:_SHOWN]:
        record = row.record
        ends = [None if at_s is None else show(at_s) for at_s in (record.expires_at_s, record.withdrawn_at_s)]
        table.add_row(
            pseudonym(record.patient_key),
            record.policy_version,
            ", ".join(record.purposes),
            show(record.granted_at_s),
            *(end or "–" for end in ends),
            row.state,
        )
    console = Console(highlight=False)
    console.print(table)
    if len(rows) > _SHOWN:
        console.print(f"and {len(rows) - _SHOWN} more: --json prints all", soft_wrap=True)


def show_counted(rows: Sequence[Counted], *, title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for heading in ("version", "purpose", "consenting", "withdrawn", "expired", "other"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(str(value) for value in row.to_json().values()))
    Console(highlight=False).print(table)


def _latest_grants(records: Iterable[ConsentRecord]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = defaultdict(int)
    for record in records:
        found[record.about] = max(found[record.about], record.granted_at_s)
    return found
