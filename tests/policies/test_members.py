"""Who speaks for an institution as its keys change, who is a member, and which policy the members adopted."""

from __future__ import annotations

import pytest

from policies.events import IdentityRotated, MemberRetired, PolicyAdopted, SumKeyRotated
from policies.federation import PublicKey
from tests.policies.assembly import Assembly, at, plan
from tests.policies.founding import COORDINATOR, POLICY, SIGNERS, SITES, named

A, B, C, D = SITES
NOW_S = 1_700_000_000
VOTE = PolicyAdopted(policy_digest=named("next"))
"""Something that every site may say."""


def rotation(name: str = A, *, valid_until_s: int | None = None) -> IdentityRotated:
    return IdentityRotated(
        purpose="identity", name=name, key=PublicKey.of(SIGNERS["new"].public), valid_until_s=valid_until_s
    )


def retire(assembly: Assembly, name: str) -> None:
    assembly.state.advance(assembly.state.size, assembly.entry(name, MemberRetired(name=name)))


@pytest.fixture
def rotated() -> Assembly:
    assembly = at("approved")
    assembly.state.advance(assembly.state.size, assembly.entry(A, rotation(), signer=f"{A} new"))
    return assembly


def test_from_its_rotation_on_only_the_new_key_speaks_for_a_site(rotated: Assembly) -> None:
    assert rotated.refusals(rotated.entry(A, VOTE)) == {"ledger.chain.signature"}
    assert rotated.refusals(rotated.entry(A, VOTE, signer="new")) == set()


@pytest.mark.parametrize("signers", [A, "new", f"{B} new", f"{COORDINATOR} {B} new"])
def test_a_rotation_needs_the_new_key_and_the_old_one_or_a_quorum(signers: str) -> None:
    assembly = at("approved")
    assert assembly.refusals(assembly.entry(A, rotation(), signer=signers)) != set()


def test_a_lost_key_is_replaced_by_a_quorum_of_the_members() -> None:
    assembly = at("approved")
    by_others = assembly.entry(A, rotation(), signer=f"{COORDINATOR} {B} {C} {D} new")
    assert assembly.refusals(by_others) == set()


def test_a_key_holder_opens_with_its_new_key(rotated: Assembly) -> None:
    federation = rotated.state.founded()
    member = federation.member(A)
    assert member is not None and member.key == PublicKey.of(SIGNERS["new"].public)
    assert federation.key_holders == (A, B, C)


def test_a_credential_ends_in_log_time() -> None:
    assembly = at("approved")
    limited = rotation(valid_until_s=NOW_S + 60)
    assembly.state.advance(assembly.state.size, assembly.entry(A, limited, signer=f"{A} new"))
    assert assembly.refusals(assembly.entry(A, VOTE, signer="new")) == set()
    late = assembly.entry(A, VOTE, signer="new", time_s=NOW_S + 60)
    assert assembly.refusals(late) == {"ledger.chain.expired"}


def test_a_key_of_sums_and_an_identity_are_told_apart() -> None:
    assembly = at("rostered", plan=plan(protection={"scheme": "homomorphic"}))
    assert assembly.refusals(assembly.entry(B, assembly.key())) == set()
    for body, purpose, signer in (
        (rotation(B).to_json(), "study-sum", f"{B} new"),
        (assembly.key().to_json(), "identity", B),
        (assembly.key().to_json(), "another", B),
    ):
        mixed = assembly.entry(B, assembly.key(), body={**body, "purpose": purpose}, signer=signer)
        assert assembly.refusals(mixed) & {"event.malformed", "ledger.chain.member-invalid"}
    assert SumKeyRotated.model_fields.keys() & {"key", "name"} == set()


def test_a_retired_site_is_silent_and_nobody_waits_for_it() -> None:
    assembly = at("reserved")
    for site in SITES[:3]:
        assembly.say(site, assembly.receipt(site))
    retire(assembly, D)
    assert assembly.refusals(assembly.entry(D, assembly.receipt(D))) == {"ledger.chain.member"}
    assert assembly.refusals(assembly.entry(COORDINATOR, assembly.closing())) == set()


def test_a_site_retires_by_its_own_word_or_a_quorums() -> None:
    assembly = at("founded")
    leave = MemberRetired(name=D)
    assert assembly.refusals(assembly.entry(COORDINATOR, leave)) == {"ledger.chain.quorum"}
    assert assembly.refusals(assembly.entry(COORDINATOR, leave, signer=f"{COORDINATOR} {A} {B} {C}")) == set()


def test_the_federation_keeps_enough_key_holders() -> None:
    assembly = at("founded")
    retire(assembly, A)
    assert assembly.refusals(assembly.entry(B, MemberRetired(name=B))) == {"member.needed"}


def test_a_policy_is_in_force_once_a_quorum_of_the_sites_voted_for_it() -> None:
    assembly = at("approved")
    vote = PolicyAdopted(policy_digest=named("next"))
    assembly.say(A, vote)
    assert assembly.refusals(assembly.entry(A, vote)) == {"policy.voted-twice"}
    assembly.say(B, vote)
    assert assembly.state.policy_digest == POLICY
    assembly.say(C, vote)
    assert assembly.state.policy_digest == named("next")
    assert assembly.refusals(assembly.entry(D, vote)) == {"policy.in-force"}


def test_a_retired_sites_vote_no_longer_counts() -> None:
    assembly = at("approved")
    vote = PolicyAdopted(policy_digest=named("next"))
    assembly.say(D, vote)
    retire(assembly, D)
    assembly.say(A, vote)
    assert assembly.state.policy_digest == POLICY  # two of the three that are left would be a quorum
