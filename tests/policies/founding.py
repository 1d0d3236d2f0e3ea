"""The members of a federation that only talks: their names, keys in memory, and the document that they founded.

What they say is `tests.policies.assembly`.
"""

from __future__ import annotations

from hashlib import sha256

from ledger.cosignature import vkey_of as cosigner_vkey
from ledger.keys import MemorySigner
from ledger.note import vkey_of
from policies.federation import (
    PHASES,
    ConsentPolicy,
    Federation,
    Member,
    Officer,
    OfficerRole,
    Phase,
    Pool,
    PublicKey,
    SignOffRule,
    usual_key_holders,
)

ORIGIN = "wardround/assembly/term-1"
COORDINATOR = "coordinator"
MANY = tuple(f"site-{letter}" for letter in "abcdefghijklmnop")
"""As many as a test may ask for; most make do with the first four."""
SITES = MANY[:4]
SIGNERS = {name: MemorySigner(name, seed=name.encode()) for name in (COORDINATOR, *MANY, "stranger", "new")}
WITNESSES = {name: MemorySigner(name, seed=f"witness {name}".encode()) for name in MANY}
LOG = MemorySigner(ORIGIN, seed=b"log")
OFFICERS = {
    name: MemorySigner(name, seed=f"officer {name}".encode())
    for name in ("steward-a", "steward-b", "compliance")
}


def named(what: str) -> str:
    """A digest that stands for something of that name."""
    return sha256(what.encode()).hexdigest()


CODE = named("approved code")
POLICY = named("policy")
BASE = named("base model")
NOW_S = 1_700_000_000
CONSENT = ConsentPolicy(
    policy_version="2026-1", document_digest=named("consent"), purposes=("research",), valid_from_s=0
)


def pool(cap: float = 50.0) -> Pool:
    return Pool.of(epsilon_cap_micro=int(cap * 1_000_000), delta=1e-5)


def federation(
    *, cap: float = 50.0, origin: str = ORIGIN, names: tuple[str, ...] = SITES, phase: Phase = "pilot"
) -> Federation:
    """Two stewards and the compliance officer end a phase."""
    sites = (
        Member(
            name=name,
            role="site",
            key=PublicKey.of(SIGNERS[name].public),
            sealing_key=named(f"sealing {name}"),
            witness_vkey=str(cosigner_vkey(name, WITNESSES[name])),
            pool=pool(cap),
            consent_policies=(CONSENT,),
        )
        for name in names
    )
    first = Member(name=COORDINATOR, role=COORDINATOR, key=PublicKey.of(SIGNERS[COORDINATOR].public))
    return Federation(
        schema_version=1,
        name="assembly",
        origin=origin,
        log_vkey=str(vkey_of(origin, LOG)),
        policy_digest=POLICY,
        phase=phase,
        consent_cadence_s=86_400,
        members=(first, *sites),
        key_holders=usual_key_holders(names),
        officers=(
            _officer("steward-a", "data-steward", names[0]),
            _officer("steward-b", "data-steward", names[1]),
            _officer("compliance", "compliance-officer", COORDINATOR),
        ),
        sign_offs=tuple(
            SignOffRule(phase=each, role=role, signatures=count)
            for each in PHASES
            for role, count in (("data-steward", 2), ("compliance-officer", 1))
        ),
    )


def _officer(name: str, role: OfficerRole, institution: str) -> Officer:
    return Officer(name=name, role=role, institution=institution, key=PublicKey.of(OFFICERS[name].public))
