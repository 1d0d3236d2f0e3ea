"""Objects on the exchange, named by their SHA-256: models, updates, sums, public keys.

    objects/<sha256>

A reader gets the bytes that the digest names or an error; what was signed is the digest.
"""

from __future__ import annotations

from adapters.exchange import Exchange
from ledger.canonical import digest
from ledger.errors import CodedError


class ObjectMissingError(CodedError):
    code = "exchange.missing"


class ObjectAlteredError(CodedError):
    code = "exchange.altered"


def name_of(object_digest: str) -> str:
    return f"objects/{object_digest}"


def store(exchange: Exchange, data: bytes) -> str:
    """Put the bytes and return their digest."""
    object_digest = digest(data)
    exchange.put(name_of(object_digest), data)
    return object_digest


def load(exchange: Exchange, object_digest: str, *, at_most_bytes: int | None = None) -> bytes:
    """`at_most_bytes`: of whatever a stranger laid there, how much is read at all (`ExchangeTooLargeError`)."""
    data = exchange.get(name_of(object_digest), at_most_bytes=at_most_bytes)
    if data is None:
        raise ObjectMissingError(f"the exchange does not hold the object {object_digest[:12]}")
    if digest(data) != object_digest:
        raise ObjectAlteredError(f"the exchange altered the object {object_digest[:12]}")
    return data
