"""Consents as FHIR: what counts as a grant, what as a refusal, and what is refused, by its place alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.consent.fhir import Terminology, read_fhir
from adapters.consent.reading import ConsentFileError, Reading, patient_keys
from adapters.sources.cohort import patient_key
from ledger.canonical import JsonValue
from ledger.errors import InputError
from policies.consent import ConsentRefusedError, Terms, consenting

SECRET = b"s" * 32
KEY = patient_keys(site="hospital-a", secret=SECRET)
NOW_S = 1_780_000_000  # 2026-05-28
POLICY = "https://hospital.example/consent/2026"
TERMS = Terms("2026-1", "research")
REASONS = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
TERMINOLOGY = Terminology(policies={POLICY: "2026-1"})


def consent(patient: str = "INVENTED-1", /, **fields: JsonValue) -> dict[str, JsonValue]:
    """A research consent of 1 March 2026; a field given as None is left out."""
    scope: JsonValue = {
        "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}]
    }
    whole: dict[str, JsonValue] = {
        "resourceType": "Consent",
        "status": "active",
        "scope": scope,
        "category": [{"coding": [{"code": "research"}]}],
        "patient": {"reference": f"Patient/{patient}"},
        "dateTime": "2026-03-01T09:30:00+01:00",
        "policy": [{"uri": POLICY}],
        "provision": provision(),
        **fields,
    }
    return {name: value for name, value in whole.items() if value is not None}


def provision(**fields: JsonValue) -> dict[str, JsonValue]:
    whole: dict[str, JsonValue] = {
        "type": "permit",
        "purpose": [{"system": REASONS, "code": "HRESCH"}],
        "period": {"start": "2026-03-01", "end": "2031-02-28"},
        **fields,
    }
    return {name: value for name, value in whole.items() if value is not None}


def bundle(*resources: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": one} for one in resources]}


def read(tmp_path: Path, content: object, terminology: Terminology = TERMINOLOGY) -> Reading:
    path = tmp_path / "consents.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_fhir(path, key=KEY, terminology=terminology, now_s=NOW_S)


def refused(tmp_path: Path, content: object, terminology: Terminology = TERMINOLOGY) -> ConsentRefusedError:
    with pytest.raises(ConsentRefusedError) as caught:
        read(tmp_path, content, terminology)
    assert "INVENTED" not in str(caught.value)
    return caught.value


def key_of(patient: str) -> bytes:
    return patient_key(patient, site="hospital-a", secret=SECRET)


def test_an_active_permit_is_a_grant_of_the_patient_that_the_images_have(tmp_path: Path) -> None:
    record = read(tmp_path, consent()).records[0]
    assert record.patient_key == key_of("INVENTED-1").hex()
    assert record.policy_version == "2026-1" and record.purposes == ("research",)
    granted = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)  # later than the first second of the period
    assert record.granted_at_s == granted.timestamp()
    assert (
        record.expires_at_s == datetime(2031, 3, 1, tzinfo=UTC).timestamp()
    )  # all of 28 February is included
    assert record.withdrawn_at_s is None


def test_a_bundle_and_ndjson_say_the_same(tmp_path: Path) -> None:
    both = [consent("INVENTED-1"), consent("INVENTED-2")]
    bundled = read(tmp_path, bundle(*both))
    lines = read(tmp_path, "\n".join(json.dumps(one) for one in both) + "\n")
    assert bundled.records == lines.records and len(lines.records) == 2
    assert (bundled.where, lines.where) == (("entry 1", "entry 2"), ("line 1", "line 2"))
    assert read(tmp_path, both[0]).records == bundled.records[:1]


@pytest.mark.parametrize("status", ["inactive", "rejected", "entered-in-error"])
def test_every_status_that_ends_a_consent_ends_it(tmp_path: Path, status: str) -> None:
    record = read(tmp_path, consent(status=status)).records[0]
    assert record.withdrawn_at_s is not None
    assert not consenting([record], TERMS, NOW_S)


def test_a_denial_counts_for_its_whole_day(tmp_path: Path) -> None:
    """Granted at half past nine, denied on the same day by a form that has only a date."""
    deny = consent(dateTime="2026-03-01", provision=provision(type="deny", period=None))
    records = read(tmp_path, bundle(consent(), deny)).records
    assert not consenting(records, TERMS, NOW_S)
    assert consenting(records[:1], TERMS, NOW_S) == {key_of("INVENTED-1")}


def test_a_consent_that_was_replaced_does_not_end_the_one_that_replaced_it(tmp_path: Path) -> None:
    old = consent(status="inactive", dateTime="2026-03-01", provision=provision(period=None))
    new = consent(dateTime="2026-03-01T10:00:00Z")
    assert consenting(read(tmp_path, bundle(old, new)).records, TERMS, NOW_S) == {key_of("INVENTED-1")}


def test_drafts_other_scopes_and_other_resources_are_left_out_and_counted(tmp_path: Path) -> None:
    treatment: JsonValue = {
        "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "treatment"}]
    }
    reading = read(
        tmp_path,
        bundle(
            {"resourceType": "Patient", "id": "INVENTED-1"},
            consent(status="draft"),
            consent(status="proposed"),
            consent(scope=treatment),
        ),
    )
    assert reading.records == ()
    assert dict(reading.left_out) == {"no Consent": 1, "draft or proposed": 2, "not about research": 1}


LIMITED: list[tuple[str, JsonValue]] = [
    ("provision", [{"type": "deny"}]),
    ("actor", [{"role": {"text": "x"}, "reference": {"reference": "Organization/other"}}]),
    ("class", [{"code": "application/dicom"}]),
    ("code", [{"text": "x"}]),
    ("data", [{"meaning": "instance", "reference": {"reference": "ImagingStudy/1"}}]),
    ("dataPeriod", {"start": "2020-01-01"}),
    ("securityLabel", [{"code": "R"}]),
    ("action", [{"coding": [{"code": "collect"}]}]),
]


@pytest.mark.parametrize(("name", "value"), LIMITED, ids=[name for name, _ in LIMITED])
def test_a_grant_with_a_limit_that_nobody_would_apply_is_refused(
    tmp_path: Path, name: str, value: JsonValue
) -> None:
    error = refused(tmp_path, consent(provision=provision(**{name: value})))
    assert error.code == "consent.fhir-limited" and name in str(error)


def test_a_grant_to_use_among_other_actions_is_a_grant(tmp_path: Path) -> None:
    actions: JsonValue = [{"coding": [{"code": "collect"}]}, {"coding": [{"code": "use"}]}]
    assert len(read(tmp_path, consent(provision=provision(action=actions))).records) == 1


def test_a_denial_with_exceptions_is_not_taken_for_a_denial_of_everything(tmp_path: Path) -> None:
    nested = provision(type="deny", provision=[{"type": "permit"}])
    assert refused(tmp_path, consent(provision=nested)).code == "consent.fhir-limited"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"status": "actve"}, "consent.fhir-status"),
        ({"scope": {"coding": [{"code": "research"}]}}, "consent.fhir-scope"),
        ({"provision": provision(type=None)}, "consent.fhir-provision"),
        ({"provision": None}, "consent.fhir-provision"),
        ({"implicitRules": "https://elsewhere.example/rules"}, "consent.fhir-modifier"),
        (
            {"modifierExtension": [{"url": "https://x.example/not", "valueBoolean": True}]},
            "consent.fhir-modifier",
        ),
        ({"policy": None}, "consent.fhir-policy"),
        ({"policy": [{"uri": "https://elsewhere.example/study"}]}, "consent.fhir-policy"),
        ({"policy": [{"uri": POLICY}, {"uri": "2025-1"}]}, "consent.fhir-policy"),
        ({"patient": None}, "consent.fhir-patient"),
        ({"patient": {"reference": "Group/1"}}, "consent.fhir-patient"),
        ({"patient": {"display": "INVENTED Name"}}, "consent.fhir-patient"),
        (
            {
                "patient": {
                    "reference": "Patient/INVENTED-1",
                    "identifier": {"system": "s", "value": "INVENTED-2"},
                }
            },
            "consent.fhir-patient",
        ),
        ({"dateTime": "2026"}, "consent.fhir-time"),
        ({"dateTime": None, "provision": provision(period=None)}, "consent.fhir-time"),
        ({"provision": provision(period={"end": "2031-02"})}, "consent.fhir-time"),
        ({"provision": provision(purpose=[{"system": REASONS, "code": "HMARKT"}])}, "consent.fhir-purpose"),
        ({"provision": provision(purpose=[{"system": "urn:x", "code": "HRESCH"}])}, "consent.fhir-purpose"),
        ({"provision": provision(purpose=None)}, "consent.fhir-purpose"),
        ({"category": None}, "consent.fhir-form"),
        ({"INVENTED-1": "x"}, "consent.fhir-form"),
        ({"dateTime": "INVENTED"}, "consent.fhir-form"),
        ({"dateTime": "2026-06-01"}, "consent.future"),
        ({"provision": provision(period={"start": "2027-01-01"})}, "consent.future"),
        ({"provision": provision(period={"end": "2026-02-01"})}, "consent.expiry"),
        ({"dateTime": "1969-12-31", "provision": provision(period=None)}, "consent.time"),
    ],
)
def test_what_cannot_be_decided_is_refused_by_its_place(
    tmp_path: Path, fields: dict[str, JsonValue], code: str
) -> None:
    error = refused(tmp_path, bundle(consent("INVENTED-9"), consent(**fields)))
    assert error.code == code, str(error)
    assert "entry 2: " in str(error) and "entry 1" not in str(error)


def test_every_fault_of_a_file_is_named_and_one_is_enough_to_take_nothing_in(tmp_path: Path) -> None:
    broken = bundle(consent("INVENTED-2"), consent(status="x"), consent("INVENTED-3", policy=None), consent())
    error = refused(tmp_path, broken)
    assert "entry 2" in str(error) and "entry 3" in str(error) and "entry 4" not in str(error)


def test_duplicates_and_contradictions_within_a_file_are_refused(tmp_path: Path) -> None:
    assert refused(tmp_path, bundle(consent(), consent())).code == "consent.duplicate"
    other = consent(status="rejected")
    assert refused(tmp_path, bundle(consent(), other)).code == "consent.contradiction"


# -- the steward's words -------------------------------------------------------------------------------------


def test_a_policy_may_be_left_out_or_be_a_version_itself(tmp_path: Path) -> None:
    other = consent("INVENTED-2", policy=[{"uri": "urn:other-study"}])
    coded = consent("INVENTED-3", policy=None, policyRule={"coding": [{"code": "2026-1"}]})
    terminology = Terminology(policies={POLICY: "2026-1", "urn:other-study": None})
    reading = read(tmp_path, bundle(consent(), other, coded), terminology)
    assert [record.policy_version for record in reading.records] == ["2026-1", "2026-1"]
    assert dict(reading.left_out) == {"of a policy to leave out": 1}


def test_a_policy_uri_is_never_guessed_from_its_last_part(tmp_path: Path) -> None:
    error = refused(tmp_path, consent(policy=[{"uri": "https://other.example/2026-1"}]))
    assert error.code == "consent.fhir-policy"


def test_purposes_of_the_steward_are_for_consents_that_name_none(tmp_path: Path) -> None:
    terminology = Terminology(policies={POLICY: "2026-1"}, purposes=("teaching",))
    several = provision(purpose=[{"system": REASONS, "code": code} for code in ("HRESCH", "HMARKT")])
    reading = read(
        tmp_path,
        bundle(
            consent("INVENTED-1", provision=provision(purpose=None)), consent("INVENTED-2", provision=several)
        ),
        terminology,
    )
    assert [record.purposes for record in reading.records] == [("teaching",), ("research",)]


MRN = "https://hospital.example/mrn"


def patient(name: str, *values: str, system: str = MRN) -> dict[str, JsonValue]:
    identifiers: list[JsonValue] = [{"system": system, "value": value} for value in values]
    return {"resourceType": "Patient", "id": name, "identifier": identifiers}


def test_patients_are_keyed_by_the_identifier_that_their_images_have(tmp_path: Path) -> None:
    terminology = Terminology(policies={POLICY: "2026-1"}, identifier_system=MRN)
    direct: JsonValue = {"identifier": {"system": MRN, "value": "INVENTED-MRN-2"}}
    reading = read(
        tmp_path, bundle(patient("p1", "INVENTED-MRN-1"), consent("p1"), consent(patient=direct)), terminology
    )
    assert [record.patient_key for record in reading.records] == [
        key_of("INVENTED-MRN-1").hex(),
        key_of("INVENTED-MRN-2").hex(),
    ]
    by_url = bundle(consent(patient={"reference": "urn:uuid:7"}))
    entries = by_url["entry"]
    assert isinstance(entries, list)
    entries.append({"fullUrl": "urn:uuid:7", "resource": patient("x", "INVENTED-MRN-3")})
    assert read(tmp_path, by_url, terminology).records[0].patient_key == key_of("INVENTED-MRN-3").hex()


@pytest.mark.parametrize(
    "others",
    [
        [],
        [patient("p1", "INVENTED-1", "INVENTED-2")],
        [patient("p1", "INVENTED-1"), patient("p1", "INVENTED-2")],
        [patient("p1", "INVENTED-1", system="urn:insurance")],
        [patient("p1")],
    ],
)
def test_a_patient_without_exactly_one_identifier_of_the_system_is_refused(
    tmp_path: Path, others: list[dict[str, JsonValue]]
) -> None:
    terminology = Terminology(policies={POLICY: "2026-1"}, identifier_system=MRN)
    assert refused(tmp_path, bundle(*others, consent("p1")), terminology).code == "consent.fhir-patient"


def test_an_identifier_that_no_image_can_have_is_refused(tmp_path: Path) -> None:
    terminology = Terminology(policies={POLICY: "2026-1"}, identifier_system=MRN)
    for value in ("INVENTED\ud800", "\0 "):
        error = refused(tmp_path, bundle(patient("p1", value), consent("p1")), terminology)
        assert error.code in ("consent.patient", "consent.fhir-patient")


def test_another_servers_patient_is_not_this_ones(tmp_path: Path) -> None:
    terminology = Terminology(policies={POLICY: "2026-1"}, identifier_system=MRN)
    elsewhere = consent(patient={"reference": "https://elsewhere.example/fhir/Patient/p1"})
    assert refused(tmp_path, bundle(patient("p1", "INVENTED-1"), elsewhere), terminology).code == (
        "consent.fhir-patient"
    )


# -- files that are none -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "INVENTED-1",
        "[]",
        '{"INVENTED": 1}',
        json.dumps(consent())[:-20],
        json.dumps(consent()) + "\n" + json.dumps(consent())[:-20],
        '{"resourceType": "Bundle", "entry": [{"fullUrl": "INVENTED"}]}',
        '{"resourceType": "Consent", "status": "active", "status": "rejected"}',
        '{"resourceType": "Consent", "status": NaN}',
        "[" * 100_000,
    ],
)
def test_a_file_that_is_no_fhir_is_refused_without_a_word_of_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConsentFileError) as caught:
        read(tmp_path, text)
    assert "INVENTED" not in str(caught.value) + caught.value.diagnostics()
    assert caught.value.__context__ is None or "INVENTED" not in str(caught.value.__context__)


def test_a_missing_file_and_one_that_is_not_utf_8(tmp_path: Path) -> None:
    with pytest.raises(ConsentFileError):
        read_fhir(tmp_path / "none", key=KEY, terminology=TERMINOLOGY, now_s=NOW_S)
    path = tmp_path / "latin"
    path.write_bytes(b"\xff\xfeINVENTED")
    with pytest.raises(ConsentFileError) as caught:
        read_fhir(path, key=KEY, terminology=TERMINOLOGY, now_s=NOW_S)
    assert caught.value.__context__ is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    field=st.sampled_from(
        ["status", "scope", "patient", "dateTime", "policy", "policyRule", "provision", "x"]
    ),
    inner=st.sampled_from([None, "type", "period", "purpose", "provision", "modifierExtension"]),
    value=json_values,
)
def test_whatever_a_field_holds_it_is_read_or_refused(
    tmp_path: Path, field: str, inner: str | None, value: JsonValue
) -> None:
    changed = consent(**{field: value if inner is None else provision(**{inner: value})})
    try:
        reading = read(tmp_path, changed)
    except InputError as error:
        assert error.code.startswith("consent.")
    else:
        assert len(reading.records) + len(reading.left_out) == 1
