"""The contract of an exchange, held by the twin in memory and the shared folder alike."""

from __future__ import annotations

import os
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters import mail, objects
from adapters.exchange import (
    DirectoryExchange,
    Exchange,
    ExchangeConflictError,
    ExchangeNameError,
    ExchangeTooLargeError,
    MemoryExchange,
)
from ledger.errors import CodedError, Violation

KINDS: dict[str, Callable[[Path], Exchange]] = {
    "memory": lambda root: MemoryExchange(),
    "directory": lambda root: DirectoryExchange(root / "exchange"),
}
BAD_NAMES = (
    "", "/etc/passwd", "../outside", "a/../../outside", "a/..", "a//b", "a/", ".hidden", "a/.hidden", "a b",
    "a\\b", "a\0b", "a\n", "ä", "./a",
)  # fmt: skip


@pytest.fixture(params=KINDS)
def exchange(request: pytest.FixtureRequest, tmp_path: Path) -> Exchange:
    return KINDS[request.param](tmp_path)


def test_what_was_put_stays_and_is_found_below_its_prefix(exchange: Exchange) -> None:
    exchange.put("inbox/site-a/00000001/x", b"one")
    exchange.put("inbox/site-a/00000000/y", b"two")
    exchange.put("inbox/site-ab/00000000/z", b"three")
    assert exchange.get("inbox/site-a/00000001/x") == b"one"
    assert exchange.names("inbox/site-a") == ["inbox/site-a/00000000/y", "inbox/site-a/00000001/x"]
    assert exchange.names("inbox/nobody") == []
    assert exchange.get("inbox/site-a") is None  # a folder holds no bytes
    assert exchange.get("inbox/site-a/00000001/x/deeper") is None


def test_a_name_is_given_once(exchange: Exchange) -> None:
    exchange.put("objects/one", b"first")
    exchange.put("objects/one", b"first")  # sent again, as after a crash
    with pytest.raises(ExchangeConflictError):
        exchange.put("objects/one", b"second")
    assert exchange.get("objects/one") == b"first"
    exchange.replace("objects/one", b"second")
    assert exchange.get("objects/one") == b"second"


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_could_lead_elsewhere_is_refused_by_every_operation(
    exchange: Exchange, name: str, tmp_path: Path
) -> None:
    (tmp_path / "outside").write_bytes(b"untouched")
    for operation in (
        lambda: exchange.put(name, b"x"),
        lambda: exchange.replace(name, b"x"),
        lambda: exchange.get(name),
        lambda: exchange.names(name),
    ):
        with pytest.raises(ExchangeNameError):
            operation()
    assert (tmp_path / "outside").read_bytes() == b"untouched"


def test_of_many_writers_one_wins_and_no_reader_sees_half(exchange: Exchange) -> None:
    size, results = 200_000, []

    def write(number: int) -> None:
        try:
            exchange.put("objects/contested", bytes([number]) * size)
        except ExchangeConflictError:
            return
        results.append(number)

    def read() -> None:
        for _ in range(50):
            exchange.replace("moving", b"a" * size)
            exchange.replace("moving", b"b" * size)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    mover = threading.Thread(target=read)
    for thread in (*writers, mover):
        thread.start()
    while mover.is_alive():
        seen = exchange.get("moving")
        assert seen is None or (len(seen) == size and len(set(seen)) == 1)
    for thread in writers:
        thread.join()
    assert len(results) == 1
    assert exchange.get("objects/contested") == bytes(results) * size
    assert exchange.names("objects") == ["objects/contested"]  # nothing half-written lies beside it


def test_an_object_is_what_its_digest_names_or_an_error(exchange: Exchange) -> None:
    digest = objects.store(exchange, b"a model")
    assert objects.load(exchange, digest) == b"a model"
    exchange.replace(objects.name_of(digest), b"another model")
    with pytest.raises(objects.ObjectAlteredError):
        objects.load(exchange, digest)
    with pytest.raises(objects.ObjectMissingError):
        objects.load(exchange, "0" * 64)


def test_what_is_longer_than_the_reader_said_is_not_read(exchange: Exchange) -> None:
    digest = objects.store(exchange, b"a model")
    assert objects.load(exchange, digest, at_most_bytes=7) == b"a model"
    with pytest.raises(ExchangeTooLargeError):
        objects.load(exchange, digest, at_most_bytes=6)
    assert exchange.get("objects/none", at_most_bytes=0) is None
    exchange.put("openings/one", bytes(mail.MAXIMUM_BYTES))
    exchange.put("openings/two", bytes(mail.MAXIMUM_BYTES + 1))
    assert mail.fetch(exchange, "openings/one") == bytes(mail.MAXIMUM_BYTES)
    assert mail.fetch(exchange, "openings/two") is None and mail.fetch(exchange, "openings/none") is None


def test_a_file_of_a_gigabyte_costs_no_memory_to_refuse(tmp_path: Path) -> None:
    exchange = DirectoryExchange(tmp_path)
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**30)
    tracemalloc.start()
    with pytest.raises(ExchangeTooLargeError):
        exchange.get("huge", at_most_bytes=1000)
    with pytest.raises(ExchangeConflictError):
        exchange.put("huge", b"small")
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("at_most_bytes", [1000, None])
def test_a_file_that_grows_after_it_was_measured_is_not_read_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_most_bytes: int | None
) -> None:
    """Whoever writes to the folder by other means than ours can let a letter grow under its reader."""
    exchange, measure = DirectoryExchange(tmp_path), os.fstat
    exchange.put("letter", b"ten bytes.")

    def growing(handle: int) -> os.stat_result:
        found = measure(handle)
        os.truncate(tmp_path / "letter", 2**30)
        return found

    monkeypatch.setattr("adapters.exchange.os.fstat", growing)
    tracemalloc.start()
    assert exchange.get("letter", at_most_bytes=at_most_bytes) == b"ten bytes."
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_a_name_from_the_network_cannot_lead_out_of_the_exchange(exchange: Exchange) -> None:
    """A sum's name is read off the exchange; a hostile coordinator writes there what it likes."""
    with pytest.raises(CodedError):
        objects.load(exchange, "../../sites/hospital-a/keys/patient.secret")


@pytest.mark.parametrize(
    "answer", [mail.Cosigned(7, b"line\n"), mail.Conflict(3), mail.Declined("ledger.witness.gate")]
)
def test_a_witness_response_reads_as_it_was_written(
    answer: mail.Cosigned | mail.Conflict | mail.Declined,
) -> None:
    assert mail.read_response(mail.write_response(answer)) == answer


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"cosigned 7\n",
        b"cosigned 07\nline\n",
        b"size -1\n",
        b"refused Free Text\n",
        b"size 1",
        b"size 1\n\n",
    ],
)
def test_a_response_of_no_known_form_is_refused(data: bytes) -> None:
    with pytest.raises(mail.MailError):
        mail.read_response(data)


def test_reasons_travel_and_a_hostile_refusal_is_cut_short() -> None:
    reasons = (Violation("budget.pool-cap", "over its cap"), Violation("event.role", "may not"))
    assert mail.read_refusal(mail.write_refusal(reasons)) == reasons
    long = mail.read_refusal(mail.write_refusal((Violation("c" * 999, "m" * 9999),)))
    assert (len(long[0].code), len(long[0].message)) == (64, 400)
    assert mail.read_refusal(b"[]")[0].code == "log.refused"
