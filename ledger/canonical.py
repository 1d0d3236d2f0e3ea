"""Canonical JSON (RFC 8785): one byte string per value, so that a digest names a document.

Parsing is as strict as writing: bytes that are not the canonical form of their own value are refused,
so a received document is never re-serialised before it is verified. No schema lives here.
"""

from __future__ import annotations

import hashlib
import json
from typing import TypeAlias

import rfc8785

from ledger.errors import InputError

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"


_COMPACT = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


class NotCanonicalError(InputError):
    code = "json.not-canonical"


def encode(value: JsonValue) -> bytes:
    """Return the RFC 8785 bytes of `value`; integers from 2^53 and NaN are refused."""
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as error:
        raise NotCanonicalError(f"value has no canonical JSON form: {type(error).__name__}") from None


def decode(data: bytes) -> JsonValue:
    """Parse bytes that must already be canonical; duplicate keys, spaces and other orders are refused."""
    numbers = _Numbers()
    try:
        value: JsonValue = json.loads(data, parse_float=numbers.fraction, parse_int=numbers.integer)
    except (ValueError, RecursionError):
        raise NotCanonicalError("not a JSON document") from None
    if not (numbers.plain and _plainly_canonical(data, value)) and encode(value) != data:
        raise NotCanonicalError("JSON is not in canonical form (RFC 8785)")
    return value


class _Numbers:
    """Reads numbers, and notes whether all are such that Python and RFC 8785 write them alike: integers of up to 15
    digits, and shortest fractions without an exponent that are no whole numbers."""

    def __init__(self) -> None:
        self.plain = True

    def integer(self, token: str) -> int:
        self.plain &= len(token) <= 15
        return int(token)

    def fraction(self, token: str) -> float:
        value = float(token)
        self.plain &= repr(value) == token and "e" not in token and not value.is_integer()
        return value


def _plainly_canonical(data: bytes, value: JsonValue) -> bool:
    """Whether the C encoder shows that `data`, whose numbers are plain, is canonical; when it does not, RFC 8785
    itself decides. In ASCII, and without NaN, sorted compact JSON is RFC 8785."""
    if not data.isascii() or b"NaN" in data or b"Infinity" in data:
        return False
    try:
        return _COMPACT.encode(value).encode() == data
    except (ValueError, RecursionError):
        return False


def digest(data: bytes) -> str:
    """SHA-256 in lower-case hex, the way every digest is written in documents."""
    return hashlib.sha256(data).hexdigest()
