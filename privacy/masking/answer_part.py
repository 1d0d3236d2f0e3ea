"""A site's second message: the shares that remove, for one closed set, the masks that did not cancel.

Lives here: the frame and what may be in it. For each present author the answerer's share of that author's self seed;
and for each site that is gone, of the author's pair secret with that site. Of an author it is never both the seed and
its pair secrets with others present: that would give its masked values away. The frame has no room for it.
Integers are little-endian.

    offset     size
         0        4  magic "WRMA"
         4        2  version, 1
         6        2  answerer, by roster index
         8       32  digest of the closed set (`privacy.masking.closed_set`), which binds the sum too
        40    33 ab  shares, for each of a present authors in roster order: first of the self seed, then of the
                     pair secrets with each of the b - 1 sites gone, in roster order
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final

from privacy.masking.closed_set import ClosedSet
from privacy.masking.derivation import ShareCommitments
from privacy.masking.shamir import SHARE_BYTES, in_field
from privacy.protected_sum import SumRefusedError
from privacy.sum_context import SumContext

_HEADER: Final = struct.Struct("<4sHH32s")
_MAGIC: Final = b"WRMA"
_VERSION: Final = 1


class AnswerMalformedError(SumRefusedError):
    """Bytes that are no answer for this set, or whose shares are not those committed to."""

    code = "privacy.answer-malformed"


def openings(closed: ClosedSet) -> list[tuple[int, int]]:
    """(author, subject) of the secrets that are recovered for this set, in the order of the frame."""
    wanted = [(author, subject) for author in closed.present for subject in (author, *closed.gone)]
    # What this whole scheme rests on: a pair secret is opened only where its other end is not in the sum.
    if any(subject != author and subject in closed.present for author, subject in wanted):
        raise SumRefusedError("a set in which a site is both present and gone")
    return wanted


def most_bytes(sites: int) -> int:
    """How long an answer among so many sites is at the most: of a present ones it takes a (sites - a + 1) shares."""
    return _HEADER.size + SHARE_BYTES * ((sites + 1) ** 2 // 4)


def write(closed: ClosedSet, *, answerer: int, shares: Mapping[int, Sequence[bytes]]) -> bytes:
    """The answer of `answerer`, whose shares by author and subject are `shares`."""
    header = _HEADER.pack(_MAGIC, _VERSION, answerer, closed.digest)
    return header + b"".join(shares[author][subject] for author, subject in openings(closed))


def read(context: SumContext, closed: ClosedSet, *, answerer: int, data: bytes) -> tuple[bytes, ...]:
    """The shares of an answer, in the order of `openings`, each the one that its author committed to.

    Raises `AnswerMalformedError`, naming the answerer.
    """
    name = context.roster.names[answerer]
    wanted = openings(closed)
    if len(data) != _HEADER.size + SHARE_BYTES * len(wanted):
        raise AnswerMalformedError(f"the answer of {name} has not the length of one for this set")
    if data[: _HEADER.size] != _HEADER.pack(_MAGIC, _VERSION, answerer, closed.digest):
        raise AnswerMalformedError(f"the answer of {name} is not one for this set")
    shares = tuple(data[at : at + SHARE_BYTES] for at in range(_HEADER.size, len(data), SHARE_BYTES))
    commitments = ShareCommitments(context)
    for (author, subject), share in zip(wanted, shares, strict=True):
        promised = closed.parts[author].share_commitment(subject=subject, recipient=answerer)
        found = commitments.of(share, author=author, subject=subject, recipient=answerer)
        if found != promised or not in_field(share):
            raise AnswerMalformedError(f"a share that {name} answered with is not the one dealt to it")
    return shares
