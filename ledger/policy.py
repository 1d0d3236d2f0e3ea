"""Trust policies: which logs and witnesses count, and how many must agree (c2sp.org/tlog-policy).

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> all|any|<k> <name>...
    quorum <name>|none

Lines end in a newline; fields are separated by spaces and tabs; '#' begins a comment line. Names are opaque
bytes, are defined before they are used, and are a member of at most one group. What is checked against a
policy lives in `ledger.finality`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ledger.errors import InputError
from ledger.note import COSIGNATURE_V1, ED25519, MalformedVkeyError, VerifierKey, parse_vkey

NO_QUORUM = "none"
MAX_LINES = 10_000


class MalformedPolicyError(InputError):
    code = "ledger.policy.malformed"


@dataclass(frozen=True, slots=True)
class PolicyLog:
    vkey: VerifierKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class PolicyWitness:
    name: str
    vkey: VerifierKey
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    logs: tuple[PolicyLog, ...]
    witnesses: tuple[PolicyWitness, ...]
    groups: tuple[Group, ...]
    quorum: str

    def satisfied_by(self, cosigners: Collection[VerifierKey]) -> bool:
        """Whether these witnesses, whose cosignatures were verified, are a quorum."""
        if self.quorum == NO_QUORUM:
            return True
        agreed = {witness.name for witness in self.witnesses if witness.vkey in cosigners}
        for group in self.groups:  # members are defined on earlier lines
            if sum(member in agreed for member in group.members) >= group.threshold:
                agreed.add(group.name)
        return self.quorum in agreed

    def describe(self) -> str:
        """The quorum in words."""
        for group in self.groups:
            if group.name == self.quorum:
                return f"{group.threshold} of {len(group.members)} ({', '.join(group.members)})"
        return self.quorum

    def serialise(self) -> bytes:
        """The policy file; parsing it gives an equal policy."""
        lines = [_line("log", str(log.vkey), log.url) for log in self.logs]
        lines += [_line("witness", item.name, str(item.vkey), item.url) for item in self.witnesses]
        lines += [_line("group", group.name, str(group.threshold), *group.members) for group in self.groups]
        lines.append(_line("quorum", self.quorum))
        return "".join(lines).encode(errors="surrogateescape")


def quorum(n: int) -> int:
    """k = ceil((n + f + 1) / 2) with f = (n - 1) // 3: any two quorums share an honest witness of n.

    1 -> 1, 4 -> 3, 5 -> 4, 6 -> 4, 7 -> 5, 8 -> 6.
    """
    if n < 1:
        raise ValueError("a quorum needs at least one witness")
    hostile = (n - 1) // 3
    return (n + hostile + 2) // 2


def quorum_policy(log_vkey: VerifierKey | str, witness_vkeys: Sequence[VerifierKey | str]) -> Policy:
    """The policy of a federation: one log, `quorum(n)` of its n witnesses, which keep their key names."""
    log = parse_vkey(log_vkey) if isinstance(log_vkey, str) else log_vkey
    vkeys = [parse_vkey(vkey) if isinstance(vkey, str) else vkey for vkey in witness_vkeys]
    witnesses = tuple(PolicyWitness(vkey.name, vkey) for vkey in vkeys)
    members = tuple(witness.name for witness in witnesses)
    group = Group("federation-quorum", quorum(len(members)), members)
    built = Policy((PolicyLog(log),), witnesses, (group,), group.name)
    return parse_policy(built.serialise())  # refuses duplicates and wrong key types


def parse_policy(data: bytes) -> Policy:
    """Parse a policy file."""
    if any((octet < 0x20 and octet not in b"\t\n") or octet == 0x7F for octet in data):
        raise MalformedPolicyError("the policy holds control characters", code="ledger.policy.control")
    text = data.decode(errors="surrogateescape")
    if text and not text.endswith("\n"):
        raise MalformedPolicyError("the policy's last line does not end", code="ledger.policy.newline")
    reader = _PolicyReader()
    for number, line in enumerate(text.split("\n"), 1):
        fields = [field for field in line.replace("\t", " ").split(" ") if field]
        if fields and not fields[0].startswith("#"):
            try:
                reader.line(fields)
            except MalformedVkeyError as error:
                raise MalformedPolicyError(
                    f"line {number}: {error.public_message}", code=error.code
                ) from None
            except MalformedPolicyError as error:
                raise MalformedPolicyError(
                    f"line {number}: {error.public_message}", code=error.code
                ) from None
        if number > MAX_LINES:
            raise MalformedPolicyError("the policy is too long", code="ledger.policy.too-long")
    return reader.finish()


class _PolicyReader:
    """Collects the lines of one policy file."""

    def __init__(self) -> None:
        self.logs: list[PolicyLog] = []
        self.witnesses: list[PolicyWitness] = []
        self.groups: list[Group] = []
        self.quorum: str | None = None
        self.names: set[str] = {NO_QUORUM}
        self.grouped: set[str] = set()

    def line(self, fields: list[str]) -> None:
        match fields:
            case ["log", vkey, *url] if len(url) <= 1:
                self.logs.append(PolicyLog(self._key(vkey, ED25519), *url))
            case ["witness", name, vkey, *url] if len(url) <= 1:
                self._define(name)
                self.witnesses.append(PolicyWitness(name, self._key(vkey, COSIGNATURE_V1), *url))
            case ["group", name, threshold, *members] if members:
                self._group(name, threshold, members)
            case ["quorum", name]:
                if self.quorum is not None:
                    raise MalformedPolicyError("there is a second quorum line", code="ledger.policy.quorum")
                if name not in self.names:
                    raise MalformedPolicyError("the quorum is not defined", code="ledger.policy.undefined")
                self.quorum = name
            case _:
                raise MalformedPolicyError("not a line of a policy", code="ledger.policy.line")

    def _group(self, name: str, threshold: str, members: list[str]) -> None:
        for member in members:
            if member not in self.names or member == NO_QUORUM:
                raise MalformedPolicyError("a group member is not defined", code="ledger.policy.undefined")
            if member in self.grouped:
                raise MalformedPolicyError("a name is in a group twice", code="ledger.policy.member")
            self.grouped.add(member)
        count = {"any": 1, "all": len(members)}.get(threshold)
        if count is None:
            if not threshold.isascii() or not threshold.isdigit() or threshold.startswith("0"):
                raise MalformedPolicyError(
                    "a threshold is all, any or a number", code="ledger.policy.threshold"
                )
            count = int(threshold[:9])
        if not 1 <= count <= len(members):
            raise MalformedPolicyError("a threshold exceeds its group", code="ledger.policy.threshold")
        self._define(name)
        self.groups.append(Group(name, count, tuple(members)))

    def _define(self, name: str) -> None:
        if name in self.names:
            raise MalformedPolicyError("a name is defined twice", code="ledger.policy.duplicate-name")
        self.names.add(name)

    def _key(self, text: str, kind: int) -> VerifierKey:
        vkey = parse_vkey(text)
        if vkey.kind != kind:
            raise MalformedPolicyError("a key has the wrong signature type", code="ledger.policy.key-type")
        others = self.logs if kind == ED25519 else self.witnesses
        if any(vkey.key == other.vkey.key for other in others):
            raise MalformedPolicyError("a key is listed twice", code="ledger.policy.duplicate-key")
        return vkey

    def finish(self) -> Policy:
        if self.quorum is None:
            raise MalformedPolicyError("there is no quorum line", code="ledger.policy.quorum")
        return Policy(tuple(self.logs), tuple(self.witnesses), tuple(self.groups), self.quorum)


def _line(*fields: str | None) -> str:
    return " ".join(field for field in fields if field is not None) + "\n"
