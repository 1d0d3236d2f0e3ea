"""The chain of events: who may sign at which index, and that no institution's events gap or repeat.

The part of the state that the ledger itself can judge; a `Gate`, so that witnesses and the offline verifier
run the very same code. Events that change it, by type and body:

    federation.founded   {"members":[{"name":...,"key":{...}},...], ...}    index 0, only there; every member signs
    member.admitted      {"name":...,"key":{...}, ...}     signed by quorum(members) of the members
    member.retired       {"name":..., ...}                 signed by the member itself, or by quorum(members)
    key.rotated          {"name":...,"key":{...}, ...}     signed by the new key, and by the old key or, if that is
                                                           lost, by quorum(members) of the members

A member, and every body that carries a key, may say `"valid_until_s"`: from that log time on the key signs
nothing, not even its own rotation, and only a quorum makes it last longer. A key that was ever in force comes back
for nobody. A `key.rotated` without "key" is about some other key, and passes.

Every signature on an entry is of a member's key in force or of the key that a rotation brings, and verifies; events
of other types carry one. Nobody can add bytes to what another signed: an entry's digest is its author's.
Other fields and all other types pass. Budgets, plans, roles and rules live outside the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ledger.canonical import JsonValue
from ledger.errors import InputError, VerificationError
from ledger.event import NO_PREVIOUS, Event, JudgedEvent, SignedEvent, parse_entry, read_judged
from ledger.keys import VerificationKey
from ledger.policy import quorum

FOUNDED = "federation.founded"
ADMITTED = "member.admitted"
RETIRED = "member.retired"
ROTATED = "key.rotated"
_ABOUT_MEMBERS = frozenset({FOUNDED, ADMITTED, RETIRED, ROTATED})


class ChainError(VerificationError):
    code = "ledger.chain.refused"

    def __init__(self, index: int, reason: str, code: str) -> None:
        super().__init__(f"entry {index}: {reason}", code=code)
        self.index = index


@dataclass(frozen=True, slots=True)
class Member:
    """An institution: its key in force, and where its own sequence of events stands."""

    name: str
    key: VerificationKey
    valid_until_s: int | None = None
    active: bool = True
    next_sequence: int = 0
    previous: str = NO_PREVIOUS


@dataclass(slots=True)
class EventChain:
    """The members after `size` entries of the log `origin`. `log_time_s` is the latest time claimed so far."""

    origin: str
    size: int = 0
    log_time_s: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    used_keys: frozenset[str] = frozenset()
    """Key ids that are, or were, in force."""

    def fork(self) -> EventChain:
        return EventChain(self.origin, self.size, self.log_time_s, dict(self.members), self.used_keys)

    def position(self, institution: str) -> tuple[int, str]:
        """The sequence number and `previous` that the institution's next event carries."""
        member = self.members.get(institution)
        return (0, NO_PREVIOUS) if member is None else (member.next_sequence, member.previous)

    def advance(self, index: int, entry: bytes) -> None:
        """Check one entry and take it in; ChainError, and no change, if it may not stand here."""
        self.take_in(index, entry)

    def take_in(self, index: int, entry: bytes) -> SignedEvent:
        """`advance`, and the event whose signatures it verified."""
        # 1. It is an event of this log, and the next one.
        if index != self.size:
            raise ChainError(index, f"entry {self.size} is due", "ledger.chain.order")
        try:
            signed = parse_entry(entry)
        except InputError as error:
            raise ChainError(index, error.public_message, error.code) from None
        event = signed.event
        if event.origin != self.origin:
            raise ChainError(index, "the event belongs to another log", "ledger.chain.origin")
        # 2. The log begins with its founding, and is founded once.
        if (event.type == FOUNDED) != (index == 0):
            raise ChainError(index, "a log begins with its one founding event", "ledger.chain.founding")
        members = self._founders(index, event.body) if index == 0 else self.members
        # 3. The institution is a member, and signed with its key in force.
        author = members.get(event.institution)
        if author is None or not author.active:
            raise ChainError(index, "the institution is no member", "ledger.chain.member")
        log_time_s = max(self.log_time_s, event.time_s)
        approvers = _approvers(index, signed, members, log_time_s)
        if index == 0 and len(approvers) != len(members):
            raise ChainError(index, "not every founding member signed", "ledger.chain.founding")
        replaced = _brings_key(event) and event.body.get("name") == author.name
        if author.name not in approvers and not (replaced and len(approvers) >= quorum(_active(members))):
            raise ChainError(index, "the institution's key in force did not sign", "ledger.chain.signature")
        # 4. Nothing of the institution's is missing, repeated or reordered.
        if event.sequence != author.next_sequence:
            code = "replayed" if event.sequence < author.next_sequence else "gap"
            reason = f"{author.name} is at sequence {author.next_sequence}, not {event.sequence}"
            raise ChainError(index, reason, f"ledger.chain.{code}")
        if event.previous != author.previous:
            raise ChainError(index, f"{author.name}'s event before is another one", "ledger.chain.previous")
        # 5. Take it in.
        changed = dict(members)
        changed[author.name] = replace(author, next_sequence=event.sequence + 1, previous=signed.digest)
        self._apply(index, signed, approvers, changed)
        self.members = changed
        self.used_keys |= {member.key.keyid for member in changed.values()}
        self.size += 1
        self.log_time_s = log_time_s
        return signed

    def replay(self, index: int, entry: bytes) -> JudgedEvent:
        """Take in an entry again that was taken in before: its signatures are not verified (see `Gate.replay`)."""
        event = read_judged(entry)
        if index != self.size:
            raise ChainError(index, f"entry {self.size} is due", "ledger.chain.order")
        members = self.members
        if event.type in _ABOUT_MEMBERS:
            members = self._replayed_members(index, event)
        author = members[event.institution]
        members[author.name] = Member(
            author.name, author.key, author.valid_until_s, author.active, event.sequence + 1, event.digest
        )
        self.size += 1
        self.log_time_s = max(self.log_time_s, event.time_s)
        return event

    def _replayed_members(self, index: int, event: JudgedEvent) -> dict[str, Member]:
        """The members as this event leaves them, but for where its author's own sequence stands."""
        body, members = event.body, self.members
        if event.type == FOUNDED:
            members = self.members = self._founders(index, body)
        elif event.type == ADMITTED:
            _add(index, members, body)
        elif event.type == RETIRED:
            name = _name(index, body)
            members[name] = replace(members[name], active=False)
        elif "key" in body:
            subject = members[_name(index, body)]
            key, until = _key(index, body, members), _valid_until(index, body)
            members[subject.name] = replace(subject, key=key, valid_until_s=until)
        self.used_keys |= {member.key.keyid for member in members.values()}
        return members

    def _founders(self, index: int, body: dict[str, JsonValue]) -> dict[str, Member]:
        listed = body.get("members")
        if not isinstance(listed, list) or not listed:
            raise ChainError(index, "the founding event lists no members", "ledger.chain.members")
        members: dict[str, Member] = {}
        for item in listed:
            if not isinstance(item, dict):
                raise ChainError(index, "a member is an object", "ledger.chain.members")
            _add(index, members, item)
        return members

    def _apply(
        self, index: int, signed: SignedEvent, approvers: set[str], members: dict[str, Member]
    ) -> None:
        event = signed.event
        enough = len(approvers) >= quorum(_active(self.members))
        if event.type not in (ADMITTED, RETIRED) and not _brings_key(event):
            return
        if event.type == ADMITTED:
            if not enough:
                raise ChainError(index, "too few members signed the admission", "ledger.chain.quorum")
            _add(index, members, event.body)
            self._refuse_used(index, members[_name(index, event.body)].key)
            return
        subject = members.get(_name(index, event.body))
        if subject is None or not subject.active:
            raise ChainError(index, "the event names no member", "ledger.chain.member")
        if subject.name not in approvers and not enough:
            raise ChainError(index, "neither the member nor a quorum signed", "ledger.chain.quorum")
        if event.type == RETIRED:
            members[subject.name] = replace(subject, active=False)
            return
        new, until = _key(index, event.body, members), _valid_until(index, event.body)
        self._refuse_used(index, new)
        if new.keyid not in signed.keyids:
            raise ChainError(index, "the new key did not sign its rotation", "ledger.chain.rotation")
        _verified(index, signed, {new.keyid: new})
        limit = subject.valid_until_s
        if limit is not None and (until is None or until > limit) and not enough:
            raise ChainError(index, "only a quorum makes a key last longer", "ledger.chain.quorum")
        members[subject.name] = replace(subject, key=new, valid_until_s=until)

    def _refuse_used(self, index: int, key: VerificationKey) -> None:
        if key.keyid in self.used_keys:
            raise ChainError(index, "the key was in force before", "ledger.chain.used-key")


def _brings_key(event: Event) -> bool:
    """Whether this is a rotation of a member's own key, not of some other."""
    return event.type == ROTATED and "key" in event.body


def _approvers(index: int, signed: SignedEvent, members: dict[str, Member], log_time_s: int) -> set[str]:
    """The members whose keys in force signed. A signature of anybody else, or one too many, is refused: it would
    let others change the bytes, and so the digest, of what the author signed."""
    several = signed.event.type in {FOUNDED, ADMITTED, RETIRED} or _brings_key(signed.event)
    if len(signed.keyids) > 1 and not several:
        raise ChainError(index, "an event of this type carries one signature", "ledger.chain.signature")
    owners = {member.key.keyid: member for member in members.values() if member.active}
    present = {keyid: owners[keyid] for keyid in signed.keyids if keyid in owners}
    strangers = set(signed.keyids) - present.keys() - _brought(signed.event)
    if strangers:
        raise ChainError(index, "a signature is of no member's key in force", "ledger.chain.signature")
    for member in present.values():
        if member.valid_until_s is not None and log_time_s >= member.valid_until_s:
            raise ChainError(index, f"the key of {member.name} has expired", "ledger.chain.expired")
    if present:
        _verified(index, signed, {keyid: member.key for keyid, member in present.items()})
    return {member.name for member in present.values()}


def _brought(event: Event) -> set[str]:
    """The id of the key that a rotation brings; its signature is verified with the rotation."""
    if not _brings_key(event):
        return set()
    try:
        return {VerificationKey.from_json(event.body.get("key")).keyid}
    except InputError:
        return set()


def _verified(index: int, signed: SignedEvent, keys: dict[str, VerificationKey]) -> None:
    try:
        signed.verify(keys, threshold=len(keys))
    except VerificationError as error:
        raise ChainError(index, error.public_message, "ledger.chain.signature") from None


def _active(members: dict[str, Member]) -> int:
    return max(1, sum(member.active for member in members.values()))


def _add(index: int, members: dict[str, Member], body: dict[str, JsonValue]) -> None:
    name = _name(index, body)
    if name in members:
        raise ChainError(index, "a member of this name exists", "ledger.chain.members")
    members[name] = Member(name, _key(index, body, members), _valid_until(index, body))


def _name(index: int, body: dict[str, JsonValue]) -> str:
    name = body.get("name")
    if not isinstance(name, str) or not name:
        raise ChainError(index, "the event names nobody", "ledger.chain.members")
    return name


def _valid_until(index: int, body: dict[str, JsonValue]) -> int | None:
    value = body.get("valid_until_s")
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ChainError(index, "valid_until_s is an integer", "ledger.chain.members")
    return value


def _key(index: int, body: dict[str, JsonValue], members: dict[str, Member]) -> VerificationKey:
    try:
        key = VerificationKey.from_json(body.get("key"))
    except InputError as error:
        raise ChainError(index, error.public_message, error.code) from None
    if any(member.key == key for member in members.values()):
        raise ChainError(index, "another member holds this key", "ledger.chain.members")
    return key
