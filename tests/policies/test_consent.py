"""Consent as records say it: when it holds, what ends it, and which records nobody takes in."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical import JsonValue
from ledger.errors import InputError
from policies.consent import (
    YEAR_2200_S,
    ConsentRecord,
    ConsentRefusedError,
    Terms,
    consenting,
    consents,
    merged,
    next_expiry_s,
)

RESEARCH = Terms("2026-1", "research")
NOW_S = 1_000


def key_of(name: str) -> str:
    return sha256(name.encode()).hexdigest()


def record(
    patient: str = "p",
    *,
    version: str = "2026-1",
    purposes: tuple[str, ...] = ("research",),
    granted: int = 100,
    expires: int | None = None,
    withdrawn: int | None = None,
) -> ConsentRecord:
    return ConsentRecord(
        patient_key=key_of(patient),
        policy_version=version,
        purposes=purposes,
        granted_at_s=granted,
        expires_at_s=expires,
        withdrawn_at_s=withdrawn,
    )


def who(*records: ConsentRecord, terms: Terms = RESEARCH, now_s: int = NOW_S) -> set[str]:
    return {key.hex() for key in consenting(records, terms, now_s)}


def codes(*records: ConsentRecord, known: tuple[ConsentRecord, ...] = ()) -> list[str]:
    """The codes of all faults, in the order in which the refusal names them; none if all are taken in."""
    places = [f"record {number}" for number in range(1, len(records) + 1)]
    try:
        merged(known, records, now_s=NOW_S, where=places)
    except ConsentRefusedError as refused:
        return [part.rsplit("(", 1)[1].rstrip(")") for part in refused.public_message.split("; ")]
    return []


# When consent holds


def test_consent_is_for_a_version_and_a_purpose() -> None:
    given_ = record(purposes=("care", "research"))
    assert consents(given_, RESEARCH, NOW_S)
    assert not consents(given_, Terms("2026-1", "marketing"), NOW_S)
    assert not consents(given_, Terms("2025-1", "research"), NOW_S)
    assert not consents(given_, Terms("2026-1", "Research"), NOW_S)


@pytest.mark.parametrize(("now_s", "holds"), [(99, False), (100, True), (199, True), (200, False)])
def test_consent_holds_from_its_grant_until_before_its_expiry(now_s: int, holds: bool) -> None:
    given_ = record(granted=100, expires=200)
    assert consents(given_, RESEARCH, now_s) is holds
    assert bool(who(given_, now_s=now_s)) is holds


def test_a_withdrawal_counts_whatever_the_clock_says() -> None:
    """A clock that was set back must not bring a patient back."""
    assert not who(record(withdrawn=500), now_s=300)


def test_a_withdrawal_is_final_until_a_later_grant() -> None:
    first = record(granted=100, withdrawn=500)
    assert not who(first)
    assert not who(first, record(granted=400)), "granted before the withdrawal"
    assert not who(first, record(granted=500)), "granted in the second of the withdrawal"
    assert who(first, record(granted=501)) == {key_of("p")}


def test_the_latest_grant_counts_and_may_narrow_or_end_what_was_agreed() -> None:
    wide, narrow = record(granted=100), record(granted=200, purposes=("care",))
    assert not who(wide, narrow) and not who(narrow, wide)
    assert not who(wide, record(granted=200, expires=300)), "the newer one expired; the older is not revived"


def test_grants_of_one_second_that_disagree_permit_nothing() -> None:
    """The store refuses such records; whatever holds some all the same must not choose the convenient one."""
    assert not who(record(), record(purposes=("care",)))


def test_one_patients_withdrawal_is_nobody_elses() -> None:
    assert who(record("p", withdrawn=200), record("q")) == {key_of("q")}
    assert who(record("p", version="2025-1", withdrawn=200), record("p")) == {key_of("p")}


def test_the_next_expiry_is_of_consents_in_force() -> None:
    gone, other = record("p", expires=500), record("q", version="2025-1", expires=1_100)
    assert next_expiry_s([gone, other, record("r")], RESEARCH, NOW_S) is None
    coming = [record("s", expires=1_300), record("t", expires=1_200), gone]
    assert next_expiry_s(coming, RESEARCH, NOW_S) == 1_200


HISTORY = st.lists(
    st.builds(
        lambda granted, length, withdrawn: record(
            granted=granted,
            expires=None if length is None else granted + length,
            withdrawn=None if withdrawn is None else granted + withdrawn,
        ),
        st.integers(0, 40),
        st.none() | st.integers(1, 40),
        st.none() | st.integers(0, 40),
    ),
    min_size=1,
    max_size=6,
)


@given(HISTORY, st.integers(0, 80))
def test_whatever_the_history_a_withdrawal_ends_it(history: list[ConsentRecord], now_s: int) -> None:
    after = [each.withdrawn(max(now_s, *(one.granted_at_s for one in history))) for each in history]
    assert not consenting(after, RESEARCH, now_s)
    # Order says nothing, and no history permits what none of its records does.
    assert consenting(history, RESEARCH, now_s) == consenting(history[::-1], RESEARCH, now_s)
    if consenting(history, RESEARCH, now_s):
        assert any(consents(each, RESEARCH, now_s) for each in history)


@given(HISTORY, st.integers(0, 80))
def test_a_withdrawal_is_never_undone_by_the_records_before_it(
    history: list[ConsentRecord], now_s: int
) -> None:
    last_s = max((one.withdrawn_at_s or -1 for one in history), default=-1)
    if last_s >= max(one.granted_at_s for one in history):
        assert not consenting(history, RESEARCH, max(now_s, last_s))


# What is refused


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patient_key", "p" * 64),
        ("patient_key", "AB" * 32),
        ("patient_key", "MRN-4711"),
        ("policy_version", ""),
        ("policy_version", "2026 1"),
        ("policy_version", "v" * 65),
        ("purposes", []),
        ("purposes", ["research", "research"]),
        ("purposes", ["Research for all"]),
        ("granted_at_s", -1),
        ("granted_at_s", 100.0),
        ("granted_at_s", float("nan")),
        ("granted_at_s", "100"),
        ("granted_at_s", True),
        ("granted_at_s", YEAR_2200_S),
        ("granted_at_s", 10**30),
        ("expires_at_s", float("inf")),
        ("withdrawn_at_s", -5),
        ("name", "somebody"),
    ],
)
def test_a_malformed_record_is_refused_by_its_field(field: str, value: JsonValue) -> None:
    fields = {**record().to_json(), field: value}
    with pytest.raises(InputError) as refused:
        ConsentRecord.from_value(fields, what="consent")
    assert refused.value.code == "consent.malformed"
    assert field in refused.value.public_message
    assert "MRN-4711" not in str(refused.value) and "somebody" not in str(refused.value)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (record(granted=100, expires=100), "consent.expiry"),
        (record(granted=100, expires=50), "consent.expiry"),
        (record(granted=NOW_S + 1), "consent.future"),
        (record(withdrawn=NOW_S + 1), "consent.future"),
        (record(granted=100, withdrawn=99), "consent.withdrawal"),
    ],
)
def test_impossible_times_are_refused(bad: ConsentRecord, code: str) -> None:
    assert codes(bad) == [code]


def test_duplicates_and_contradictions_are_refused() -> None:
    assert codes(record(), record()) == ["consent.duplicate"]
    assert codes(*[record()] * 2) == ["consent.duplicate"], "the very same object too"
    assert codes(record(), record(purposes=("care",))) == ["consent.contradiction"]
    assert codes(record(), record(expires=900)) == ["consent.contradiction"]
    assert codes(record(), record(withdrawn=500)) == ["consent.contradiction"]
    assert codes(record(purposes=("care", "research")), record(purposes=("research", "care"))) == [
        "consent.duplicate"
    ]
    assert codes(record(), record(granted=101), record("q"), record(version="2025-1")) == []


def test_every_fault_is_named_by_place_and_never_by_patient() -> None:
    bad = (record("p", granted=2_000), record("q"), record("q", expires=50), record("r", withdrawn=1))
    with pytest.raises(ConsentRefusedError) as refused:
        merged((), bad, now_s=NOW_S, where=["row 2", "row 3", "row 4", "row 5"])
    text = str(refused.value)
    assert all(place in text for place in ("row 2:", "row 4:", "row 5:")) and "row 3:" not in text
    assert refused.value.code == "consent.future"
    assert not any(key_of(name) in text or key_of(name)[:8] in text for name in "pqr")


def test_a_long_list_of_faults_is_cut_short() -> None:
    bad = [record(str(number), granted=2_000) for number in range(500)]
    with pytest.raises(ConsentRefusedError) as refused:
        merged((), bad, now_s=NOW_S, where=[f"row {number}" for number in range(500)])
    assert "row 19:" in str(refused.value) and "row 20:" not in str(refused.value)
    assert "and 480 more" in str(refused.value)


# What an import brings


def test_the_same_export_again_changes_nothing() -> None:
    known = (record("p"), record("q", withdrawn=500))
    again = merged(known, known, now_s=NOW_S, where=["1", "2"])
    assert (again.records, again.added, again.withdrawn) == (known, 0, 0)


def test_an_import_withdraws_and_never_brings_back() -> None:
    ended = merged((record(),), (record(withdrawn=700),), now_s=NOW_S, where=["1"])
    assert (ended.added, ended.withdrawn) == (0, 1) and ended.records == (record(withdrawn=700),)
    older_export = merged(ended.records, (record(),), now_s=NOW_S, where=["1"])
    assert older_export.records == ended.records
    dated_back = merged(ended.records, (record(withdrawn=600),), now_s=NOW_S, where=["1"])
    assert dated_back.records == ended.records, "it would bring back what was granted in between"
    later = merged(ended.records, (record(withdrawn=900),), now_s=NOW_S, where=["1"])
    assert later.records == (record(withdrawn=900),)


def test_an_import_ends_a_consent_in_whatever_terms_and_keeps_those_on_record() -> None:
    """A system that ends a consent may also shorten its period; a no must never fail on that."""
    ended = merged((record(),), (record(expires=300, withdrawn=700),), now_s=NOW_S, where=["1"])
    assert ended.records == (record(withdrawn=700),)


def test_an_import_cannot_rewrite_what_was_agreed() -> None:
    assert codes(record(purposes=("care", "research")), known=(record(),)) == ["consent.contradiction"]
    assert codes(record(expires=5_000), known=(record(expires=2_000),)) == ["consent.contradiction"]


def test_a_withdrawal_is_never_dated_before_its_grant() -> None:
    assert record(granted=100).withdrawn(50).withdrawn_at_s == 100
    assert record(granted=100, withdrawn=200).withdrawn(300).withdrawn_at_s == 200
