"""Taking a site back: the others vote, one by one, and a quorum of all sites does it."""

from __future__ import annotations

from policies.events import MemberRetired, SiteQuarantined, SiteReleased
from tests.policies.assembly import Assembly, at
from tests.policies.founding import COORDINATOR, MANY, SITES

A, B, C, D = SITES
E = MANY[4]


def quarantined(assembly: Assembly, site: str) -> SiteReleased:
    """The vote to take it back."""
    entry = assembly.say(COORDINATOR, SiteQuarantined(site=site, code="test.drill"))
    return SiteReleased(site=site, quarantine=entry)


def test_a_vote_is_a_sites_own_once_and_never_about_itself() -> None:
    assembly = at("approved")
    back = quarantined(assembly, A)
    assert assembly.refusals(assembly.entry(COORDINATOR, back)) == {"event.role"}
    assert assembly.refusals(assembly.entry(A, back)) == {"quarantine.own"}
    assembly.say(B, back)
    assert assembly.refusals(assembly.entry(B, back)) == {"quarantine.voted-twice"}
    assert A in assembly.state.quarantined and assembly.state.release_votes[A] == {B}
    # Nobody signs for another: an entry of this type carries one signature.
    several = assembly.entry(C, back, signer=f"{C} {D}")
    assert assembly.refusals(several) == {"ledger.chain.signature"}


def test_votes_count_for_one_quarantine_and_no_later_one() -> None:
    assembly = at("approved")
    first = quarantined(assembly, A)
    late = assembly.entry(D, first)
    for voter in (B, C, D):
        assembly.say(voter, first)
    assert not assembly.state.quarantined
    second = quarantined(assembly, A)
    assert assembly.state.release_votes == {}
    # What was signed for the first quarantine, and comes or is said again after the second one.
    assert "ledger.chain.replayed" in assembly.refusals(late)
    assert assembly.refusals(assembly.entry(B, first)) == {"quarantine.other"}
    for voter in (B, C):
        assembly.say(voter, second)
    assert A in assembly.state.quarantined
    assembly.say(D, second)
    assert A not in assembly.state.quarantined


def test_sites_that_are_out_together_can_still_take_each_other_back() -> None:
    assembly = at("approved", sites=MANY[:6])
    votes = {site: quarantined(assembly, site) for site in (A, B)}
    for voter in (B, C, D, E):
        assembly.say(voter, votes[A])
    assert set(assembly.state.quarantined) == {B}
    for voter in (A, C, D, E):
        assembly.say(voter, votes[B])
    assert not assembly.state.quarantined


def test_a_site_that_leaves_takes_its_quarantine_and_its_vote_along() -> None:
    assembly = at("founded")
    back = quarantined(assembly, A)
    assembly.say(B, back)
    assembly.say(C, back)
    assembly.say(D, MemberRetired(name=D))
    # Of three sites two are a quorum: nobody has to vote again.
    assert not assembly.state.quarantined
    again = quarantined(assembly, A)
    assert again.quarantine in assembly.state.indices
