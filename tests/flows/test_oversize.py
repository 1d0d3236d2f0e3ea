"""A site that lays gigabytes where kilobytes belong: nobody reads them, the site is named, and the round goes on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from adapters.exchange import DirectoryExchange, Exchange, ExchangeTooLargeError
from tasks.summing import TOO_LARGE
from tests.consortium import SITES, Consortium, Outcome
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-3")

D = SITES[3]
HUGE = 2**30
"""Bytes of a sparse file: it takes no room on the disk, and all of it in the memory of whoever reads it."""
SOON = {"required": [], "minimum_sites": 3, "deadline_s": 20}
"""For what is waited for in vain."""
Chosen = Callable[[str, bytes], bool]


class Bloating:
    """Puts a huge file in the place of what `chosen` picks."""

    def __init__(self, inner: DirectoryExchange, chosen: Chosen) -> None:
        self._inner, self._chosen = inner, chosen
        self.bell = inner.bell

    def put(self, name: str, data: bytes) -> None:
        if not self._bloated(name, data):
            self._inner.put(name, data)

    def replace(self, name: str, data: bytes) -> None:
        if not self._bloated(name, data):
            self._inner.replace(name, data)

    def _bloated(self, name: str, data: bytes) -> bool:
        if not self._chosen(name, data):
            return False
        place = self._inner.root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as file:
            file.truncate(HUGE)
        self._inner.bell.ring(name)
        return True

    def get(self, name: str, *, at_most_bytes: int | None = None) -> bytes | None:
        return self._inner.get(name, at_most_bytes=at_most_bytes)

    def names(self, prefix: str) -> list[str]:
        return self._inner.names(prefix)


class Weighing:
    """An honest party's exchange, which would show it if a huge file was read."""

    def __init__(self, inner: Exchange) -> None:
        self._inner = inner
        self.put, self.replace, self.names = inner.put, inner.replace, inner.names
        self.bell = getattr(inner, "bell", None)

    def get(self, name: str, *, at_most_bytes: int | None = None) -> bytes | None:
        data = self._inner.get(name, at_most_bytes=at_most_bytes)
        assert data is None or len(data) < HUGE, f"{name} was read"
        return data


async def run(
    consortium: Consortium, chosen: Chosen, by: str = D, **fields: object
) -> tuple[Outcome, dict[str, str]]:
    """The outcome, and who was missing from the training of the only round."""
    for party in ("coordinator", *SITES):
        consortium.exchanges[party] = Weighing

    def bloating(shared: Exchange) -> Exchange:
        assert isinstance(shared, DirectoryExchange)
        return Bloating(shared, chosen)

    consortium.exchanges[by] = bloating
    plan = tiny_plan(**fields)
    outcome = await consortium.run(plan)
    assert {party: error for party, error in outcome.errors.items() if party != by} == {}
    assert consortium.registered_versions() == 1
    return outcome, outcome.missing(plan, 1)


@pytest.mark.parametrize(
    ("scheme", "magic"),
    [("masked", b"WRMU"), ("masked", b"WRMS"), ("homomorphic", b"WRBF"), ("shared", b"WRSH")],
)
async def test_a_report_of_a_gigabyte_is_not_read_and_its_site_is_named(
    consortium: Consortium, scheme: str, magic: bytes
) -> None:
    """The receipt names the object by a digest, and no digest says how long an object is."""
    _, missing = await run(
        consortium,
        lambda name, data: name.startswith("objects/") and data.startswith(magic),
        protection={"scheme": scheme},
    )
    assert missing == {D: TOO_LARGE}


@pytest.mark.parametrize(
    "chosen",
    [
        lambda name, data: name.startswith("objects/") and data.startswith(b"WRMA"),
        lambda name, _: name.startswith("answers/"),
        lambda name, _: name.startswith("openings/"),
    ],
    ids=["answer", "word for it", "opening"],
)
async def test_an_answer_of_a_gigabyte_is_none_and_the_others_suffice(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch, chosen: Chosen
) -> None:
    monkeypatch.setattr("tasks.opening.GRACE_S", 0.5)
    holder = consortium.founded.federation.key_holders[0]
    _, missing = await run(consortium, chosen, by=holder)
    assert missing == {}


async def test_an_event_of_a_gigabyte_never_came(consortium: Consortium, impatient: None) -> None:
    outcome, missing = await run(consortium, lambda name, _: name.startswith("inbox/"), participation=SOON)
    assert missing == {D: "roster.absent"}
    assert not [key for key in outcome.state.receipts if key[-1] == D]


async def test_a_witness_that_says_a_gigabyte_says_nothing(consortium: Consortium) -> None:
    """The others are a quorum."""
    await run(consortium, lambda name, _: name == f"witness/{D}/response", participation=SOON)


@pytest.mark.parametrize("by", ["coordinator", D])
async def test_a_base_model_of_a_gigabyte_is_not_read(consortium: Consortium, by: str) -> None:
    """Its digest is on the ledger, and its length follows from the plan's network."""
    participation = {"required": [], "minimum_sites": 3, "deadline_s": 5}
    plan = tiny_plan(participation=participation)

    class Replaced(Weighing):
        """Where that party looks somebody has put another file."""

        def get(self, name: str, *, at_most_bytes: int | None = None) -> bytes | None:
            data = super().get(name, at_most_bytes=at_most_bytes)
            if data is not None and name.startswith("objects/") and b'"F32"' in data[:400]:
                assert at_most_bytes is not None, f"{name} was read"
                raise ExchangeTooLargeError("")
            return data

    consortium.exchanges[by] = Replaced
    outcome = await consortium.run(plan, leave=True)
    assert outcome.code(by) == "exchange.too-large"
