"""Everybody of a site's sources agrees, for demos: once each, whichever sources a patient is in."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.clock import FixedClock
from adapters.consent.in_force import ConsentInForce
from adapters.consent.store import ConsentStore
from adapters.home import Home, NoSourceError, SourceConfig
from adapters.sources.cohort import patient_key
from policies.consent import Terms
from policies.federation import Pool
from policies.plan import Plan
from tasks.enrol import enrol
from tasks.found import FoundingSite, found
from tests.consents import RECORDS
from tests.consortium import SITES, tiny_plan

FEATURES = [{"kind": "number", "name": "age", "lower": 0, "upper": 100}]


def plan_of(study: str, purpose: str = "research") -> Plan:
    table = {"features": FEATURES, "label": "sick"}
    data = {"table": table, "labels": [0, 1], "minimum_patients": 2, "held_out_fraction": 0.5}
    consent = {"policy_version": "2026-1", "purpose": purpose}
    return tiny_plan(study=study, data=data, network={"name": "LogisticRegression"}, consent=consent)


class Hospital:
    """Patients 0 to 39 stayed, 20 to 59 came for follow-up."""

    def __init__(self, root: Path) -> None:
        sources = dict[str, SourceConfig]()
        for study, numbers in (("stays", range(40)), ("follow-up", range(20, 60))):
            path = root / f"{study}.csv"
            rows = "".join(f"P{number},{20 + number},{number % 2}\n" for number in numbers)
            path.write_text(f"patient_id,age,sick\n{rows}")
            sources[study] = SourceConfig(kind="table", path=str(path))
        sites = tuple(FoundingSite(site, None, RECORDS, sources=sources) for site in SITES)
        pool = Pool.of(epsilon_cap_micro=1_000_000, delta=1e-5)
        self.root = found(root / "f", sites, name="test", pool=pool).sites[SITES[0]]
        self.store = ConsentStore.open(Home(self.root))

    def key(self, number: int) -> bytes:
        return patient_key(f"P{number}", site=SITES[0], secret=Home(self.root).patient_secret())

    def consenting(self, purpose: str = "research", *, now_s: int = 100) -> frozenset[bytes]:
        terms = Terms("2026-1", purpose)
        return ConsentInForce(self.store, terms, FixedClock(now_s)).keys(frozenset({b""}))


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path)


def test_a_patient_in_two_sources_agrees_once(hospital: Hospital) -> None:
    enrol(hospital.root, plan_of("stays"), now_s=10)
    enrol(hospital.root, plan_of("follow-up"), now_s=20)
    enrol(hospital.root, plan_of("stays"), now_s=30)
    assert len(hospital.store.records()) == 60
    assert hospital.consenting() == {hospital.key(number) for number in range(60)}


def test_what_was_agreed_to_before_stays_when_another_purpose_is_asked_for(hospital: Hospital) -> None:
    enrol(hospital.root, plan_of("stays", "care"), now_s=10)
    enrol(hospital.root, plan_of("follow-up"), now_s=20)
    assert hospital.consenting("care") == {hospital.key(number) for number in range(40)}
    assert hospital.consenting() == {hospital.key(number) for number in range(20, 60)}


def test_who_withdrew_is_not_asked_again(hospital: Hospital) -> None:
    enrol(hospital.root, plan_of("stays"), now_s=10)
    hospital.store.withdraw(hospital.key(30).hex(), policy_version=None, now_s=15)
    enrol(hospital.root, plan_of("follow-up", "care"), now_s=20)
    assert hospital.key(30) not in hospital.consenting() | hospital.consenting("care")


def test_a_study_without_a_source_is_refused(hospital: Hospital) -> None:
    with pytest.raises(NoSourceError):
        enrol(hospital.root, plan_of("x-rays"), now_s=10)
    assert hospital.store.records() == ()
