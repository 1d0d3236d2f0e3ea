"""A site's first message, beside the masked values: its secrets in shares, wrapped, and commitments to all of it.

Lives here: the frame, and how it is dealt and opened. Whether several of them agree is `privacy.masking.closed_set`.
Sites are named by their index in the roster of n. A site's secrets are numbered by *subject*: number j is the pair
secret with site j, and its own number is its self seed. Integers are little-endian.

    offset     size
         0        4  magic "WRMS"
         4        2  version, 1
         6        2  n
         8        2  author
        10        2  zero
        12       32  SumContext.label("shares")
        44       12  nonce, random
        56    32  n  commitments to the author's secrets, by subject
                     then for each recipient, the author too:
              32 n       commitments to its shares, by subject
              33 n + 16  its shares by subject, AES-256-GCM under the key from author to recipient;
                         associated data: the first 56 bytes, and the recipient's index in 2

All lengths follow from n: 27 kB for 20 sites, 165 kB for 50. The commitments are of `privacy.masking.derivation`;
they make a bad share name its author, and two ends of a pair that hold different secrets contradict each other in
public.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from privacy.masking import shamir
from privacy.masking.derivation import COMMITMENT_BYTES, ShareCommitments, secret_commitment, sum_label
from privacy.masking.shamir import SHARE_BYTES
from privacy.protected_sum import SumRefusedError
from privacy.sum_context import SumContext

_HEADER: Final = struct.Struct("<4sHHHH32s12s")
_INDEX: Final = struct.Struct("<H")
_MAGIC: Final = b"WRMS"
_VERSION: Final = 1
_TAG_BYTES: Final = 16


class SharesMalformedError(SumRefusedError):
    """Bytes that are no shares part, or not of this site."""

    code = "privacy.shares-malformed"


class OtherContextError(SumRefusedError):
    """A message of another sum: another round, model, roster, attempt or scheme."""

    code = "privacy.other-context"


class BadShareError(SumRefusedError):
    """Shares that do not open, or do not fit what their authors committed to. `names` are the authors."""

    code = "privacy.share-bad"

    def __init__(self, message: str, *, names: tuple[str, ...]) -> None:
        super().__init__(message)
        self.names = names


@dataclass(frozen=True, slots=True)
class SharesPart:
    """A parsed frame: nothing is known yet of what is wrapped in it."""

    author: int
    sites: int
    data: bytes

    def commitment(self, subject: int) -> bytes:
        """To the author's secret with `subject`, or to its self seed."""
        start = _HEADER.size + COMMITMENT_BYTES * subject
        return self.data[start : start + COMMITMENT_BYTES]

    def share_commitment(self, *, subject: int, recipient: int) -> bytes:
        start = self._recipient(recipient) + COMMITMENT_BYTES * subject
        return self.data[start : start + COMMITMENT_BYTES]

    def open(self, context: SumContext, *, recipient: int, key: bytes) -> tuple[bytes, ...]:
        """`recipient`'s shares by subject. Raises `BadShareError` naming the author."""
        name = context.roster.names[self.author]
        start = self._recipient(recipient) + COMMITMENT_BYTES * self.sites
        wrapped = self.data[start : start + SHARE_BYTES * self.sites + _TAG_BYTES]
        header = self.data[: _HEADER.size]
        try:
            plain = AESGCM(key).decrypt(header[-12:], wrapped, header + _INDEX.pack(recipient))
        except InvalidTag:
            raise BadShareError(f"the shares of {name} do not open", names=(name,)) from None
        shares = tuple(plain[at : at + SHARE_BYTES] for at in range(0, len(plain), SHARE_BYTES))
        commitments = ShareCommitments(context)
        for subject, share in enumerate(shares):
            promised = self.share_commitment(subject=subject, recipient=recipient)
            found = commitments.of(share, author=self.author, subject=subject, recipient=recipient)
            if found != promised or not shamir.in_field(share):
                raise BadShareError(f"a share of {name} is not what it committed to", names=(name,))
        return shares

    def _recipient(self, recipient: int) -> int:
        each = (COMMITMENT_BYTES + SHARE_BYTES) * self.sites + _TAG_BYTES
        return _HEADER.size + COMMITMENT_BYTES * self.sites + each * recipient


def shares_bytes(sites: int) -> int:
    """How long the frame is among so many sites."""
    return (
        _HEADER.size
        + COMMITMENT_BYTES * sites
        + sites * ((COMMITMENT_BYTES + SHARE_BYTES) * sites + _TAG_BYTES)
    )


def deal(context: SumContext, *, author: str, own: Sequence[bytes], wrap: Mapping[str, bytes]) -> bytes:
    """The frame of `author`, whose secrets by subject are `own` and whose wrapping keys by recipient are `wrap`."""
    names = context.roster.names
    index = names.index(author)
    header = _HEADER.pack(
        _MAGIC, _VERSION, len(names), index, 0, sum_label(context, "shares"), secrets.token_bytes(12)
    )
    dealt = [shamir.split(one, sites=len(names), threshold=context.roster.threshold) for one in own]
    commitments = ShareCommitments(context)
    parts = [header, *(secret_commitment(context, one) for one in own)]
    for recipient, name in enumerate(names):
        shares = [of_subject[recipient] for of_subject in dealt]
        parts += (
            commitments.of(share, author=index, subject=subject, recipient=recipient)
            for subject, share in enumerate(shares)
        )
        wrapping = AESGCM(wrap[name])
        parts.append(wrapping.encrypt(header[-12:], b"".join(shares), header + _INDEX.pack(recipient)))
    return b"".join(parts)


def read(context: SumContext, *, author: str, data: bytes) -> SharesPart:
    """Parse what came as the shares part of `author`; raises `SharesMalformedError`, `OtherContextError`."""
    names = context.roster.names
    # 1. Of the length that the roster gives.
    if len(data) != shares_bytes(len(names)):
        raise SharesMalformedError(f"the shares of {author} are not {shares_bytes(len(names))} bytes")
    # 2. Of this format, and of this author.
    magic, version, sites, index, zero, label, _ = _HEADER.unpack_from(data)
    if magic != _MAGIC or version != _VERSION or zero or sites != len(names):
        raise SharesMalformedError(f"the shares of {author} are not of this format")
    if index >= sites or names[index] != author:
        raise SharesMalformedError(f"the shares that came for {author} are another site's")
    # 3. Of this sum.
    if label != sum_label(context, "shares"):
        raise OtherContextError(f"the shares of {author} belong to another round, model, roster or attempt")
    return SharesPart(author=index, sites=sites, data=data)
