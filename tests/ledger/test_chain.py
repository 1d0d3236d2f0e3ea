"""The chain of events: membership, keys by index, sequences."""

from __future__ import annotations

import pytest

from ledger.chain import ChainError, EventChain
from ledger.event import NO_PREVIOUS
from ledger.keys import MemorySigner

ORIGIN = "ledger.example/wards"


@pytest.fixture
def chain(federation):
    started = EventChain(ORIGIN)
    started.advance(0, federation.founding())
    return started


def refused(chain, entry, *, index=None):
    before = (chain.size, chain.log_time_s, dict(chain.members))
    with pytest.raises(ChainError) as caught:
        chain.advance(chain.size if index is None else index, entry)
    assert (chain.size, chain.log_time_s, chain.members) == before
    return caught.value.code.removeprefix("ledger.chain.")


def advance(chain, *entries):
    for entry in entries:
        chain.advance(chain.size, entry)


def test_every_institution_speaks_in_sequence(chain, federation):
    a, b = federation.sites["site-a"], federation.sites["site-b"]
    advance(
        chain, a.event("x.y"), b.event("x.y"), a.event("x.y", time_s=5), federation.coordinator.event("x.y")
    )
    assert chain.size == 5 and chain.log_time_s == 1_800_000_000


def test_gaps_replays_and_forks_of_a_sequence_are_refused(chain, federation):
    a = federation.sites["site-a"]
    first = a.event("x.y")
    second = a.event("x.y")
    assert refused(chain, second) == "gap"
    advance(chain, first)
    assert refused(chain, first) == "replayed"
    assert refused(chain, a.event("x.y", sequence=1, previous=NO_PREVIOUS)) == "previous"
    advance(chain, second)


def test_entries_come_in_order(chain, federation):
    entry = federation.sites["site-a"].event("x.y")
    assert refused(chain, entry, index=2) == "order"
    assert refused(chain, entry, index=0) == "order"


def test_strangers_and_other_keys_are_refused(chain, federation, make_author):
    assert refused(chain, make_author("stranger").event("x.y")) == "member"
    a = federation.sites["site-a"]
    a.signer = MemorySigner("site-a")
    assert refused(chain, a.event("x.y")) == "signature"
    b = federation.sites["site-b"]
    assert refused(chain, federation.sites["site-c"].event("x.y", institution="site-b")) == "signature"
    assert refused(chain, b.event("x.y", origin="another.log")) == "origin"
    with pytest.raises(ChainError) as caught:
        chain.advance(chain.size, b"{}")
    assert caught.value.index == 1


def test_a_log_is_founded_once_and_first(chain, federation, make_federation):
    assert refused(chain, federation.founding()) == "founding"
    other = make_federation()
    assert refused(EventChain(ORIGIN), other.sites["site-a"].event("x.y")) == "founding"


def test_every_founder_signs(federation):
    members = [
        {"name": author.name, "key": author.signer.public.to_json()}
        for author in (federation.coordinator, *federation.sites.values())
    ]
    alone = federation.coordinator.event("federation.founded", {"members": members})
    assert refused(EventChain(ORIGIN), alone) == "founding"


@pytest.mark.parametrize("body", [{}, {"members": []}, {"members": [1]}, {"members": [{"name": "x"}]}])
def test_a_founding_without_members_is_refused(federation, body):
    with pytest.raises(ChainError):
        EventChain(ORIGIN).advance(0, federation.coordinator.event("federation.founded", body))


def test_two_members_cannot_share_a_key_or_name(federation):
    key = federation.coordinator.signer.public.to_json()
    for names in (("coordinator", "other"), ("coordinator", "coordinator")):
        federation.coordinator.sequence, federation.coordinator.previous = 0, NO_PREVIOUS
        body = {"members": [{"name": name, "key": key} for name in names]}
        assert (
            refused(EventChain(ORIGIN), federation.coordinator.event("federation.founded", body)) == "members"
        )


# -- keys ----------------------------------------------------------------------------------------------------


def rotation(author, new, *also, **extra):
    return author.event("key.rotated", {"name": author.name, "key": new.public.to_json()} | extra, also=also)


def test_a_rotated_key_signs_from_the_next_index_on(chain, federation):
    a, new = federation.sites["site-a"], MemorySigner("site-a")
    advance(chain, rotation(a, new, new))
    sequence, previous, old = a.sequence, a.previous, a.signer
    assert refused(chain, a.event("x.y")) == "signature"  # a valid signature by a retired key
    a.sequence, a.previous, a.signer = sequence, previous, new
    advance(chain, a.event("x.y"))
    assert old.public != chain.members["site-a"].key == new.public


def test_a_rotation_is_signed_by_both_keys(chain, federation):
    a, new = federation.sites["site-a"], MemorySigner("site-a")
    assert refused(chain, rotation(a, new)) == "rotation"
    a.sequence, a.previous, a.signer = 0, NO_PREVIOUS, new
    assert refused(chain, rotation(a, new)) == "signature"


def test_the_new_keys_signature_is_verified(chain, federation):
    a, new = federation.sites["site-a"], MemorySigner("site-a")

    class Pretender:
        name, public = "site-a", new.public

        def sign(self, message):
            return new.sign(message + b"!")

    assert refused(chain, rotation(a, new, Pretender())) == "signature"


def test_a_lost_key_is_replaced_by_a_quorum(chain, federation):
    lost, new = federation.sites["site-a"], MemorySigner("site-a")
    lost.signer = new
    others = [federation.sites[name].signer for name in ("site-b", "site-c", "site-d")]
    assert refused(chain, rotation(lost, new, *others)) == "signature"
    lost.sequence, lost.previous = 0, NO_PREVIOUS
    advance(chain, rotation(lost, new, *others, federation.coordinator.signer), lost.event("x.y"))


def test_nobody_rotates_anothers_key(chain, federation):
    a, new = federation.sites["site-a"], MemorySigner("x")
    body = {"name": "site-b", "key": new.public.to_json()}
    assert refused(chain, a.event("key.rotated", body, also=[new])) == "quorum"


def test_a_quorum_cannot_speak_for_a_member_about_another(chain, federation):
    new = MemorySigner("x")
    signers = [federation.sites[name].signer for name in ("site-b", "site-c", "site-d")]
    a = federation.sites["site-a"]
    a.signer = new
    body = {"name": "site-d", "key": new.public.to_json()}
    entry = a.event("key.rotated", body, also=[*signers, federation.coordinator.signer])
    assert refused(chain, entry) == "signature"


def test_a_rotation_of_some_other_kind_of_key_passes(chain, federation):
    advance(chain, federation.sites["site-a"].event("key.rotated", {"purpose": "study-sum"}))


def test_members_are_admitted_and_retired_by_a_quorum(chain, federation, make_author):
    newcomer = make_author("site-e")
    sites = [author.signer for author in federation.sites.values()]
    body = {"name": "site-e", "key": newcomer.signer.public.to_json()}
    coordinator = federation.coordinator
    saved = coordinator.sequence, coordinator.previous
    assert refused(chain, coordinator.event("member.admitted", body, also=sites[:2])) == "quorum"
    coordinator.sequence, coordinator.previous = saved
    advance(chain, coordinator.event("member.admitted", body, also=sites[:3]), newcomer.event("x.y"))
    saved = coordinator.sequence, coordinator.previous
    assert refused(chain, coordinator.event("member.retired", {"name": "site-e"}, also=sites[:2])) == "quorum"
    coordinator.sequence, coordinator.previous = saved
    advance(chain, coordinator.event("member.retired", {"name": "site-e"}, also=sites))
    assert refused(chain, newcomer.event("x.y")) == "member"
    assert refused(chain, coordinator.event("member.retired", {"name": "site-e"}, also=sites)) == "member"


def test_a_member_may_retire_itself(chain, federation):
    a = federation.sites["site-a"]
    advance(chain, a.event("member.retired", {"name": "site-a"}))
    assert refused(chain, a.event("x.y")) == "member"


def test_a_retired_members_signature_no_longer_counts_to_a_quorum(chain, federation, make_author):
    a = federation.sites["site-a"]
    advance(chain, a.event("member.retired", {"name": "site-a"}))
    newcomer = make_author("site-e")
    body = {"name": "site-e", "key": newcomer.signer.public.to_json()}
    also = [a.signer, federation.sites["site-b"].signer]  # with the coordinator: 3 of 4, but one is retired
    assert refused(chain, federation.coordinator.event("member.admitted", body, also=also)) == "signature"


@pytest.fixture
def expired(chain, federation):
    """site-a's key ended a moment ago, in log time."""
    a, new = federation.sites["site-a"], MemorySigner("site-a")
    until = 1_800_000_100
    advance(chain, rotation(a, new, new, valid_until_s=until))
    a.signer = new
    advance(chain, a.event("x.y"), federation.sites["site-b"].event("x.y", time_s=until))
    return chain


def test_a_credential_expires_in_log_time(expired, federation):
    assert refused(expired, federation.sites["site-a"].event("x.y", time_s=1)) == "expired"


def test_an_expired_key_does_not_renew_itself(expired, federation):
    a, newer = federation.sites["site-a"], MemorySigner("site-a")
    assert refused(expired, rotation(a, newer, newer)) == "expired"


def test_an_expired_key_counts_to_no_quorum(expired, federation):
    sites = federation.sites
    also = [sites["site-a"].signer, sites["site-b"].signer, sites["site-c"].signer]
    retired = federation.coordinator.event("member.retired", {"name": "site-d"}, also=also)
    assert refused(expired, retired) == "expired"


def test_a_quorum_replaces_an_expired_key(expired, federation):
    a, newer = federation.sites["site-a"], MemorySigner("site-a")
    others = [author.signer for name, author in federation.sites.items() if name != "site-a"]
    body = {"name": "site-a", "key": newer.public.to_json()}
    sequence, previous = expired.position("site-a")
    a.signer = newer
    also = [*others, federation.coordinator.signer]
    advance(expired, a.event("key.rotated", body, also=also, sequence=sequence, previous=previous))
    assert expired.members["site-a"].key == newer.public


def test_only_a_quorum_makes_a_credential_last_longer(chain, federation):
    a, first, second = federation.sites["site-a"], MemorySigner("site-a"), MemorySigner("site-a")
    advance(chain, rotation(a, first, first, valid_until_s=1_800_000_100))
    a.signer = first
    saved = a.sequence, a.previous
    for longer in ({}, {"valid_until_s": 1_800_000_101}):
        assert refused(chain, rotation(a, second, second, **longer)) == "quorum"
        a.sequence, a.previous = saved
    advance(chain, rotation(a, second, second, valid_until_s=1_800_000_100))


def test_nobody_adds_a_signature_to_what_another_signed(chain, federation, make_author):
    """It would change the entry's digest, and could carry any text."""
    a, stranger = federation.sites["site-a"], make_author("stranger")
    saved = a.sequence, a.previous
    for extra in (stranger.signer, federation.coordinator.signer):
        assert refused(chain, a.event("x.y", also=[extra])) == "signature"
        a.sequence, a.previous = saved
    admitted = a.event("member.retired", {"name": "site-a"}, also=[stranger.signer])
    assert refused(chain, admitted) == "signature"


def test_a_key_that_was_in_force_comes_back_for_nobody(chain, federation):
    a, new, old = federation.sites["site-a"], MemorySigner("site-a"), federation.sites["site-a"].signer
    advance(chain, rotation(a, new, new))
    a.signer = new
    saved = a.sequence, a.previous
    assert refused(chain, rotation(a, old, old)) == "used-key"
    a.sequence, a.previous = saved
    body = {"name": "site-e", "key": old.public.to_json()}
    also = [federation.sites[name].signer for name in ("site-b", "site-c", "site-d")] + [new]
    assert refused(chain, federation.coordinator.event("member.admitted", body, also=also)) == "used-key"


def test_a_quorum_speaks_for_a_member_only_to_replace_its_key(chain, federation):
    d, others = (
        federation.sites["site-d"],
        [federation.sites[name].signer for name in ("site-a", "site-b", "site-c")],
    )
    d.signer = federation.coordinator.signer
    assert refused(chain, d.event("key.rotated", {"name": "site-d"}, also=others)) == "signature"


def test_a_federation_is_not_founded_with_a_key_that_ended(federation):
    entry = federation.founding(valid_until_s={"site-d": 5})
    with pytest.raises(ChainError) as caught:
        EventChain(ORIGIN).advance(0, entry)
    assert caught.value.code == "ledger.chain.expired"


def test_a_fork_does_not_touch_its_origin(chain, federation):
    entry = federation.sites["site-a"].event("x.y")
    fork = chain.fork()
    advance(fork, entry)
    assert (fork.size, chain.size) == (2, 1)
    advance(chain, entry)
    assert chain.members == fork.members
