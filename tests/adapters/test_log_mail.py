"""Sequencer and replicas turn by turn: what becomes final, who catches up, and what both remember on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters import mail
from adapters.clock import FixedClock
from adapters.exchange import DirectoryExchange, Exchange
from adapters.home import Home, SourceConfig
from adapters.institution_log import open_replica, open_sequencer, read_state
from adapters.replica import Replica
from adapters.sequencer import Sequencer
from ledger.errors import CodedError
from ledger.event import entry_digest
from policies.events import SumKeyRotated
from policies.federation import Pool
from tasks.found import Founded, FoundingSite, found
from tasks.speech import next_entry

NOW_S = 1_800_000_000
SITES = ("site-a", "site-b", "site-c", "site-d")


class Post:
    """A founded federation whose sequencer and replicas move only when a test turns them."""

    def __init__(self, root: Path) -> None:
        sources = tuple(FoundingSite(name, SourceConfig(kind="npz", path="none")) for name in SITES)
        pool = Pool(epsilon_cap_micro=1, delta=1e-5)
        self.founded: Founded = found(root, sources, name="post", pool=pool, clock=FixedClock(NOW_S))
        self.exchange: Exchange = DirectoryExchange(self.founded.exchange)
        self.sequencer = self.open_sequencer()
        self.replicas = {name: self.open_replica(name) for name in SITES}

    def open_sequencer(self) -> Sequencer:
        return open_sequencer(Home(self.founded.coordinator), self.founded.federation, self.exchange)

    def open_replica(self, name: str) -> Replica:
        home = Home(self.founded.sites[name])
        return open_replica(home, self.founded.federation, self.exchange, name=name, clock=FixedClock(NOW_S))

    def turn(self, *names: str, times: int = 6) -> None:
        for _ in range(times):
            self.sequencer.turn()
            for name in names or SITES:
                self.replicas[name].turn()

    def say(self, site: str, study: str) -> bytes:
        """A site puts the next event of its chain into its inbox."""
        home, state = Home(self.founded.sites[site]), self.replicas[site].state
        body = SumKeyRotated(purpose="study-sum", study=study, public_key_digest="ab" * 32, previous=None)
        entry = next_entry(
            state, body, name=site, signers=[home.signer("signing", site)], clock=FixedClock(NOW_S)
        )
        sequence, _ = state.chain.position(site)
        self.exchange.put(f"{mail.inbox(site, sequence)}/{entry_digest(entry)}", entry)
        return entry


@pytest.fixture
def post(tmp_path: Path) -> Post:
    post = Post(tmp_path)
    post.turn()
    return post


def test_an_event_is_final_when_a_quorum_cosigned_it_and_not_before(post: Post) -> None:
    assert post.sequencer.final_size == 1
    digest = entry_digest(post.say("site-a", "one"))
    post.turn("site-a", "site-b")
    assert digest in post.sequencer.state.indices
    assert post.replicas["site-a"].state.indices[digest] == 1  # cosigned here
    assert digest not in post.replicas["site-a"].final_state.indices  # two of four are no quorum
    assert post.sequencer.final_size == 1
    post.turn("site-a", "site-b", "site-c")
    assert post.sequencer.final_size == 2
    assert all(digest in post.replicas[name].final_state.indices for name in ("site-a", "site-b", "site-c"))


def test_a_witness_that_was_away_catches_up_with_everything(post: Post) -> None:
    for number in range(5):
        post.say("site-a", f"study-{number}")
        post.turn("site-a", "site-b", "site-c")
    assert (post.sequencer.final_size, post.replicas["site-d"].state.size) == (6, 1)
    post.say("site-b", "study-9")
    post.turn()
    assert post.sequencer.final_size == 7
    assert post.replicas["site-d"].state.size == 7
    assert post.replicas["site-d"].state == post.replicas["site-a"].state


def test_both_sides_continue_from_their_disks(post: Post) -> None:
    post.say("site-a", "one")
    post.turn()
    before = read_state(Home(post.founded.coordinator))
    post.sequencer = post.open_sequencer()
    post.replicas = {name: post.open_replica(name) for name in SITES}
    assert post.sequencer.final_size == 2
    assert post.sequencer.state == before[0]
    assert all(replica.state.size == 2 for replica in post.replicas.values())
    post.say("site-a", "two")
    post.turn()
    assert post.sequencer.final_size == 3


def test_a_refused_event_gets_its_reasons_and_holds_nobody_up(post: Post) -> None:
    post.say("site-d", "one")  # not a key holder
    entry = post.say("site-a", "two")
    post.turn()
    assert [refused.violations[0].code for refused in post.sequencer.refused.values()] == [
        "sum-key.not-holder"
    ]
    (digest,) = post.sequencer.refused
    reasons = post.exchange.get(mail.refused(digest))
    assert reasons is not None
    assert mail.read_refusal(reasons)[0].code == "sum-key.not-holder"
    assert entry_digest(entry) in post.replicas["site-d"].final_state.indices


def test_rubbish_in_an_inbox_and_in_the_witness_mail_stops_nothing(post: Post) -> None:
    post.exchange.put(f"{mail.inbox('site-a', 0)}/rubbish", b"\xff not an event")
    post.exchange.replace(mail.response("site-c"), b"cosigned 99\nnonsense\n")
    post.exchange.replace(mail.response("site-d"), b"\xff")
    post.say("site-b", "one")
    post.turn()
    assert post.sequencer.final_size == 2


@pytest.mark.parametrize("path", ["ledger/tile/entries/000.p/2", "ledger/checkpoint"])
def test_a_replica_halts_on_a_log_that_was_altered_on_the_way(post: Post, path: str) -> None:
    """The exchange alters what the log published: the witness cosigns nothing of it and says why."""
    post.say("site-a", "one")
    for _ in range(3):
        post.sequencer.turn()
    if path.endswith("checkpoint"):
        post.turn()
    data = post.exchange.get(path)
    assert data is not None
    at = data.index(b"\n", data.index(b"\n") + 1) + 5 if path.endswith("checkpoint") else len(data) // 2
    post.exchange.replace(path, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    replica = post.replicas["site-c"]
    size = replica.state.size
    replica.turn()
    assert isinstance(replica.halted, CodedError)
    assert replica.state.size == size
