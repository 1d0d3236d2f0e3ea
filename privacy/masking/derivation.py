"""Every key and commitment of the masking layer, derived under a label of its own.

HKDF-SHA256 (RFC 5869), its expansion alone: what goes in is uniform already. The one extraction, from a
Diffie-Hellman secret, is in `privacy.masking.pair_keys`.

    info = "wardround/masking/v1/" label 0x00 binding

`binding` says what the key is for: a `SumContext.label`, of 32 bytes, and behind it whatever tells apart the keys of
one label. Two labels never give the same info, since none holds a zero byte.
"""

from __future__ import annotations

import hashlib
import struct
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from privacy.sum_context import SumContext

PREFIX: Final = b"wardround/masking/v1/"
KEY_BYTES: Final = 32
COMMITMENT_BYTES: Final = 32
_PLACE: Final = struct.Struct("<HHH")


@lru_cache(maxsize=64)
def sum_label(context: SumContext, purpose: str) -> bytes:
    """`SumContext.label`, worked out once: it encodes the whole roster, and a sum asks for it once a secret."""
    return context.label(purpose)


def derive(key: bytes, *, label: str, binding: bytes) -> bytes:
    """32 bytes from 32 uniform ones."""
    info = PREFIX + label.encode() + b"\x00" + binding
    return HKDFExpand(algorithm=hashes.SHA256(), length=KEY_BYTES, info=info).derive(key)


def secret_commitment(context: SumContext, secret: bytes) -> bytes:
    """What binds to a seed or a pair secret and tells nothing of it, both being uniform. It is the same at both ends
    of a pair, so that anybody sees whether two sites hold the same secret."""
    return derive(secret, label="commit", binding=sum_label(context, "commit"))


class ShareCommitments:
    """SHA-256 of a share and of its place. It needs no blinding: every share that its reader does not know has as
    much entropy as the secret, as long as the secret is unknown."""

    def __init__(self, context: SumContext) -> None:
        self._start = hashlib.sha256(PREFIX + b"share\x00" + sum_label(context, "share-commit"))

    def of(self, share: bytes, *, author: int, subject: int, recipient: int) -> bytes:
        """Commitment to `recipient`'s share of the secret that `author` has with `subject`; by roster indices."""
        digest = self._start.copy()
        digest.update(_PLACE.pack(author, subject, recipient))
        digest.update(share)
        return digest.digest()
