"""A hostile exchange between honest parties: what it alters, loses or replays is noticed and named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from adapters.exchange import Exchange
from adapters.home import Home
from ledger.errors import PolicyViolation
from ledger.event import parse_entry
from ledger.log import Log
from ledger.sqlite import SqliteStorage
from policies.state import FederationState
from tests.consortium import Consortium
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-3")

Fault = Callable[[str, bytes], bytes | None]


class HostileExchange:
    """Carries one site's objects and events through `faults`, by the round in which it reserves its budget."""

    def __init__(self, inner: Exchange, faults: dict[int, Fault]) -> None:
        self._inner, self._faults, self._round = inner, faults, 0

    def put(self, name: str, data: bytes) -> None:
        if name.startswith("inbox/"):
            event = parse_entry(data).event
            if event.type == "budget.reserved":
                self._round = int(str(event.body["round"]))
        fault = self._faults.get(self._round, lambda _, data: data)
        carried = fault(name, data)
        if carried is not None:
            self._inner.put(name, carried)

    def replace(self, name: str, data: bytes) -> None:
        self._inner.replace(name, data)

    def get(self, name: str, *, at_most_bytes: int | None = None) -> bytes | None:
        return self._inner.get(name, at_most_bytes=at_most_bytes)

    def names(self, prefix: str) -> list[str]:
        return self._inner.names(prefix)


def alter_object(name: str, data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1]) if name.startswith("objects/") else data


def lose_object(name: str, data: bytes) -> bytes | None:
    return None if name.startswith("objects/") else data


def is_receipt(name: str, data: bytes) -> bool:
    return name.startswith("inbox/") and parse_entry(data).event.type == "training.receipt"


def alter_receipt(name: str, data: bytes) -> bytes:
    """One byte of the signature."""
    if not is_receipt(name, data):
        return data
    at = data.index(b'"sig":"') + 20
    return data[:at] + (b"A" if data[at : at + 1] != b"A" else b"B") + data[at + 1 :]


class Replay:
    """Delivers the first receipt it ever saw in place of each later one."""

    def __init__(self) -> None:
        self._first: bytes | None = None

    def remember(self, name: str, data: bytes) -> bytes:
        if is_receipt(name, data) and self._first is None:
            self._first = data
        return data

    def deliver(self, name: str, data: bytes) -> bytes:
        return self._first if is_receipt(name, data) and self._first is not None else data


async def test_what_the_network_alters_loses_or_replays_costs_one_site_one_round(
    consortium: Consortium, impatient: None
) -> None:
    replay = Replay()
    faults: dict[int, Fault] = {
        1: replay.remember,
        2: alter_object,
        3: lose_object,
        4: alter_receipt,
        5: replay.deliver,
    }
    consortium.exchanges["hospital-d"] = lambda shared: HostileExchange(shared, faults)
    participation = {"required": [], "minimum_sites": 3, "deadline_s": 30}
    plan = tiny_plan(rounds=6, participation=participation)
    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    assert [outcome.missing(plan, number) for number in range(1, 7)] == [
        {},
        {"hospital-d": "exchange.altered"},
        {"hospital-d": "exchange.missing"},
        {"hospital-d": "ledger.chain.signature"},
        {"hospital-d": "ledger.chain.replayed"},
        {},
    ]
    assert consortium.registered_versions() == 6


async def test_every_byte_of_a_receipt_counts(consortium: Consortium) -> None:
    """A receipt of a finished run, with one byte changed anywhere, is refused by the state it was made for."""
    assert (await consortium.run(tiny_plan())).errors == {}
    log = Log.open(SqliteStorage(Home(consortium.founded.coordinator).root / "ledger.sqlite"))
    entries = list(log.entries(0, log.size))
    at = next(
        index for index, entry in enumerate(entries) if parse_entry(entry).event.type == "training.receipt"
    )
    state = FederationState(log.origin)
    for index, entry in enumerate(entries[:at]):
        state.advance(index, entry)
    receipt = entries[at]
    for position in range(0, len(receipt), 7):
        changed = bytearray(receipt)
        changed[position] ^= 1
        with pytest.raises(PolicyViolation):
            state.fork().advance(at, bytes(changed))
    state.advance(at, receipt)
    with pytest.raises(PolicyViolation) as twice:
        state.advance(at + 1, receipt)
    assert twice.value.code == "ledger.chain.replayed"
