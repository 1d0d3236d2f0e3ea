"""Sequencer and replicas turn by turn: what becomes final, who catches up, and what both remember on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters import mail
from adapters.home import Home
from adapters.institution_log import read_state
from ledger.errors import CodedError
from ledger.event import entry_digest
from policies.events import ConsentPublished
from tests.adapters.post import SITES, Post
from tests.consents import POLICY


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


def test_a_cosignature_that_was_lost_when_both_sides_started_anew_is_given_again(post: Post) -> None:
    """Two of four had signed; starting anew they answer the old request again, in place of their signature."""
    post.say("site-a", "one")
    post.turn("site-a", "site-b")
    assert post.sequencer.final_size == 1
    for name in ("site-a", "site-b"):
        post.replicas[name] = post.open_replica(name)
        post.replicas[name].turn()
    post.sequencer = post.open_sequencer()
    post.turn()
    assert post.sequencer.final_size == 2


def test_a_refused_event_gets_its_reasons_and_holds_nobody_up(post: Post) -> None:
    again = ConsentPublished.from_value(POLICY.to_json(), what="consent policy")
    post.put("site-d", again)  # it published this when it joined
    entry = post.say("site-a", "two")
    post.turn()
    assert [refused.violations[0].code for refused in post.sequencer.refused.values()] == [
        "consent.published-twice"
    ]
    (digest,) = post.sequencer.refused
    reasons = post.exchange.get(mail.refused(digest))
    assert reasons is not None
    assert mail.read_refusal(reasons)[0].code == "consent.published-twice"
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
