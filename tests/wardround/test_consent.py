"""`wardround consent`: what a steward does, and that no identifier is ever printed or kept."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest

from adapters.consent.store import ConsentStore
from adapters.home import Home, SiteConfig
from adapters.sources.cohort import patient_key
from policies.consent import ConsentRecord, Terms, consenting
from policies.consent_tree import consent_root, ledger_secret
from tests.consents import RECORDS
from tests.consortium import Consortium
from tests.wardround.conftest import Command

TERMS = Terms("2026-1", "research")
HEADER = "patient_id,policy_version,purposes,granted_at,expires_at,withdrawn_at\n"
LONG_AGO = "2026-01-01,,"


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    return Consortium.found(tmp_path_factory.mktemp("federation"), consent=RECORDS)


@pytest.fixture
def home(founded: Consortium) -> Path:
    """hospital-a without any consent."""
    root = founded.founded.sites["hospital-a"]
    for path in (root / "consent").glob("*"):
        path.unlink()
    return root


def key(home: Path, identifier: str) -> bytes:
    config, secret = Home(home).read(SiteConfig), Home(home).patient_secret()
    return patient_key(identifier, site=config.name, secret=secret)


def records(home: Path) -> tuple[ConsentRecord, ...]:
    return ConsentStore.open(Home(home)).records()


def in_force(home: Path) -> frozenset[bytes]:
    return consenting(records(home), TERMS, int(time.time()))


def table(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "consents.csv"
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return path


def test_a_patient_grants_withdraws_and_is_out_at_once(wardround: Command, home: Path) -> None:
    granted = wardround(
        "consent", "grant", "--home", home, "--patient", "INVENTED-1", "--version", "2026-1", "--purpose",
        "research", "--expires", "2100-01-01",
    )  # fmt: skip
    assert granted.code == 0, granted.err
    assert in_force(home) == {key(home, "INVENTED-1")}
    withdrawn = wardround("consent", "withdraw", "--home", home, "--patient", "INVENTED-1")
    assert withdrawn.code == 0, withdrawn.err
    assert in_force(home) == frozenset()
    pseudonym = key(home, "INVENTED-1").hex()[:12]
    assert pseudonym in granted.out and pseudonym in withdrawn.out
    assert "INVENTED" not in granted.out + granted.err + withdrawn.out + withdrawn.err


def test_a_grant_in_the_second_of_a_withdrawal_is_refused_instead_of_being_void(
    wardround: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = ("consent", "grant", "--home", home, "--patient=A", "--version=2026-1", "--purpose=research")
    now_s = int(time.time())
    monkeypatch.setattr("wardround.consent._now_s", lambda: now_s)
    assert wardround(*grant).code == 0
    assert "on record already" in wardround(*grant).out
    assert wardround("consent", "withdraw", "--home", home, "--patient", "A").code == 0
    again = wardround(*grant)
    assert again.code == 2 and again.error.startswith("[consent.not-later]")
    monkeypatch.setattr("wardround.consent._now_s", lambda: now_s + 1)
    assert wardround(*grant).code == 0
    assert consenting(records(home), TERMS, now_s + 1) == {key(home, "A")}


def test_an_identifier_may_come_from_stdin_and_must_be_one(
    wardround: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = ("consent", "grant", "--home", home, "--patient", "-", "--version=2026-1", "--purpose=research")
    monkeypatch.setattr("sys.stdin", io.StringIO("INVENTED-7\n"))
    assert wardround(*grant).code == 0
    assert in_force(home) == {key(home, "INVENTED-7")}
    for wrong in ("", "\n", "INVENTED-1\nINVENTED-2\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(wrong))
        done = wardround(*grant)
        assert done.code == 2 and done.error.startswith("[consent.patient]")
        assert "INVENTED" not in done.err + done.out
    assert wardround("consent", "withdraw", "--home", home, "--patient", " ").code == 2


def test_a_mistyped_patient_is_no_withdrawal(wardround: Command, home: Path, tmp_path: Path) -> None:
    wardround("consent", "import", table(tmp_path, f"INVENTED-1,2026-1,research,{LONG_AGO}"), "--home", home)
    done = wardround("consent", "withdraw", "--home", home, "--patient", "INVENTED-2")
    assert done.code == 2 and done.error.startswith("[consent.unknown-patient]")
    assert "INVENTED" not in done.err
    other = wardround("consent", "withdraw", "--home", home, "--patient=INVENTED-1", "--version=2025-9")
    assert other.code == 2 and in_force(home) == {key(home, "INVENTED-1")}


def test_a_file_is_imported_whole_or_not_at_all_and_may_be_imported_again(
    wardround: Command, home: Path, tmp_path: Path
) -> None:
    good = f"INVENTED-1,2026-1,research,{LONG_AGO}"
    broken = wardround("consent", "import", table(tmp_path, good, "INVENTED-2,2026-1,,x,,"), "--home", home)
    assert broken.code == 2 and "row 3" in broken.error and "row 2" not in broken.error
    assert "INVENTED" not in broken.err + broken.out and records(home) == ()
    path = table(tmp_path, good, f"INVENTED-2,2026-1,research,{LONG_AGO}")
    first = wardround("consent", "import", path, "--home", home, "--json")
    assert json.loads(first.out) == {"new": 2, "known": 0, "withdrawn": 0, "left_out": {}}
    assert json.loads(wardround("consent", "import", path, "--home", home, "--json").out)["known"] == 2


def test_an_import_withdraws_and_never_undoes_a_withdrawal(
    wardround: Command, home: Path, tmp_path: Path
) -> None:
    before = table(
        tmp_path, f"INVENTED-1,2026-1,research,{LONG_AGO}", f"INVENTED-2,2026-1,research,{LONG_AGO}"
    )
    assert wardround("consent", "import", before, "--home", home).code == 0
    wardround("consent", "withdraw", "--home", home, "--patient", "INVENTED-1")
    assert wardround("consent", "import", before, "--home", home).code == 0
    assert in_force(home) == {key(home, "INVENTED-2")}
    after = table(tmp_path, "INVENTED-2,2026-1,research,2026-01-01,,2026-02-01")
    assert wardround("consent", "import", after, "--home", home).code == 0
    assert in_force(home) == frozenset()


def test_fhir_is_imported_with_the_stewards_words(wardround: Command, home: Path, tmp_path: Path) -> None:
    scope = [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "research"}]
    consent = {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": scope},
        "category": [{"text": "research"}],
        "patient": {"identifier": {"system": "urn:mrn", "value": "INVENTED-1"}},
        "dateTime": "2026-01-01",
        "policy": [{"uri": "https://hospital.example/a=b"}],
        "provision": {"type": "permit"},
    }
    other = {**consent, "policy": [{"uri": "urn:other"}]}
    path = tmp_path / "consents.ndjson"
    path.write_text("\n".join(json.dumps(one) for one in (consent, other, {"resourceType": "Patient"})))
    refused = wardround("consent", "import", path, "--home", home)
    assert refused.code == 2 and "INVENTED" not in refused.err and records(home) == ()
    done = wardround(
        "consent", "import", path, "--home", home, "--policy", "https://hospital.example/a=b=2026-1",
        "--ignore-policy", "urn:other", "--purpose", "research", "--identifier-system", "urn:mrn",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert in_force(home) == {key(home, "INVENTED-1")}
    assert "1 left out: no Consent" in done.out and "1 left out: of a policy to leave out" in done.out


@pytest.mark.parametrize(
    "options",
    [
        ("--policy=2026-1",),
        ("--policy==2026-1",),
        ("--policy=urn:a=1", "--policy=urn:a=2"),
        ("--policy=urn:a=1", "--ignore-policy=urn:a"),
        ("--format=csv", "--purpose=research"),
        ("--format=xml",),
    ],
)
def test_options_that_cannot_be_meant(
    wardround: Command, home: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    done = wardround("consent", "import", tmp_path / "x.json", "--home", home, *options)
    assert done.code == 2 and done.error.startswith("[usage")


def test_a_steward_is_told_of_a_version_that_no_plan_of_the_site_can_ask_for(
    wardround: Command, home: Path
) -> None:
    done = wardround(
        "consent", "grant", "--home", home, "--patient=A", "--version=2062-1", "--purpose=research"
    )
    assert done.code == 0 and "lists no consent policy 2062-1" in done.err


@pytest.mark.parametrize(
    ("option", "code"),
    [
        ("--version=2026 1", "consent.version"),
        ("--purpose=Research", "consent.purpose"),
        ("--expires=soon", "usage.option"),
        ("--expires=2020-01-01", "consent.expiry"),
    ],
)
def test_a_grant_that_cannot_be(wardround: Command, home: Path, option: str, code: str) -> None:
    rest = [one for one in ("--version=2026-1", "--purpose=research") if one[:5] != option[:5]]
    done = wardround("consent", "grant", "--home", home, "--patient=INVENTED-1", option, *rest)
    assert done.code == 2 and done.error.startswith(f"[{code}]"), done.err
    assert "INVENTED" not in done.err and records(home) == ()


def some_of_each(tmp_path: Path) -> Path:
    return table(
        tmp_path,
        f"INVENTED-1,2026-1,research,{LONG_AGO}",
        "INVENTED-2,2026-1,research,2026-01-01,,2026-02-01",
        "INVENTED-3,2026-1,research,2026-01-01,2026-02-01,",
        f"INVENTED-4,2026-1,research,{LONG_AGO}",
        "INVENTED-4,2026-1,research;teaching,2026-02-01,,",
        f"INVENTED-5,2026-1,research,{LONG_AGO}",
        "INVENTED-5,2026-1,teaching,2026-02-01,,",
    )


def test_list_says_what_each_record_is_worth_under_pseudonyms(
    wardround: Command, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wardround("consent", "import", some_of_each(tmp_path), "--home", home).code == 0
    shown = wardround("consent", "list", "--home", home)
    everything = json.loads(wardround("consent", "list", "--home", home, "--json").out)["records"]
    assert shown.code == 0 and "INVENTED" not in shown.out + json.dumps(everything)
    states = {
        number: [
            one["state"] for one in everything if one["patient"] == key(home, f"INVENTED-{number}").hex()[:12]
        ]
        for number in range(1, 6)
    }
    assert states == {
        1: ["in force"],
        2: ["withdrawn"],
        3: ["expired"],
        4: ["replaced", "in force"],
        5: ["replaced", "in force"],
    }
    assert key(home, "INVENTED-1").hex() not in shown.out + json.dumps(everything)
    monkeypatch.setattr("sys.stdin", io.StringIO("INVENTED-4\n"))
    of_one = json.loads(wardround("consent", "list", "--home", home, "--patient", "-", "--json").out)
    assert [one["state"] for one in of_one["records"]] == ["replaced", "in force"]


def test_status_counts_patients_and_shows_the_root_of_this_cadence(
    wardround: Command, home: Path, tmp_path: Path
) -> None:
    wardround("consent", "import", some_of_each(tmp_path), "--home", home)
    whole = json.loads(wardround("consent", "status", "--home", home, "--json").out)
    figures = ("purpose", "consenting", "withdrawn", "expired", "other")
    assert [tuple(row[name] for name in figures) for row in whole["consents"]] == [
        ("research", 2, 1, 1, 1),
        ("teaching", 2, 0, 0, 0),
    ]
    secret = ledger_secret(Home(home).patient_secret(), Home(home).federation.origin)
    assert whole["root"] == consent_root(records(home), secret=secret, cadence=whole["cadence"])
    assert whole["basis"] == "records"
    asked = ("consent", "status", "--home", home, "--version", "2027-1", "--purpose", "research")
    assert json.loads(wardround(*asked, "--json").out)["consents"][0]["consenting"] == 0
    assert "consenting" in wardround("consent", "status", "--home", home).out


def test_no_identifier_stays_in_the_home(wardround: Command, home: Path, tmp_path: Path) -> None:
    wardround("consent", "import", some_of_each(tmp_path), "--home", home)
    wardround("consent", "withdraw", "--home", home, "--patient", "INVENTED-1")
    for path in home.rglob("*"):
        if path.is_file():
            assert b"INVENTED" not in path.read_bytes(), path


def test_records_that_were_changed_are_believed_by_no_command(
    wardround: Command, home: Path, tmp_path: Path
) -> None:
    wardround("consent", "import", some_of_each(tmp_path), "--home", home)
    path = home / "consent" / "records"
    path.write_bytes(path.read_bytes()[:-1])
    for command in (("list",), ("status",), ("withdraw", "--patient=INVENTED-1")):
        done = wardround("consent", *command, "--home", home)
        assert done.code == 3 and done.error.startswith("[consent.store-tampered]")


def test_a_coordinator_has_no_consents(wardround: Command, founded: Consortium) -> None:
    done = wardround("consent", "status", "--home", founded.founded.coordinator)
    assert done.code == 2 and done.error.startswith("[home.role]")
