"""Admission of events about the federation itself: its members, keys, policies, consents and quarantine.

Each function returns every reason why the event may not stand; who may say it at all is `policies.admission`'s, and
who must sign it `ledger.chain`'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.errors import InputError, Violation
from ledger.policy import quorum
from policies.drift import PERFORMANCE
from policies.events import (
    ConsentPublished,
    ConsentState,
    IdentityRotated,
    MemberRetired,
    PolicyAdopted,
    SiteQuarantined,
    SiteReleased,
    SumKeyRotated,
)
from policies.federation import Federation
from policies.protection import is_encrypted, outlying_sites

if TYPE_CHECKING:
    from policies.state import FederationState


def founding(state: FederationState, institution: str, body: Federation) -> list[Violation]:
    found = []
    if state.founding_digest not in (None, body.content_digest()):
        found.append(Violation("federation.document", "this is not the document that the members signed"))
    if body.origin != state.origin:
        found.append(Violation("federation.origin", "the document names another log"))
    if body.coordinator().name != institution:
        found.append(Violation("federation.founder", "the coordinator records the founding"))
    # Asked here alone: a site whose officers are needed may leave all the same, and phases then wait.
    for rule in body.sign_offs:
        if sum(officer.role == rule.role for officer in body.officers) < rule.signatures:
            found.append(
                Violation("federation.officers", f"fewer officers of the role {rule.role} than must sign")
            )
    return found


def rotation(federation: Federation, body: IdentityRotated) -> list[Violation]:
    """Who must sign, and that the new key does, is `ledger.chain`'s; a member can sign for its own witness key."""
    try:
        federation.with_key(body.name, body.key, body.valid_until_s)
    except InputError as error:
        return [Violation("member.key", error.public_message)]
    return []


def retirement(federation: Federation, body: MemberRetired) -> list[Violation]:
    try:
        federation.without(body.name)
    except InputError as error:
        return [
            Violation(
                "member.needed", f"the federation cannot do without {body.name}: {error.public_message}"
            )
        ]
    return []


def vote(state: FederationState, institution: str, body: PolicyAdopted) -> list[Violation]:
    if body.policy_digest == state.policy_digest:
        return [Violation("policy.in-force", "this policy is in force already")]
    if institution in state.policy_votes.get(body.policy_digest, frozenset()):
        return [Violation("policy.voted-twice", f"{institution} has voted for this policy already")]
    return []


def sum_key(state: FederationState, institution: str, body: SumKeyRotated) -> list[Violation]:
    found = []
    if state.federation is None or institution not in state.federation.key_holders:
        found.append(Violation("sum-key.not-holder", f"{institution} is not a key holder"))
    published = state.published(body.plan_digest)
    if published is None or published.plan.study != body.study:
        found.append(Violation("sum-key.plan", "the key is for no plan of the study"))
    elif not is_encrypted(published.plan):
        found.append(Violation("sum-key.plan", "the plan's sums need no key"))
    elif institution not in state.rosters.get(body.plan_digest, ()):
        found.append(Violation("sum-key.roster", f"{institution} is not in the plan's roster"))
    if body.plan_digest in state.sum_keys:
        found.append(Violation("sum-key.twice", "the plan has its key already"))
    if any(key.public_key_digest == body.public_key_digest for key in state.sum_keys.values()):
        found.append(Violation("sum-key.old", "the key was another plan's"))
    return found


def consent_policy(state: FederationState, institution: str, body: ConsentPublished) -> list[Violation]:
    before = state.consent_policies.get((institution, body.policy_version))
    if before is not None and before.to_json() == body.to_json():
        return [Violation("consent.published-twice", f"{institution} has published this already")]
    return []


def consent_state(
    state: FederationState, institution: str, body: ConsentState, *, log_time_s: int
) -> list[Violation]:
    """One root a cadence: a second one would tell that something changed in between."""
    found = []
    before = state.consent_states.get(institution)
    if before is not None and body.cadence <= before.cadence:
        found.append(Violation("consent.cadence", f"{institution} has published this cadence already"))
    if body.cadence != log_time_s // state.founded().consent_cadence_s:
        found.append(Violation("consent.cadence", "this is not the present cadence"))
    return found


def quarantine(state: FederationState, institution: str, body: SiteQuarantined) -> list[Violation]:
    federation = state.founded()
    found = []
    if body.site not in {site.name for site in federation.sites()}:
        found.append(Violation("quarantine.unknown-site", "the quarantine names no site of the federation"))
    elif institution not in (body.site, federation.coordinator().name):
        found.append(Violation("quarantine.foreign", "a site quarantines only itself"))
    elif body.code == PERFORMANCE and institution != body.site:
        found.append(Violation("quarantine.foreign", "that an evaluation drifted only its site can know"))
    if body.evidence is None and body.code.startswith("robust."):
        found.append(Violation("quarantine.evidence", "this code is for what a released aggregate shows"))
    if body.evidence is not None and body.site not in outlying_sites(state, body.evidence):
        found.append(Violation("quarantine.evidence", f"that entry shows nothing against {body.site}"))
    elif body.evidence is not None and state.indices[body.evidence] < state.cleared.get(body.site, 0):
        found.append(Violation("quarantine.evidence", f"{body.site} was released after that entry"))
    if body.site in state.quarantined:
        found.append(Violation("quarantine.twice", f"{body.site} is in quarantine already"))
    # A mere word, whoever's: what an entry shows is not bounded, since robust plans take out whole clusters.
    if body.evidence is None and not _enough_are_free(state, without=body.site):
        found.append(Violation("quarantine.too-many", "fewer sites than a quorum would be free"))
    return found


def _enough_are_free(state: FederationState, *, without: str) -> bool:
    """Whether a quorum of the sites is free if this one is not: neither a model that is bad for all nor a coordinator
    takes out many of them."""
    sites = {site.name for site in state.founded().sites()}
    return len(sites - state.quarantined.keys() - {without}) >= quorum(len(sites))


def release(state: FederationState, institution: str, body: SiteReleased) -> list[Violation]:
    """In quarantine or not, a site has a vote about every site but itself: a quorum has more honest sites than
    hostile ones either way, and otherwise sites that are out together could stay out for ever."""
    if body.site not in state.quarantined:
        return [Violation("quarantine.none", f"{body.site} is not in quarantine")]
    found = []
    if body.quarantine != state.quarantine_entries[body.site]:
        found.append(
            Violation("quarantine.other", f"the vote is not about the present quarantine of {body.site}")
        )
    if institution == body.site:
        found.append(Violation("quarantine.own", "a site has no vote about itself"))
    if institution in state.release_votes.get(body.site, frozenset()):
        found.append(
            Violation("quarantine.voted-twice", f"{institution} has voted to take {body.site} back already")
        )
    return found
