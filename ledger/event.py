"""Events: what the entries of the log are. A DSSE envelope over one canonical JSON statement.

    envelope   see `ledger.envelope`, payload type application/vnd.wardround.event+json, <= 65,535 bytes
    payload    {"body":{...},"institution":"site-a","origin":"<log origin>",
                "previous":"<64 hex>","schema_version":1,"sequence":0,"time_s":1700000000,"type":"a.b"}

`sequence` counts an institution's own events from 0 without a gap, and `previous` is the SHA-256 of that
institution's entry before (zeros for the first), so that nothing it said can be dropped, repeated or
reordered. `time_s` is what the institution claims. What the types and bodies mean lives outside the ledger,
but for the few that carry keys (`ledger.chain`).
"""

from __future__ import annotations

import binascii
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ledger import canonical, envelope
from ledger.canonical import JsonValue
from ledger.errors import InputError
from ledger.keys import Signer, VerificationKey

PAYLOAD_TYPE = "application/vnd.wardround.event+json"
MAX_ENTRY_BYTES = 65535  # the u16 length prefix of tlog-tiles' entry bundles
NO_PREVIOUS = "0" * 64
SCHEMA_VERSION = 1
_MAX_INTEGER = 2**53 - 1
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_TYPE = re.compile(r"[a-z][a-z0-9-]*(\.[a-z][a-z0-9-]*)+", re.ASCII)
_BEFORE_PAYLOAD, _BEFORE_BODY, _BEHIND_BODY = b'{"payload":"', b'{"body":', b',"institution":"'
_JSON = json.JSONDecoder()
_FIELDS = frozenset(
    ("body", "institution", "origin", "previous", "schema_version", "sequence", "time_s", "type")
)


class MalformedEventError(InputError):
    code = "ledger.event.malformed"


class EntryTooLargeError(InputError):
    code = "ledger.entry.too-large"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    origin: str
    type: str
    institution: str
    sequence: int
    previous: str
    time_s: int
    body: dict[str, JsonValue]
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise MalformedEventError("the event's schema version is unknown", code="ledger.event.version")
        if not self.origin or not self.institution:
            raise MalformedEventError("an event names its log and its institution")
        if not _TYPE.fullmatch(self.type):
            raise MalformedEventError("an event type is dotted lower case", code="ledger.event.type")
        if not _DIGEST.fullmatch(self.previous):
            raise MalformedEventError("'previous' is 64 hex digits", code="ledger.event.previous")
        for value, what in ((self.sequence, "sequence"), (self.time_s, "time_s")):
            if isinstance(value, bool) or not 0 <= value <= _MAX_INTEGER:
                raise MalformedEventError(f"'{what}' is an integer of 0 to 2^53-1", code="ledger.event.range")

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "body": self.body,
            "institution": self.institution,
            "origin": self.origin,
            "previous": self.previous,
            "schema_version": self.schema_version,
            "sequence": self.sequence,
            "time_s": self.time_s,
            "type": self.type,
        }

    @classmethod
    def from_json(cls, value: JsonValue) -> Event:
        if not isinstance(value, dict) or value.keys() != _FIELDS:
            raise MalformedEventError("an event has exactly the eight fields of its format")
        body = value["body"]
        if not isinstance(body, dict):
            raise MalformedEventError("an event's body is an object")
        return cls(
            origin=_text(value["origin"], "origin"),
            type=_text(value["type"], "type"),
            institution=_text(value["institution"], "institution"),
            sequence=_integer(value["sequence"], "sequence"),
            previous=_text(value["previous"], "previous"),
            time_s=_integer(value["time_s"], "time_s"),
            body=body,
            schema_version=_integer(value["schema_version"], "schema_version"),
        )


@dataclass(frozen=True, slots=True)
class SignedEvent:
    """A parsed entry. Its signatures count for nothing until `verify` returned."""

    event: Event
    keyids: tuple[str, ...]
    raw: bytes
    envelope: envelope.Envelope

    @property
    def digest(self) -> str:
        return entry_digest(self.raw)

    def verify(self, keys: Mapping[str, VerificationKey], *, threshold: int = 1) -> None:
        """Return None if at least `threshold` of `keys` (by key id) signed, else raise."""
        self.envelope.verify(keys, threshold=threshold)


@dataclass(slots=True)
class JudgedEvent:
    """What is needed of an event whose entry was judged before. Not frozen, for speed alone: nobody keeps it."""

    type: str
    institution: str
    sequence: int
    time_s: int
    body_json: bytes
    """The body as it was signed: canonical JSON."""
    digest: str
    """Of the entry."""

    @property
    def body(self) -> dict[str, JsonValue]:
        value: dict[str, JsonValue] = json.loads(self.body_json)
        return value


def sign_event(event: Event, signers: Sequence[Signer]) -> bytes:
    """Return the entry: the signed envelope in canonical JSON, at most 65,535 bytes."""
    payload = canonical.encode(event.to_json())
    if len(payload) > MAX_ENTRY_BYTES:
        raise EntryTooLargeError(f"the event is over {MAX_ENTRY_BYTES} bytes")
    data = envelope.sign(PAYLOAD_TYPE, payload, signers).encode()
    check_entry_size(data)
    return data


def parse_entry(data: bytes) -> SignedEvent:
    """Parse one entry strictly: canonical envelope, canonical payload, exactly our fields and types."""
    check_entry_size(data)
    signed = envelope.parse(data)
    if signed.payload_type != PAYLOAD_TYPE:
        raise MalformedEventError("the entry's payload is not an event", code="ledger.event.payload-type")
    return SignedEvent(Event.from_json(canonical.decode(signed.payload)), signed.keyids, data, signed)


def read_judged(data: bytes) -> JudgedEvent:
    """What an entry says that `parse_entry` took before, and whose bytes are known to be the same: not every rule of
    the format is held against it again. Its bytes are canonical, so that every part has its place.

    Raises ValueError or KeyError, at the latest when the body is read, for some of the bytes that are no such entry.
    """
    end = data.index(b'"', len(_BEFORE_PAYLOAD))
    payload = binascii.a2b_base64(data[len(_BEFORE_PAYLOAD) : end])
    # Quotes within a text are escaped, and nothing behind the body is an object: the last one is the event's own.
    split = payload.rindex(_BEHIND_BODY)
    rest, _ = _JSON.raw_decode("{" + payload[split + 1 :].decode())
    return JudgedEvent(
        rest["type"], rest["institution"], rest["sequence"], rest["time_s"],
        payload[len(_BEFORE_BODY) : split], entry_digest(data),
    )  # fmt: skip


def check_entry_size(data: bytes) -> None:
    if len(data) > MAX_ENTRY_BYTES:
        raise EntryTooLargeError(f"an entry is at most {MAX_ENTRY_BYTES} bytes; this one has {len(data)}")


def entry_digest(data: bytes) -> str:
    """SHA-256 of the entry's bytes in hex: what the institution's next event names as `previous`."""
    return hashlib.sha256(data).hexdigest()


def _text(value: JsonValue, what: str) -> str:
    if not isinstance(value, str):
        raise MalformedEventError(f"'{what}' is a string")
    return value


def _integer(value: JsonValue, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise MalformedEventError(f"'{what}' is an integer")
    return value
