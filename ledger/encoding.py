"""The strict textual encodings that all C2SP formats share: decimals, base64 and hashes in base64.

    decimal   ASCII digits, no sign, no leading zero unless the number is 0, at most 2^63 - 1
    base64    RFC 4648 section 4, padded, and exactly what encoding the decoded bytes gives again
    hash      base64 of 32 bytes

Every function takes the error class and code of the calling parser, so that each refusal stays distinct.
No format lives here.
"""

from __future__ import annotations

import base64
import binascii
import re

from ledger.errors import CodedError

MAX_SIZE = 2**63 - 1
HASH_BYTES = 32
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


def decimal(text: str, *, what: str, error: type[CodedError], code: str, maximum: int = MAX_SIZE) -> int:
    """Return the number that `text` writes in its only allowed form."""
    if not _DECIMAL.fullmatch(text) or int(text) > maximum:
        raise error(f"{what} is not a canonical decimal of at most {maximum}", code=code)
    return int(text)


def encode_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str, *, what: str, error: type[CodedError], code: str) -> bytes:
    """Return the bytes; other alphabets, missing padding and stray trailing bits are refused."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise error(f"{what} is not base64", code=code) from None
    if encode_base64(data) != text:
        raise error(f"{what} is not canonical base64", code=code)
    return data


def decode_hash(text: str, *, what: str, error: type[CodedError], code: str) -> bytes:
    data = decode_base64(text, what=what, error=error, code=code)
    if len(data) != HASH_BYTES:
        raise error(f"{what} is not a hash of {HASH_BYTES} bytes", code=code)
    return data
