"""Who consents at this moment, asked before every training step."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from adapters.clock import FixedClock
from adapters.consent.in_force import ConsentInForce
from adapters.consent.store import ConsentStore, store_key
from ledger.errors import CodedError
from policies.consent import ConsentRecord, Terms

CLOCK_S = 1_000


def record(patient: str, *, expires: int | None = None) -> ConsentRecord:
    return ConsentRecord(
        patient_key=sha256(patient.encode()).hexdigest(),
        policy_version="2026-1",
        purposes=("research",),
        granted_at_s=100,
        expires_at_s=expires,
    )


REGISTER = frozenset(bytes.fromhex(record(name).patient_key) for name in "pqr")


@pytest.fixture
def store(tmp_path: Path) -> ConsentStore:
    store = ConsentStore(tmp_path / "consent" / "records", store_key(bytes(32)))
    store.add([record("p"), record("q", expires=2_000)], now_s=CLOCK_S)
    return store


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(CLOCK_S)


@pytest.fixture
def names(store: ConsentStore, clock: FixedClock) -> Callable[[], str]:
    in_force = ConsentInForce(store, Terms("2026-1", "research"), clock)

    def ask() -> str:
        keys = in_force.keys(REGISTER)
        return "".join(name for name in "pqr" if bytes.fromhex(record(name).patient_key) in keys)

    return ask


def test_withdrawals_and_grants_show_at_the_next_question(
    store: ConsentStore, names: Callable[[], str]
) -> None:
    assert names() == "pq"
    store.withdraw(record("p").patient_key, policy_version=None, now_s=CLOCK_S)
    assert names() == "q"
    store.add([record("r")], now_s=CLOCK_S)
    assert names() == "qr"


def test_a_consent_that_expires_is_gone_in_that_second(clock: FixedClock, names: Callable[[], str]) -> None:
    clock.at_s = 1_999
    assert names() == "pq"
    clock.at_s = 2_000
    assert names() == "p"
    clock.at_s = 1_000  # set back: asked again, and what it says then
    assert names() == "pq"


def test_records_are_read_only_when_something_may_have_changed(
    store: ConsentStore, names: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names()
    monkeypatch.setattr(ConsentStore, "records", lambda self: pytest.fail("read again"))
    for _ in range(50):
        assert names() == "pq"


def test_no_answer_rests_on_records_that_cannot_be_believed(
    tmp_path: Path, store: ConsentStore, names: Callable[[], str]
) -> None:
    path = tmp_path / "consent" / "records"
    older = path.read_bytes()
    store.withdraw(record("p").patient_key, policy_version=None, now_s=CLOCK_S)
    assert names() == "q"
    path.write_bytes(older)
    with pytest.raises(CodedError) as refused:
        names()
    assert refused.value.code == "consent.store-rolled-back"
    path.unlink()
    with pytest.raises(CodedError):
        names()


def test_on_a_waiver_everybody_is_taken_in_but_who_objects(store: ConsentStore, clock: FixedClock) -> None:
    """A no counts wherever it was said: also under a version that no plan names, and of a consent that expired."""
    in_force = ConsentInForce(store, None, clock)
    everybody = in_force.keys(REGISTER)
    assert everybody == REGISTER and in_force.keys(REGISTER) is everybody
    store.withdraw(record("q").patient_key, policy_version=None, now_s=CLOCK_S)
    assert in_force.keys(REGISTER) == REGISTER - {bytes.fromhex(record("q").patient_key)}
    clock.at_s += 10
    later = record("q").model_copy(update={"granted_at_s": CLOCK_S + 5})
    store.add([later], now_s=CLOCK_S + 10)
    assert in_force.keys(REGISTER) == REGISTER
