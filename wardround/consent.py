"""`wardround consent`: what a hospital's patients agreed to. A data steward's commands, at the site alone.

Records are kept by `adapters.consent.store` and read from files by `adapters.consent.fhir` and
`adapters.consent.table`; what is shown of them is `wardround.consent_tables`. Here are the options. An identifier is
keyed as soon as it is read and never printed, logged or stored.
"""

from __future__ import annotations

import json as json_text
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter
from rich.console import Console

from ledger.errors import InputError
from wardround import consent_tables
from wardround.consent_tables import pseudonym, terms_of

if TYPE_CHECKING:
    from adapters.consent.reading import Reading
    from adapters.consent.store import ConsentStore
    from adapters.home import Home, SiteConfig
    from ledger.canonical import JsonValue
    from policies.consent import ConsentRecord

app = App(name="consent", help="Take in, withdraw and look at patients' consents. They stay at the site.")

HomeOption = Annotated[Path, Parameter(help="The site's home, with its institution.yaml.")]
PatientOption = Annotated[
    str,
    Parameter(
        # Without it, `-` alone would count as a missing value.
        allow_leading_hyphen=True,
        help="The identifier that the patient's images have; `-` reads it from stdin and keeps it out of "
        "the shell's history.",
    ),
]
JsonOption = Annotated[bool, Parameter(help="Print one JSON object instead of a table.")]


class ConsentOptionError(InputError):
    code = "usage.option"


class PatientOptionError(InputError):
    code = "consent.patient"


class NotLaterError(InputError):
    code = "consent.not-later"


@dataclass(frozen=True, slots=True)
class Site:
    """A site's home as these commands need it."""

    home: Home
    config: SiteConfig
    store: ConsentStore

    def key(self, identifier: str) -> str:
        """The patient's key in hex. `-`: one line of stdin, without an echo at a terminal."""
        from adapters.consent.reading import patient_keys

        if identifier == "-":
            identifier = _ask()
        key = patient_keys(site=self.config.name, secret=self.home.patient_secret())(identifier)
        if key is None:
            raise PatientOptionError("no patient identifier was given", remedy="Give one line with it.")
        return key


@app.command(name="import")
def import_file(
    file: Path,
    /,
    *,
    home: HomeOption,
    format: Annotated[
        Literal["fhir", "csv"] | None,
        Parameter(help="fhir: Consent resources of R4B, a Bundle, NDJSON. Else by the file's name."),
    ] = None,
    policy: Annotated[
        tuple[str, ...],
        Parameter(help="FHIR: URI=VERSION, the policy version that a policy's URI or code stands for."),
    ] = (),
    ignore_policy: Annotated[
        tuple[str, ...], Parameter(help="FHIR: a URI or code of a policy whose consents are left out.")
    ] = (),
    purpose: Annotated[
        tuple[str, ...], Parameter(help="FHIR: what consents that name no purpose are for.")
    ] = (),
    identifier_system: Annotated[
        str | None,
        Parameter(
            help="FHIR: the system of the identifiers that the images have. Else the id in Patient/<id>."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Take in all consents of a file, or none and name every one that is at fault by its place.

    The same file may be imported again: what is on record stays. An import never undoes a withdrawal.

    Parameters
    ----------
    file
        `.csv`, or FHIR JSON. It holds identifiers: keep it no longer than you need it.
    """
    from adapters.consent.fhir import Terminology, read_fhir
    from adapters.consent.reading import patient_keys
    from adapters.consent.table import read_table

    chosen = format or ("csv" if file.suffix.lower() == ".csv" else "fhir")
    policies = _policies(policy, ignore_policy)
    if chosen == "csv" and (policies or purpose or identifier_system):
        raise ConsentOptionError(
            "--policy, --ignore-policy, --purpose and --identifier-system are for FHIR",
            remedy="Leave them out.",
        )
    site, now_s = _open(home), _now_s()
    key = patient_keys(site=site.config.name, secret=site.home.patient_secret())
    if chosen == "csv":
        reading = read_table(file, key=key, now_s=now_s)
    else:
        terminology = Terminology(
            policies=policies, purposes=tuple(purpose), identifier_system=identifier_system
        )
        reading = read_fhir(file, key=key, terminology=terminology, now_s=now_s)
    added = site.store.add(reading.records, now_s=now_s, where=reading.where)
    known = len(reading.records) - added
    withdrawn = sum(record.withdrawn_at_s is not None for record in reading.records)
    if json:
        left_out: dict[str, JsonValue] = dict(reading.left_out)
        done: dict[str, JsonValue] = {
            "new": added,
            "known": known,
            "withdrawn": withdrawn,
            "left_out": left_out,
        }
        sys.stdout.write(json_text.dumps(done) + "\n")
    else:
        console = Console(highlight=False)
        console.print(f"{added} new, {known} on record before; {withdrawn} of these are withdrawn or refused")
        for reason, count in reading.left_out:
            console.print(f"{count} left out: {reason}", soft_wrap=True)
    _note_unlisted(site, reading)


@app.command
def grant(
    *,
    home: HomeOption,
    patient: PatientOption,
    version: Annotated[str, Parameter(help="Version of the consent policy that the patient signed.")],
    purpose: Annotated[tuple[str, ...], Parameter(help="What the patient agreed to; give it once for each.")],
    expires: Annotated[
        str | None, Parameter(help="First day (2031-03-01, UTC) or time on which it no longer holds.")
    ] = None,
) -> None:
    """Take in one patient's consent, given now. It counts from the next round on."""
    from adapters.consent.dates import read_span
    from adapters.consent.reading import Collector, Given

    span = None if expires is None else read_span(expires)
    if expires is not None and span is None:
        raise ConsentOptionError("--expires must be a date like 2031-03-01, or a time with its offset")
    site, now_s = _open(home), _now_s()
    collector = Collector()
    given = Given(
        patient_key=site.key(patient),
        policy_version=version,
        purposes=purpose,
        granted_at_s=now_s,
        expires_at_s=None if span is None else span.first_s,
        withdrawn_at_s=None,
    )
    collector.take("the grant", given)
    reading = collector.done(now_s=now_s)
    _later_than_a_withdrawal(site, reading.records[0])
    added = site.store.add(reading.records, now_s=now_s, where=reading.where)
    words = "granted" if added else "on record already"
    Console(highlight=False).print(f"{words}: {pseudonym(reading.records[0].patient_key)}", soft_wrap=True)
    _note_unlisted(site, reading)


@app.command
def withdraw(
    *,
    home: HomeOption,
    patient: PatientOption,
    version: Annotated[str | None, Parameter(help="Of this version alone. Else of all.")] = None,
) -> None:
    """Withdraw a patient's consent, at once: a training that runs leaves the patient out from its next step on.

    What was drawn from the privacy budget stays drawn.
    """
    site, now_s = _open(home), _now_s()
    key = site.key(patient)
    ended = site.store.withdraw(key, policy_version=version, now_s=now_s)
    words = f"withdrew {ended} consent{'' if ended == 1 else 's'} of {pseudonym(key)}"
    Console(highlight=False).print(words, soft_wrap=True)


@app.command(name="list")
def list_records(
    *,
    home: HomeOption,
    patient: Annotated[
        PatientOption | None, Parameter(help="Of this patient alone; `-` reads stdin.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show the records, under pseudonyms of this site that lead to no identifier without its secret."""

    site = _open(home)
    key = None if patient is None else site.key(patient)
    listed = consent_tables.listed(site.store.records(), _now_s(), patient_key=key)
    if json:
        sys.stdout.write(json_text.dumps({"records": [row.to_json() for row in listed]}) + "\n")
    else:
        consent_tables.show_listed(listed, title=f"Consents at {site.config.name}, times in UTC")


@app.command
def status(
    *,
    home: HomeOption,
    version: Annotated[str | None, Parameter(help="Of this version of the consent policy alone.")] = None,
    purpose: Annotated[str | None, Parameter(help="Of this purpose alone.")] = None,
    json: JsonOption = False,
) -> None:
    """Count, for this site's steward, whose consent is in force; and show what the ledger gets: a keyed root."""
    from policies.consent_tree import consent_root, ledger_secret

    site, now_s = _open(home), _now_s()
    basis = site.config.consent.basis
    records = site.store.records()
    counted = consent_tables.counted(records, now_s, version=version, purpose=purpose)
    cadence = now_s // site.home.federation.consent_cadence_s
    secret = ledger_secret(site.home.patient_secret(), site.home.federation.origin)
    root = consent_root(records, secret=secret, cadence=cadence)
    if json:
        items: list[JsonValue] = [row.to_json() for row in counted]
        whole: dict[str, JsonValue] = {
            "site": site.config.name,
            "basis": basis,
            "consents": items,
            "cadence": cadence,
            "root": root,
        }
        sys.stdout.write(json_text.dumps(whole) + "\n")
        return
    consent_tables.show_counted(counted, title=f"Patients of {site.config.name}; the figures stay here")
    console = Console(highlight=False)
    words = "only who consents is taken in" if basis == "records" else "these records decide nothing"
    console.print(f"basis   {basis}: {words}", soft_wrap=True)
    console.print(f"root    {root}, cadence {cadence}", soft_wrap=True)


def _open(root: Path) -> Site:
    from adapters.consent.store import ConsentStore
    from adapters.home import Home, SiteConfig

    home = Home(root)
    config = home.read(SiteConfig)
    return Site(home, config, ConsentStore.open(home))


def _now_s() -> int:
    return int(time.time())


def _ask() -> str:
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass("Patient identifier (not shown): ")
    lines = sys.stdin.read(65_536).splitlines()
    if len([line for line in lines if line.strip()]) != 1:
        raise PatientOptionError(
            "stdin must hold one line: the patient's identifier", remedy="Give one patient at a time."
        )
    return next(line for line in lines if line.strip())


def _policies(pairs: Sequence[str], ignored: Sequence[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = dict.fromkeys(ignored)
    for pair in pairs:
        name, equals, version = pair.rpartition("=")
        if not equals or not name or not version:
            raise ConsentOptionError("--policy must be URI=VERSION")
        if found.setdefault(name, version) != version:
            raise ConsentOptionError("a policy has two versions, or one and --ignore-policy")
    return found


def _later_than_a_withdrawal(site: Site, record: ConsentRecord) -> None:
    """A withdrawal ends every grant up to its own second: a grant in that second would be none."""
    ended = [one.withdrawn_at_s or 0 for one in site.store.records() if one.about == record.about]
    if any(at_s >= record.granted_at_s for at_s in ended):
        raise NotLaterError(
            "a withdrawal of this second or a later one is on record",
            remedy="Give the grant again in a moment; if that fails, look at this machine's clock.",
        )


def _note_unlisted(site: Site, reading: Reading) -> None:
    """Consents to what no plan of this site can ask for are kept; a steward who mistyped wants to know."""
    listed = {
        (policy.policy_version, purpose)
        for policy in site.config.consent.policies
        for purpose in policy.purposes
    }
    for version, purpose in sorted(terms_of(reading.records) - listed):
        text = f"note: institution.yaml lists no consent policy {version} with the purpose {purpose}"
        Console(stderr=True, highlight=False).print(text, soft_wrap=True, markup=False)
