"""Importing consents beside those on record: what an import may end, and what it can never bring back."""

from __future__ import annotations

import pytest

from policies.consent import ConsentRecord, ConsentRefusedError, Terms, consenting, faults_of, merged

NOW_S = 1_000
TERMS = Terms("2026-1", "research")


def record(
    *, granted: int = 100, expires: int | None = None, withdrawn: int | None = None, purpose: str = "research"
) -> ConsentRecord:
    return ConsentRecord(
        patient_key="ab" * 32,
        policy_version="2026-1",
        purposes=(purpose,),
        granted_at_s=granted,
        expires_at_s=expires,
        withdrawn_at_s=withdrawn,
    )


def after(known: ConsentRecord, incoming: ConsentRecord) -> tuple[ConsentRecord, ...]:
    return merged([known], [incoming], now_s=NOW_S, where=["row 2"]).records


def test_a_nightly_export_changes_nothing() -> None:
    assert after(record(), record()) == (record(),)


@pytest.mark.parametrize(
    "ended",
    [
        record(withdrawn=400),
        record(withdrawn=400, expires=400),
        record(withdrawn=400, purpose="teaching"),
    ],
    ids=["the same terms", "a period that was cut short", "other purposes"],
)
def test_an_import_withdraws_a_grant_on_record_in_whatever_terms(ended: ConsentRecord) -> None:
    """A record system that ends a consent often sets the end of its period too. Refusing the whole file for that
    would leave every withdrawal in it undone."""
    assert consenting([record()], TERMS, NOW_S)
    assert after(record(), ended) == (record(withdrawn=400),)
    assert not consenting(after(record(), ended), TERMS, NOW_S)


def test_an_older_export_brings_no_withdrawn_consent_back() -> None:
    assert after(record(withdrawn=400), record()) == (record(withdrawn=400),)
    assert after(record(withdrawn=700), record(withdrawn=400)) == (record(withdrawn=700),)


@pytest.mark.parametrize("widened", [record(expires=5_000), record(purpose="teaching")])
def test_a_grant_of_the_same_second_in_other_terms_is_refused(widened: ConsentRecord) -> None:
    with pytest.raises(ConsentRefusedError) as refused:
        after(record(), widened)
    assert refused.value.code == "consent.contradiction"


def test_one_record_given_twice_is_a_duplicate_even_as_one_object() -> None:
    one = record()
    faults = faults_of([one, one], now_s=NOW_S, where=["row 2", "row 3"])
    assert [(fault.where, fault.code) for fault in faults] == [("row 3", "consent.duplicate")]
