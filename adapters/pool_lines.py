"""What the lines of a register's journal say, and their bytes.

    {"draw":{...},"mac":"<hex>","sequence":<n>}       a draw on the register
    {"begun":{...},"mac":"<hex>","sequence":<n>}      noise for a step is about to be drawn, and never again
    {"leaving":{...},"mac":"<hex>","sequence":<n>}    a release is about to leave, and no other one of its step may

The mac is over the mac before it and this line's content and number. The file, its lock and its mark are
`adapters.pool_journal`.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

from ledger import canonical
from ledger.canonical import JsonValue
from ledger.errors import CodedError
from policies.document import Digest, Document, Origin
from policies.receipt import DeclaredMechanism, Step
from policies.state import FederationState

FIRST_MAC: Final = "0" * 64


class Use(Document):
    """Which attempt at which round of which ledger a draw is for. Two federations may name their logs alike; the
    document that one was founded with is its own."""

    origin: Origin
    founded_as: Digest
    plan_digest: Digest
    round: Annotated[int, Field(ge=1, le=1000)]
    attempt: Annotated[int, Field(ge=1, le=1000)]


class Draw(Document):
    """What is drawn on the register, or given back of what was drawn before for the same use."""

    kind: Literal["reserved", "given-back"]
    use: Use
    mechanisms: Annotated[tuple[DeclaredMechanism, ...], Field(min_length=1)]


class Sum(Document):
    """One protected sum of a ledger: what a site's masks are bound to, whatever the attempt."""

    origin: Origin
    founded_as: Digest
    plan_digest: Digest
    round: Annotated[int, Field(ge=1, le=1000)]
    step: Step


class Begun(Document):
    """Noise is about to be drawn for a sum, on which the site may decide: nobody draws for it again."""

    sum: Sum


class Leaving(Document):
    """A release that is kept in a home and may leave for its sum from now on; no other one may."""

    sum: Sum
    release: Digest
    """Of its signed receipt, which names the rest."""


Content = Draw | Begun | Leaving
_KINDS: Final[dict[type[Content], str]] = {Draw: "draw", Begun: "begun", Leaving: "leaving"}


@dataclass(frozen=True, slots=True)
class Line:
    content: Content
    mac: str
    sequence: int

    @classmethod
    def after(cls, mac: str, sequence: int, content: Content, *, key: bytes) -> Line:
        """The line of this content and number that follows one with this mac."""
        message = f"{mac}\n{sequence}\n".encode() + content.canonical_bytes()
        return cls(content, hmac.new(key, message, hashlib.sha256).hexdigest(), sequence)

    def to_bytes(self) -> bytes:
        value: dict[str, JsonValue] = {
            _KINDS[type(self.content)]: self.content.to_json(),
            "mac": self.mac,
            "sequence": self.sequence,
        }
        return canonical.encode(value) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Line | None:
        """None for what is no line; whether its mac is right is the reader's to check."""
        try:
            value = canonical.decode(data.removesuffix(b"\n"))
            if not isinstance(value, dict) or len(value) != 3:
                return None
            mac, sequence = value.get("mac"), value.get("sequence")
            if not isinstance(mac, str) or not isinstance(sequence, int):
                return None
            if "draw" in value:
                return cls(Draw.from_value(value["draw"], what="draw"), mac, sequence)
            if "begun" in value:
                return cls(Begun.from_value(value["begun"], what="begun"), mac, sequence)
            return cls(Leaving.from_value(value.get("leaving"), what="leaving"), mac, sequence)
        except CodedError:
            return None


def uses(state: FederationState, site: str) -> set[Use]:
    """Every attempt of the site that a ledger shows."""
    return {
        Use(
            origin=state.origin,
            founded_as=state.founded_as,
            plan_digest=digest,
            round=number,
            attempt=attempt,
        )
        for (digest, number, name), last in state.attempts.items()
        if name == site
        for attempt in range(1, last + 1)
    }


def departures(state: FederationState, site: str) -> dict[Sum, str]:
    """The release, by its receipt's digest, of every sum to which a ledger shows that the site reported."""
    return {
        Sum(
            origin=state.origin,
            founded_as=state.founded_as,
            plan_digest=digest,
            round=number,
            step=step,
        ): receipt.entry_digest
        for (digest, number, step, name), receipt in state.receipts.items()
        if name == site
    }
