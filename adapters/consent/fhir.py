"""Consents as FHIR R4 or R4B: `Consent` resources in a JSON file, in a Bundle, or one a line (NDJSON).

    status      active: a grant if its provision permits, a refusal if it denies
                rejected: a refusal; inactive, entered-in-error: withdrawn when it was granted
                draft, proposed: left out
    scope       research, of HL7's code system; others are left out
    patient     its identifier of the system that the steward named, also by way of a Patient resource of the same
                file; without such a system, the id in `Patient/<id>`
    policy      its URI, else policyRule's code, mapped to a version by the steward; one that is a version stands
                for itself
    dateTime    granted then, or at provision.period.start if that is later; period.end is included
    provision   purpose by `PURPOSES`; others are dropped from a grant, which is refused if none is known

hl7.org/fhir/R4B/consent.html. What narrows or reverses a grant in a way that cannot be applied here (nested
provisions, actors, data, modifier extensions, implicit rules) refuses it; a refusal stays one, but for nested
provisions. Everything else in a file is left out. A fault names its place in the file, never the patient. Nothing is
stored here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from adapters.consent.dates import Span, read_span
from adapters.consent.reading import Collector, Given, PatientKey, Reading, read_text
from adapters.consent.resources import (
    Object,
    codes_of,
    object_of,
    objects_of,
    patients_of,
    resources_of,
    text_of,
)

PURPOSES: Final[Mapping[str, str]] = {
    "HRESCH": "research",
    "BIORCH": "biomedical-research",
    "CLINTRCH": "clinical-trial",
    "DSRCH": "disease-research",
    "POARCH": "population-research",
    "PRECLINTRCH": "preclinical-research",
    "TRANSRCH": "translational-research",
    "HQUALIMP": "quality-improvement",
}
"""v3-ActReason to the purposes of plans. One is never taken to include another."""

_SCOPES: Final = "http://terminology.hl7.org/CodeSystem/consentscope"
_REASONS: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
_WITHDRAWN: Final = ("inactive", "rejected", "entered-in-error")
_NARROWING: Final = ("actor", "class", "code", "data", "dataPeriod", "provision", "securityLabel")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")
_REFERENCE: Final = re.compile(r"(?:https?://\S+/)?Patient/([A-Za-z0-9.-]{1,64})(?:/_history/\S+)?")


@dataclass(frozen=True, slots=True)
class Terminology:
    """What the steward says about the hospital's own words."""

    policies: Mapping[str, str | None] = field(default_factory=dict)
    """By URI or code: the policy version, or None for a policy whose consents are left out."""
    purposes: tuple[str, ...] = ()
    """Of consents that name none."""
    identifier_system: str | None = None
    """Of the identifiers that the images have. None: they have the ids of Patient resources."""


def read_fhir(path: Path, *, key: PatientKey, terminology: Terminology, now_s: int) -> Reading:
    """Every consent of the file. Raises ConsentFileError, or ConsentRefusedError with every fault by its place."""
    resources = list(resources_of(read_text(path)))
    reader = _Reader(key, terminology, now_s, patients_of(resources))
    for resource in resources:
        reader.read(resource.where, resource.value)
    return reader.collector.done(now_s=now_s)


class _Reader:
    def __init__(
        self, key: PatientKey, terminology: Terminology, now_s: int, patients: Mapping[str, list[Object]]
    ) -> None:
        self.collector = Collector()
        self._key, self._terminology, self._now_s, self._patients = key, terminology, now_s, patients

    def read(self, where: str, resource: Object) -> None:
        if resource.get("resourceType") != "Consent":
            self.collector.leave_out("no Consent")
            return
        wrong = _invalid(resource)
        if wrong:
            self.collector.fault(where, "consent.fhir-form", f"it is no R4B Consent: {', '.join(wrong)}")
            return
        status, scopes = text_of(resource, "status"), codes_of(object_of(resource, "scope"), _SCOPES)
        if status in ("draft", "proposed"):
            self.collector.leave_out("draft or proposed")
        elif not scopes:
            self.collector.fault(where, "consent.fhir-scope", "its scope is not coded by HL7's code system")
        elif "research" not in scopes:
            self.collector.leave_out("not about research")
        else:
            self._read_research(where, resource, status)

    def _read_research(self, where: str, resource: Object, status: str) -> None:
        faults: list[tuple[str, str]] = []
        provision = object_of(resource, "provision")
        denied = status in _WITHDRAWN or text_of(provision, "type") == "deny"
        if status not in ("active", *_WITHDRAWN):
            faults.append(("consent.fhir-status", "its status is none of FHIR's"))
        elif not denied:
            faults += _limits(resource, provision)
        elif status == "active" and provision.get("provision"):
            message = "its denial has nested provisions, whose exceptions cannot be applied here"
            faults.append(("consent.fhir-limited", message))
        version = self._version(resource, faults)
        identifier = self._identifier(resource, faults)
        patient_key = None if identifier is None else self._key(identifier)
        if patient_key is None and identifier is not None:
            faults.append(("consent.patient", "it names no patient"))
        granted, expires_s = _times(resource, provision, faults)
        purposes = self._purposes(provision)
        if not purposes and not denied:
            message = (
                "it is for no purpose that is known here; --purpose says what consents without one are for"
            )
            faults.append(("consent.fhir-purpose", message))
        for code, message in faults:
            self.collector.fault(where, code, message)
        if faults or patient_key is None or granted is None:
            return
        if version is None:
            self.collector.leave_out("of a policy to leave out")
            return
        withdrawn_s = None
        if denied:
            # Of a refusal the whole day counts. What merely ended may have been replaced on the same day.
            ended = status in ("inactive", "entered-in-error")
            withdrawn_s = granted.first_s if ended else granted.end_s(self._now_s)
            if expires_s is not None and expires_s <= granted.first_s:
                expires_s = None
        given = Given(
            patient_key=patient_key,
            policy_version=version,
            purposes=purposes or ("research",),
            granted_at_s=granted.first_s,
            expires_at_s=expires_s,
            withdrawn_at_s=withdrawn_s,
        )
        self.collector.take(where, given)

    def _version(self, resource: Object, faults: list[tuple[str, str]]) -> str | None:
        """None with no fault: the steward leaves this policy out."""
        named = [text_of(policy, "uri") for policy in objects_of(resource, "policy")]
        rule = object_of(resource, "policyRule")
        if not any(named):
            named = [*codes_of(rule, None), text_of(rule, "text")]
        names = {name for name in named if name}
        mapped = self._terminology.policies
        versions = {mapped.get(name, name) for name in names}
        if names and all(name in mapped or _VERSION.fullmatch(name) for name in names) and len(versions) == 1:
            return versions.pop()
        message = (
            "it names no policy" if not names else "its policy has no version here: --policy URI=VERSION"
        )
        if len(versions) > 1:
            message = "it names several policies: --policy URI=VERSION must give all of them one version"
        faults.append(("consent.fhir-policy", message))
        return None

    def _identifier(self, resource: Object, faults: list[tuple[str, str]]) -> str | None:
        patient = object_of(resource, "patient")
        reference, given = text_of(patient, "reference"), object_of(patient, "identifier")
        system = self._terminology.identifier_system
        found = _REFERENCE.fullmatch(reference)
        if system is None:
            if found and not given:
                return found.group(1)
            message = (
                "it does not name its patient by Patient/<id> alone: --identifier-system says what counts"
            )
        else:
            # An absolute reference is followed by its whole URL alone: another server's ids are not this one's.
            target = f"Patient/{found.group(1)}" if found and reference.startswith("Patient/") else reference
            known = [given, *self._patients.get(target, [])]
            values = {text_of(one, "value") for one in known if text_of(one, "system") == system}
            if len(values) == 1:
                return values.pop()
            message = (
                "its patient has not exactly one identifier of that system, here or in a Patient of the file"
            )
        faults.append(("consent.fhir-patient", message))
        return None

    def _purposes(self, provision: Object) -> tuple[str, ...]:
        codings = objects_of(provision, "purpose")
        if not codings:
            return self._terminology.purposes
        codes = [text_of(coding, "code") for coding in codings if text_of(coding, "system") == _REASONS]
        return tuple(dict.fromkeys(PURPOSES[code] for code in codes if code in PURPOSES))


def _limits(resource: Object, provision: Object) -> list[tuple[str, str]]:
    """Why a grant cannot be taken for one to training on the patient's images without more."""
    found = []
    if text_of(provision, "type") != "permit":
        found.append(("consent.fhir-provision", "its provision neither permits nor denies"))
    if (
        resource.get("implicitRules")
        or resource.get("modifierExtension")
        or provision.get("modifierExtension")
    ):
        found.append(("consent.fhir-modifier", "it has rules or modifier extensions that are not known here"))
    narrowing = [name for name in _NARROWING if provision.get(name)]
    actions = [code for action in objects_of(provision, "action") for code in codes_of(action, None)]
    if provision.get("action") and "use" not in actions:
        narrowing.append("action")
    if narrowing:
        message = f"its provision is limited by {', '.join(narrowing)}, which cannot be applied here"
        found.append(("consent.fhir-limited", message))
    return found


def _times(
    resource: Object, provision: Object, faults: list[tuple[str, str]]
) -> tuple[Span | None, int | None]:
    """(when it was granted, the first second at which it no longer holds)."""
    period = object_of(provision, "period")
    texts = {
        "dateTime": text_of(resource, "dateTime"),
        "period.start": text_of(period, "start"),
        "period.end": text_of(period, "end"),
    }
    spans = {name: read_span(text) for name, text in texts.items() if text}
    unclear = [name for name, span in spans.items() if span is None]
    if unclear:
        faults.append(("consent.fhir-time", f"no whole date or time: {', '.join(unclear)}"))
    begins = [spans.get("dateTime"), spans.get("period.start")]
    granted = max((span for span in begins if span is not None), key=lambda span: span.first_s, default=None)
    if granted is None and not unclear:
        faults.append(("consent.fhir-time", "it has neither dateTime nor period.start"))
    end = spans.get("period.end")
    return granted, None if end is None else end.last_s + 1


def _invalid(resource: Object) -> list[str]:
    """The fields at fault. Names of Consent alone: an unknown name, and any value, may be about the patient."""
    from fhir.resources.R4B.consent import Consent

    try:
        Consent.model_validate(resource)
    except ValidationError as error:
        names = [str(item["loc"][0]) if item["loc"] else "" for item in error.errors(include_input=False)]
        return list(
            dict.fromkeys(name if name in Consent.model_fields else "unknown field" for name in names)
        )
    except (ValueError, TypeError, RecursionError):
        return ["its structure"]
    return []
