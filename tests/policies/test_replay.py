"""Replaying what was judged before: the state that judging came to, whatever its texts say, and forks stay forks."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.chain import EventChain
from ledger.errors import PolicyViolation
from ledger.event import NO_PREVIOUS, Event, parse_entry, read_judged, sign_event
from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.memory import MemoryStorage
from ledger.witness import Witness, WitnessRefusedError
from ledger.witness_storage import SqliteWitnessStorage
from policies.events import (
    IdentityRotated,
    IncidentReported,
    MemberRetired,
    PolicyAdopted,
    SiteQuarantined,
    SiteReleased,
)
from policies.federation import PublicKey
from policies.state import FederationState
from tests.policies.assembly import Assembly
from tests.policies.founding import COORDINATOR, LOG, ORIGIN, SIGNERS, SITES, named
from tests.policies.rollout.phases import agreements, opened

A, B, C, D = SITES
QUORUM = " ".join((COORDINATOR, *SITES))


class Recorded(FederationState):
    """Keeps what was said."""

    said: list[bytes]

    def advance(self, index: int, entry: bytes) -> None:
        super().advance(index, entry)
        self.said.append(entry)


def everything() -> list[bytes]:
    """A round, and all that institutions do beside it."""
    state = Recorded(ORIGIN)
    state.said = []
    told = Assembly(state=state)

    told.reach("founded")
    opened(told)
    told.reach_after_founding("reported")
    told.say(D, told.refusal(D))
    quarantine = told.say(D, SiteQuarantined(site=D, code="test.quarantined"))
    for site in (A, B, C):
        told.say(site, PolicyAdopted(policy_digest=named("another policy")))
    for site in (A, B, C):
        told.say(site, SiteReleased(site=D, quarantine=quarantine))
    again = told.say(COORDINATOR, SiteQuarantined(site=D, code="test.quarantined"))
    told.say(A, SiteReleased(site=D, quarantine=again))
    for paper in agreements():
        told.say(A, paper)
    told.say(B, IncidentReported(severity="major", kind="other"))
    new = IdentityRotated(
        purpose="identity", name=B, key=PublicKey.of(SIGNERS["new"].public), valid_until_s=2_000_000_000
    )
    state.advance(state.size, told.entry(B, new, signer=f"{B} new"))
    for site in (A, C):
        told.say(site, told.settlement(site, "training"))
    told.say(D, MemberRetired(name=D))
    return state.said


def test_what_is_replayed_comes_to_the_same_state() -> None:
    judged, replayed = FederationState(ORIGIN), FederationState(ORIGIN)
    for index, entry in enumerate(everything()):
        judged.advance(index, entry)
        replayed.replay(index, entry)
        assert judged == replayed
    assert judged.phase == "foundation" and judged.rollout.incidents
    assert judged.policy_digest == named("another policy")
    assert [receipt.statement.predicate.step for receipt in replayed.receipts.values()] == ["training"] * 4


def test_a_fork_does_not_move_with_what_is_replayed_into_the_other() -> None:
    said = everything()
    state = FederationState(ORIGIN)
    for index, entry in enumerate(said[:-5]):
        state.replay(index, entry)
    before, fork = state.fork(), state.fork()
    for index, entry in enumerate(said[-5:], len(said) - 5):
        fork.replay(index, entry)
    assert (state.size, before.size, fork.size) == (len(said) - 5, len(said) - 5, len(said))
    assert state == before


def test_a_witness_that_was_shown_other_entries_still_resumes_with_its_own(tmp_path: Path) -> None:
    said = everything()
    log = Log.create(MemoryStorage(), origin=ORIGIN, signer=LOG)
    log.append(said)

    storage = SqliteWitnessStorage(tmp_path / "witness.sqlite")
    signer, now_s = MemorySigner("witness", seed=b"witness"), 1_700_000_000
    first = Witness.create(
        storage, log_vkey=log.vkey, signer=signer, gate=FederationState(ORIGIN), clock=lambda: now_s
    )
    first.add_checkpoint(log.witness_request(0), said)
    restarted = Witness.open(storage, signer=signer, gate=FederationState(ORIGIN), clock=lambda: now_s)
    with pytest.raises(WitnessRefusedError):
        restarted.resume(said[:-1])
    restarted.resume(said)


def test_an_entry_out_of_place_is_not_replayed() -> None:
    said = everything()
    state = FederationState(ORIGIN)
    state.replay(0, said[0])
    with pytest.raises(Exception, match="entry 1 is due"):
        state.replay(2, said[2])
    with pytest.raises(PolicyViolation):
        state.advance(1, said[2])


texts = st.one_of(
    st.text(), st.sampled_from([',"institution":"other","type":"other', '{"body":', '"}', "\\", '\\"', "ü,"])
)


@given(
    body=st.dictionaries(texts, texts | st.integers(0, 2**53 - 1) | st.lists(texts), max_size=4), name=texts
)
@example(body={"a": 1, "institution": "other", "type": "other"}, name="somebody")
def test_an_event_is_read_as_it_was_judged_whatever_stands_in_its_texts(
    body: dict[str, object], name: str
) -> None:
    try:
        event = Event(
            origin=ORIGIN,
            type="some.type",
            institution=name or "somebody",
            sequence=3,
            previous=NO_PREVIOUS,
            time_s=9,
            body=body,  # type: ignore[arg-type]
        )
        entry = sign_event(event, [SIGNERS[A]])
    except Exception:  # a text that canonical JSON does not hold
        return
    signed, judged = parse_entry(entry), read_judged(entry)
    assert judged.body == signed.event.body
    assert (judged.type, judged.institution, judged.sequence, judged.time_s) == (
        event.type, event.institution, event.sequence, event.time_s,
    )  # fmt: skip
    assert judged.digest == signed.digest


def test_a_chain_alone_replays_members_keys_and_times() -> None:
    judged, replayed = EventChain(ORIGIN), EventChain(ORIGIN)
    for index, entry in enumerate(everything()):
        judged.advance(index, entry)
        replayed.replay(index, entry)
        assert judged == replayed
