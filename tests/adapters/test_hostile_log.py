"""The log as sites and the coordinator use it, against a coordinator that lies and disks that go back in time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from adapters import mail
from adapters.clock import FixedClock
from adapters.exchange import MemoryExchange
from adapters.home import Home
from adapters.institution_log import open_replica, policy_of, unfolded
from adapters.replica import Replica
from adapters.sequencer import Sequencer, folded
from ledger import equivocation
from ledger.event import NO_PREVIOUS, Event, sign_event
from ledger.export import static_files
from ledger.keys import MemorySigner
from ledger.log import Log, RolledBackError
from ledger.memory import MemoryStorage
from ledger.note import parse_vkey
from policies.events import PolicyAdopted
from policies.federation import Federation, PublicKey
from policies.state import FederationState
from tasks.found import COORDINATOR
from tasks.speech import next_entry
from tests.adapters.post import NOW_S, SITES, Post

CLOCK = FixedClock(NOW_S)


@pytest.fixture
def post(tmp_path: Path) -> Post:
    post = Post(tmp_path)
    post.turn()
    return post


def another_log(post: Post, entries: list[bytes]) -> Log:
    """A log of the same origin under the real log key: what only the coordinator can make."""
    federation = post.founded.federation
    signer = Home(post.founded.coordinator).signer("log", federation.origin)
    log = Log.create(MemoryStorage(), origin=federation.origin, signer=signer)
    log.append(entries)
    return log


def vote(post: Post, state: FederationState, site: str, digit: str) -> bytes:
    signer = Home(post.founded.sites[site]).signer("signing", site)
    body = PolicyAdopted(policy_digest=digit * 64)
    return next_entry(state, body, name=site, signers=[signer], clock=CLOCK)


def test_a_founding_that_the_hospitals_did_not_sign_is_cosigned_by_none(tmp_path: Path) -> None:
    """The coordinator founds the log anew, with its own keys in the hospitals' names and caps as it likes."""
    post = Post(tmp_path)  # nobody has cosigned anything yet
    federation = post.founded.federation
    false_keys = {member.name: MemorySigner(member.name) for member in federation.members}
    members = [
        {**member.to_json(), "key": PublicKey.of(false_keys[member.name].public).to_json()}
        for member in federation.members
    ]
    forged = Federation.from_value({**federation.to_json(), "members": members}, what="federation")
    event = Event(
        origin=federation.origin,
        type="federation.founded",
        institution=COORDINATOR,
        sequence=0,
        previous=NO_PREVIOUS,
        time_s=NOW_S,
        body=forged.to_json(),
    )
    log = another_log(post, [sign_event(event, list(false_keys.values()))])
    lawless = folded(log, FederationState(federation.origin))
    sequencer = Sequencer(log, lawless, post.exchange, federation, policy_of(federation))
    for _ in range(3):
        sequencer.turn()
        for replica in post.replicas.values():
            replica.turn()
    assert sequencer.final_size == 0
    for replica in post.replicas.values():
        assert replica.halted is not None and "federation.document" in str(replica.halted)
        assert replica.state.size == 0


@pytest.mark.parametrize("past", [1, 2, 3])
def test_a_site_that_was_shown_a_fork_acts_on_nothing_of_it(post: Post, past: int) -> None:
    """Site a alone is shown one history; the others make another one final, which site a then sees."""
    for number in range(past - 1):
        post.say("site-b", f"study-{number}")
        post.turn()
    common = [*Log.open(post.sequencer._log._storage).entries(0, past)]
    lonely, shared = another_log(post, common), another_log(post, common)
    state = folded(lonely, unfolded(post.founded.federation))
    lonely.append([vote(post, state, "site-c", "a")])
    for digit in "bc":
        entry = vote(post, state, "site-d", digit)
        state.advance(state.size, entry)
        shared.append([entry])

    others = MemoryExchange()
    sequencer = Sequencer(shared, state, others, post.founded.federation, policy_of(post.founded.federation))
    replicas = [open_replica_on(post, others, shared, site) for site in SITES[1:]]
    for _ in range(6):
        sequencer.turn()
        for replica in replicas:
            replica.turn()
    assert sequencer.final_size == past + 2

    private = MemoryExchange()
    alone = open_replica_on(post, private, lonely, "site-a")
    private.replace(mail.request("site-a"), lonely.witness_request(past))
    alone.turn()
    assert alone.state.size == past + 1  # it cosigned the fork, as nothing was wrong with it
    for name, data in static_files(shared, 0, shared.size):
        private.replace(f"ledger/{name}", data)
    note = others.get(mail.FINAL_CHECKPOINT)
    assert note is not None
    private.replace(mail.FINAL_CHECKPOINT, note)
    alone.turn()
    assert alone.halted is not None
    assert alone.final_state.size <= past  # and acts on nothing of it
    (evidence,) = alone._witness.evidence()
    equivocation.parse(evidence).verify(parse_vkey(post.founded.federation.log_vkey))


def open_replica_on(post: Post, exchange: MemoryExchange, log: Log, site: str) -> Replica:
    """The site continues from its disk, on an exchange that shows this log."""
    for size in range(1, log.size + 1):
        for name, data in static_files(log, 0, size):
            exchange.replace(f"ledger/{name}", data)
    home, federation = Home(post.founded.sites[site]), post.founded.federation
    return open_replica(home, federation, exchange, name=site, clock=CLOCK)


def test_a_coordinator_whose_database_went_back_does_not_open(post: Post) -> None:
    """An honest coordinator with a restored backup would sign a second history."""
    file = post.founded.coordinator / "ledger.sqlite"
    post.sequencer._log._storage.close()
    shutil.copy(file, file.with_suffix(".backup"))
    post.sequencer = post.open_sequencer()
    post.say("site-a", "one")
    post.turn()
    assert post.sequencer.final_size == 2
    post.sequencer._log._storage.close()
    shutil.copy(file.with_suffix(".backup"), file)
    with pytest.raises(RolledBackError):
        post.open_sequencer()


def test_what_witnesses_were_asked_about_counts_before_it_is_final(post: Post) -> None:
    file = post.founded.coordinator / "ledger.sqlite"
    post.sequencer._log._storage.close()
    shutil.copy(file, file.with_suffix(".backup"))
    post.sequencer = post.open_sequencer()
    post.say("site-a", "one")
    for _ in range(3):
        post.sequencer.turn()  # no witness answers
    assert post.sequencer.final_size == 1
    post.sequencer._log._storage.close()
    shutil.copy(file.with_suffix(".backup"), file)
    with pytest.raises(RolledBackError):
        post.open_sequencer()


def test_a_witness_whose_database_went_back_cosigns_nothing_more(post: Post) -> None:
    file = post.founded.sites["site-a"] / "witness.sqlite"
    post.replicas["site-a"]._witness._storage.close()
    shutil.copy(file, file.with_suffix(".backup"))
    post.replicas["site-a"] = post.open_replica("site-a")
    post.say("site-b", "one")
    post.turn()
    post.replicas["site-a"]._witness._storage.close()
    shutil.copy(file.with_suffix(".backup"), file)
    restored = post.replicas["site-a"] = post.open_replica("site-a")
    post.say("site-b", "two")
    post.turn()
    assert restored.state.size == 1
    assert restored.halted is not None and restored.halted.code == "ledger.witness.rolled-back"
    assert post.sequencer.final_size == 3  # the others go on
