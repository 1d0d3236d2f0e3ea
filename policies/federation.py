"""The federation document: who takes part, with which keys, and what each hospital's patients may be asked.

It is the body of the log's first event, `federation.founded`, and every founding member signs it. The cap of
a data pool is the hospital's own statement; nothing a coordinator writes can raise it. One key serves one member and
one purpose: who could cosign with the log's key, or with another's, would count as two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal, get_args

from pydantic import Field, field_validator, model_validator

from ledger.canonical import JsonValue
from ledger.errors import InputError
from ledger.keys import VerificationKey
from ledger.note import COSIGNATURE_V1, ED25519, VerifierKey, parse_vkey
from policies.document import Base64, ConsentVersion, Digest, Document, Name, Origin
from privacy import accounting
from privacy.accounting import ORDERS, Curve

Vkey = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9./-]{0,199}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{1,60}={0,2}$")]
"""A verifier key of a signed note (`ledger.note`)."""
Phase = Literal["foundation", "pilot", "expansion", "clinical"]
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
"""In their order."""
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def tolerated_faults(sites: int) -> int:
    """f = ⌊(n−1)/3⌋: how many hostile sites the federation is built to survive."""
    return (sites - 1) // 3


def usual_key_holders(sites: Sequence[str]) -> tuple[str, ...]:
    """The first max(3, f + 2) sites, or all: one more than have to find the same sum, so that one may be away."""
    return tuple(sites[: max(3, tolerated_faults(len(sites)) + 2)])


class PublicKey(Document):
    """The JSON form of `ledger.keys.VerificationKey`."""

    scheme: Literal["ed25519", "ecdsa-p256"]
    public: Annotated[Base64, Field(max_length=88)]

    def verification_key(self) -> VerificationKey:
        return VerificationKey.from_json(self.to_json())

    @classmethod
    def of(cls, key: VerificationKey) -> PublicKey:
        return cls.from_value(key.to_json(), what="key")


class Pool(Document):
    """A data pool: by default a site's whole patient register. The cap is in micro-epsilon at `delta`.

    Uses are admitted one after another, each chosen with the results of those before in view. That is an RDP filter
    (Feldman and Zrnic 2021), whose order is fixed in advance; picking the best order afterwards proves nothing.
    """

    epsilon_cap_micro: Annotated[int, Field(ge=0, lt=2**53)]
    delta: Annotated[float, Field(gt=0, le=1e-3)]
    order: Annotated[int, Field(ge=2)]
    """One of `privacy.accounting.ORDERS`."""

    @field_validator("order")
    @classmethod
    def _published(cls, value: int) -> int:
        if value not in ORDERS:
            raise ValueError("the order is not one of the published orders")
        return value

    @classmethod
    def of(cls, *, epsilon_cap_micro: int, delta: float) -> Pool:
        """A pool with the order that leaves the most room under its cap."""
        order = accounting.default_order(epsilon_cap_micro, delta)
        return cls(epsilon_cap_micro=epsilon_cap_micro, delta=delta, order=order)

    @property
    def rdp_cap_micro(self) -> int:
        """The most that may be drawn at `order`, in micro-units of Rényi divergence."""
        return accounting.rdp_cap_micro(self.epsilon_cap_micro, self.delta, order=self.order)

    def rdp_micro(self, cost: Curve) -> int:
        """What `cost` draws at the pool's order, in the same units."""
        return cost.rdp_micro[ORDERS.index(self.order)]

    def epsilon_micro(self, spent: Curve) -> int:
        """The epsilon that all those draws together guarantee; zero for a pool that nothing drew on."""
        if spent == Curve.zero():
            return 0
        return accounting.epsilon_micro_at(spent, self.delta, order=self.order)


class ConsentPolicy(Document):
    """A version of a site's consent policy: what its patients can agree to, by the digest of what they are given to
    read."""

    policy_version: ConsentVersion
    document_digest: Digest
    purposes: Annotated[tuple[Name, ...], Field(min_length=1, max_length=32)]
    valid_from_s: Annotated[int, Field(ge=0, lt=2**53)]
    valid_until_s: Annotated[int, Field(ge=0, lt=2**53)] | None = None

    @model_validator(mode="after")
    def _in_force_at_all(self) -> ConsentPolicy:
        if len(set(self.purposes)) != len(self.purposes):
            raise ValueError("a purpose is listed twice")
        if self.valid_until_s is not None and self.valid_until_s <= self.valid_from_s:
            raise ValueError("the consent policy ends before it begins")
        return self


class Member(Document):
    """One institution. A site also seals (X25519), witnesses the log and owns a data pool."""

    name: Name
    role: Literal["coordinator", "site"]
    key: PublicKey
    sealing_key: Hex32 | None = None
    witness_vkey: Vkey | None = None
    pool: Pool | None = None
    consent_policies: Annotated[tuple[ConsentPolicy, ...], Field(max_length=32)] = ()
    """The versions in force when the federation is founded; `consent.published` adds others."""
    valid_until_s: Annotated[int, Field(ge=0, lt=2**53)] | None = None
    """Log time from which on `key` signs nothing; `ledger.chain` reads it by this name."""

    @model_validator(mode="after")
    def _complete(self) -> Member:
        has = (self.sealing_key is not None, self.witness_vkey is not None, self.pool is not None)
        if self.role == "site" and not all(has):
            raise ValueError("a site needs sealing_key, witness_vkey and pool")
        if self.role == "coordinator" and any(has):
            raise ValueError("a coordinator has no sealing_key, witness_vkey or pool")
        return self


OfficerRole = Literal["data-steward", "compliance-officer", "clinical-lead", "regulatory-officer"]


class Officer(Document):
    """A person who may sign that a phase of the rollout may end, for one institution and in one role."""

    name: Name
    role: OfficerRole
    institution: Name
    key: PublicKey


class SignOffRule(Document):
    """How many officers of a role must sign before a phase ends."""

    phase: Phase
    role: OfficerRole
    signatures: Annotated[int, Field(ge=1, le=64)]


class Federation(Document):
    schema_version: Literal[1]
    name: Name
    origin: Origin
    log_vkey: Vkey
    policy_digest: Digest
    """The policy that is in force first (`policies.code`); `policy.adopted` changes it."""
    phase: Phase
    """How far the rollout has come when the federation is founded; `phase.advanced` changes it."""
    consent_cadence_s: Annotated[int, Field(ge=60, le=31 * 86_400)]
    """How often every site publishes the root of its consents, in log time; one more than twice as old is stale."""
    members: Annotated[tuple[Member, ...], Field(min_length=2, max_length=1001)]
    key_holders: Annotated[tuple[Name, ...], Field(min_length=2)]
    """Sites that hold the key of homomorphic sums; f+1 of them must open a sum identically."""
    officers: Annotated[tuple[Officer, ...], Field(max_length=1000)] = ()
    sign_offs: Annotated[tuple[SignOffRule, ...], Field(max_length=16)] = ()
    """Without a rule for it a phase cannot end."""

    @model_validator(mode="after")
    def _consistent(self) -> Federation:
        names = [member.name for member in self.members]
        if len(set(names)) != len(names):
            raise ValueError("member names must differ")
        if [member.role for member in self.members].count("coordinator") != 1:
            raise ValueError("exactly one member is the coordinator")
        if not set(self.key_holders) <= {member.name for member in self.sites()}:
            raise ValueError("key holders must be sites")
        if len(set(self.key_holders)) != len(self.key_holders):
            raise ValueError("key holders must differ")
        if len(self.key_holders) < self.openings_required():
            raise ValueError("there are fewer key holders than openings required")
        return self

    @model_validator(mode="after")
    def _one_key_a_purpose(self) -> Federation:
        # 1. Every key can be read, is of its type and named like its owner.
        log = _vkey(self.log_vkey, what="log_vkey", name=self.origin, kind=ED25519)
        keys = [log.key]
        for member in self.members:
            keys.append(_identity(member))
            if member.witness_vkey is not None:
                what = f"the witness_vkey of {member.name}"
                keys.append(_vkey(member.witness_vkey, what=what, name=member.name, kind=COSIGNATURE_V1).key)
        keys += [_identity(officer) for officer in self.officers]
        # 2. None is there twice, whatever it is for.
        if len(set(keys)) != len(keys):
            raise ValueError("member keys, witness keys and the log key must differ from one another")
        sealing = [member.sealing_key for member in self.members if member.sealing_key is not None]
        if len(set(sealing)) != len(sealing):
            raise ValueError("sealing keys must differ")
        return self

    @model_validator(mode="after")
    def _officers_can_sign(self) -> Federation:
        people = [officer.name for officer in self.officers]
        if len(set(people)) != len(people):
            raise ValueError("officer names must differ")
        if not {officer.institution for officer in self.officers} <= {one.name for one in self.members}:
            raise ValueError("an officer acts for a member")
        rules = [(rule.phase, rule.role) for rule in self.sign_offs]
        if len(set(rules)) != len(rules):
            raise ValueError("sign_offs names a role of a phase twice")
        return self

    def sites(self) -> tuple[Member, ...]:
        return tuple(member for member in self.members if member.role == "site")

    def coordinator(self) -> Member:
        return next(member for member in self.members if member.role == "coordinator")

    def member(self, name: str) -> Member | None:
        return next((member for member in self.members if member.name == name), None)

    def officer(self, name: str) -> Officer | None:
        return next((officer for officer in self.officers if officer.name == name), None)

    def sign_offs_for(self, phase: Phase) -> dict[OfficerRole, int]:
        """Role → how many of it must sign that the phase may end."""
        return {rule.role: rule.signatures for rule in self.sign_offs if rule.phase == phase}

    def with_key(self, name: str, key: PublicKey, valid_until_s: int | None) -> Federation:
        """The same federation after a member rotated its key; MalformedDocumentError if that has another purpose."""
        return self._with_members(
            member.with_fields({"key": key.to_json(), "valid_until_s": valid_until_s})
            if member.name == name
            else member
            for member in self.members
        )

    def without(self, name: str) -> Federation:
        """The same federation after a member retired; MalformedDocumentError if it cannot do without."""
        return self._with_members(member for member in self.members if member.name != name)

    def _with_members(self, members: Iterable[Member]) -> Federation:
        kept = tuple(members)
        names = {member.name for member in kept}
        return self.with_fields(
            {
                "members": [member.to_json() for member in kept],
                "key_holders": [holder for holder in self.key_holders if holder in names],
                "officers": [one.to_json() for one in self.officers if one.institution in names],
            }
        )

    def openings_required(self) -> int:
        """f+1 identical openings: at least one comes from an honest holder. Never fewer than two."""
        return max(2, tolerated_faults(len(self.sites())) + 1)

    def body(self) -> dict[str, JsonValue]:
        return self.to_json()


def _vkey(text: str, *, what: str, name: str, kind: int) -> VerifierKey:
    try:
        vkey = parse_vkey(text)
    except InputError as error:
        raise ValueError(f"{what}: {error.public_message}") from None
    if vkey.kind != kind:
        raise ValueError(f"{what} is of signature type 0x{vkey.kind:02x}, not 0x{kind:02x}")
    if vkey.name != name:
        raise ValueError(f"{what} must be named {name}")
    return vkey


def _identity(member: Member | Officer) -> VerificationKey:
    try:
        return member.key.verification_key()
    except InputError as error:
        raise ValueError(f"the key of {member.name}: {error.public_message}") from None
