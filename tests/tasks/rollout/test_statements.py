"""What a site's people leave to be said is said once, whatever run has the home and wherever it is cut off."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from adapters.home import Home
from adapters.unsaid import Unsaid
from ledger.errors import PolicyViolation
from ledger.event import Event, sign_event
from policies.events import IncidentReported, type_of
from policies.rollout.statements import AgreementRecorded, ConformanceRecorded
from tasks.coordinator.party import Coordinator
from tasks.rollout.terms import enter
from tasks.site.party import Site
from tasks.site.statements import NotSaidYetError, say_or_leave
from tests.consortium import SITES, Consortium
from tests.flows.rollout.founding import TERMS, new
from tests.policies.founding import named

SITE = SITES[0]
INCIDENT = IncidentReported(severity="major", kind="wrong-data")


def paper(kind: str = "baa") -> AgreementRecorded:
    return AgreementRecorded.from_value({"kind": kind, "document_digest": named(kind)}, what="agreement")


def home(consortium: Consortium) -> Path:
    return consortium.founded.sites[SITE]


async def until(coordinator: Coordinator, said: int) -> None:
    await coordinator.until(
        lambda state: True if len(state.rollout.agreements) >= said else None,
        timeout_s=20,
        waiting_for="what was left",
    )


async def test_a_site_that_serves_says_it_for_a_command_that_cannot_have_the_home(tmp_path: Path) -> None:
    consortium = new(tmp_path)

    async def work(coordinator: Coordinator) -> None:
        await say_or_leave(home(consortium), paper(), wait_s=20)

    await consortium.serve(work)
    assert consortium.state().rollout.agreements == {(SITE, "baa"): named("baa")}
    assert Unsaid(home(consortium)).waiting() == ()


async def test_a_command_with_the_home_to_itself_says_it(tmp_path: Path) -> None:
    consortium = new(tmp_path)
    await consortium.serve(lambda _: say_or_leave(home(consortium), paper(), wait_s=20), absent=(SITE,))
    assert consortium.state().rollout.agreements


async def test_what_nobody_came_to_say_waits_for_the_next_run(tmp_path: Path) -> None:
    consortium = new(tmp_path)
    with Home(home(consortium)).alone(), pytest.raises(NotSaidYetError):  # a run that is busy elsewhere
        await say_or_leave(home(consortium), paper(), wait_s=0.5)
    await consortium.serve(lambda coordinator: until(coordinator, 1))


async def test_nobody_waits_longer_for_a_coordinator_that_is_away_than_they_said(tmp_path: Path) -> None:
    consortium = new(tmp_path)
    root, began = home(consortium), time.monotonic()
    Unsaid(root).put(paper("dpa"))
    with pytest.raises(NotSaidYetError) as left:
        await say_or_leave(root, paper(), wait_s=0.5)
    assert time.monotonic() - began < 20  # the ledger's own patience is 60 s
    assert str(root / "unsaid") in left.value.public_message and "coordinator" in left.value.remedy
    assert len(Unsaid(root).waiting()) == 2
    await consortium.serve(lambda coordinator: until(coordinator, 2))
    assert consortium.state().rollout.agreements == {(SITE, kind): named(kind) for kind in ("dpa", "baa")}


async def test_the_ledger_s_refusal_reaches_whoever_wanted_it_said(tmp_path: Path) -> None:
    consortium = new(tmp_path)

    async def work(coordinator: Coordinator) -> None:
        conformance = ConformanceRecorded(contract_digest=named("c"), code_digest=named("c"))
        with pytest.raises(PolicyViolation) as caught:
            await say_or_leave(home(consortium), conformance, wait_s=20)
        assert caught.value.code == "conformance.not-asked"
        await enter(coordinator, TERMS)
        await asyncio.sleep(1.1)  # within the same second it would be the very entry that was refused
        await say_or_leave(home(consortium), conformance, wait_s=20)

    await consortium.serve(work)


@pytest.mark.parametrize("again", ["before it was sent", "after it was sent"])
async def test_an_incident_is_reported_once_though_the_run_that_reported_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    """Said twice it would take the rollout back two phases."""
    consortium = new(tmp_path)
    sent = Site.send
    killed = False

    async def kill_once(self: Site, entry: bytes, **rest: object) -> int:
        nonlocal killed
        if not killed and self.name == SITE:
            killed = True
            if again == "after it was sent":
                await sent(self, entry)
            raise asyncio.CancelledError
        return await sent(self, entry, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Site, "send", kill_once)
    Unsaid(home(consortium)).put(INCIDENT)

    async def work(coordinator: Coordinator) -> None:
        await asyncio.sleep(1.5)

    await consortium.serve(work)
    assert killed
    await consortium.serve(work)
    assert len(consortium.state().rollout.incidents) == 1
    assert Unsaid(home(consortium)).waiting() == ()


async def test_an_entry_whose_number_was_taken_is_signed_anew(tmp_path: Path) -> None:
    consortium = new(tmp_path)
    unsaid = Unsaid(home(consortium))
    first = unsaid.put(paper("dpa"))

    async def said(_: Coordinator) -> None:
        while first in unsaid.waiting():
            await asyncio.sleep(0.05)

    await consortium.serve(said)
    # An entry kept by a run that was cut off, whose number another statement has by now.
    second = unsaid.put(paper("irb"))
    state = consortium.state()
    event = Event(
        origin=state.origin, type=type_of(paper("irb")), institution=SITE, sequence=0, previous="00" * 32,
        time_s=state.log_time_s, body=paper("irb").to_json(),
    )  # fmt: skip
    stale = sign_event(event, [Home(home(consortium)).signer("signing", SITE)])
    unsaid.keep_entry(second, stale)
    await consortium.serve(lambda coordinator: until(coordinator, 2))


async def test_a_file_that_is_none_of_ours_keeps_nobody_from_anything(tmp_path: Path) -> None:
    consortium = new(tmp_path)
    folder = home(consortium) / "unsaid"
    folder.mkdir()
    (folder / "0-note.json").write_bytes(b"not ours")
    Unsaid(home(consortium)).put(paper())
    await consortium.serve(lambda coordinator: until(coordinator, 1))
    assert (folder / "0-note.refused").exists()
