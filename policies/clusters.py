"""Which sites of a plan's roster sum together, where a plan names hostile sites it must survive (`robust`).

Lives here: how many sites that takes, the draw, and the seed of the draw. Which cluster may still be opened is
`policies.isolation`; what becomes of opened sums, `privacy.robust_aggregation`. docs/adr/0016 says why a plan draws
once and whose randomness it is.

With r hostile sites, a cluster has at least max(4, r + 2) sites: when r of them tell the coordinator their updates,
two honest ones still hide each other. There are at least 2r + 1 clusters: each hostile site spoils at most the
cluster that it is in, and r + 1 clean ones are the majority that a median needs. Both hold for *every* draw. The
draw itself only decides who sits with whom, which matters if more than r sites collude.

The draw: the roster sorted by name, shuffled (Durstenfeld's Fisher-Yates, from the end), then cut into
m = floor(n / max(4, r + 2)) runs, of which the first n mod m are one longer. Its random numbers are the big-endian
64-bit words of

    SHA-256("wardround/clusters/v1" | 0x00 | seed (32) | block number (8, big-endian))     block number 0, 1, 2, ...

taken in order. A word w picks one of k as w mod k, unless w >= 2^64 - (2^64 mod k): then the next word is asked, so
that all k are equally likely.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from ledger import canonical
from ledger.errors import InputError

SMALLEST_CLUSTER: Final = 4
"""Among three, a masked sum tolerates no site that colludes (`privacy.sum_context.colluding_of`)."""
_LABEL: Final = b"wardround/clusters/v1\x00"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_WORDS: Final = 1 << 64

Clusters = tuple[tuple[str, ...], ...]


class TooFewSitesError(InputError):
    """The roster is too small for the number of hostile sites that the plan names."""

    code = "robust.too-few-sites"


class MoreHostileError(InputError):
    """More clusters are proven spoilt than the plan names hostile sites: nothing that it promises holds any more."""

    code = "robust.more-hostile"


class ClusterDrawError(InputError):
    """What clusters are to be drawn from is no roster, no seed or no number of hostile sites."""

    code = "robust.draw-invalid"


def least_cluster(hostile: int) -> int:
    """Sites in the smallest cluster: max(4, r + 2)."""
    if isinstance(hostile, bool) or hostile < 1:
        raise ClusterDrawError("a robust plan names at least one hostile site")
    return max(SMALLEST_CLUSTER, hostile + 2)


def least_opened(hostile: int, *, proven: int = 0) -> int:
    """How many clusters must be opened in a round: 2r + 1, so that clean ones are the majority.

    `proven`: clusters left out on proof that somebody in each of them lied (`privacy.robust_aggregation.overlong`).
    Each took a hostile site with it, so that two fewer are needed. A cluster left out on suspicion counts for none.
    Raises `MoreHostileError` if that is more clusters than the plan names hostile sites.
    """
    least_cluster(hostile)
    if proven > hostile:
        raise MoreHostileError(
            f"{proven} clusters hold a site that lied, and the plan survives {hostile}",
            remedy="Find the sites, then publish a plan that names as many hostile ones as there are.",
        )
    return 2 * (hostile - proven) + 1


def required_sites(hostile: int) -> int:
    """The smallest roster for r hostile sites, (2r + 1) max(4, r + 2): 12 for one, 20 for two."""
    return least_opened(hostile) * least_cluster(hostile)


def clusters_of(sites: Sequence[str], hostile: int, seed_digest: str) -> Clusters:
    """The partition of a roster, the same at all parties; members sorted, clusters in the order of their numbers.

    `sites` in any order, each once; `seed_digest` 64 hexadecimal digits (`seed_of`). Every cluster has
    `least_cluster(hostile)` sites or more, sizes differ by at most one, and all partitions of those sizes are
    equally likely over seeds. Raises `TooFewSitesError` below `required_sites(hostile)`.
    """
    roster = sorted(sites)
    if len(set(roster)) != len(roster):
        raise ClusterDrawError("a site stands twice in the roster that clusters are drawn from")
    if not _DIGEST.fullmatch(seed_digest):
        raise ClusterDrawError("the seed of a draw is 64 hexadecimal digits")
    smallest, required = least_cluster(hostile), required_sites(hostile)
    if len(roster) < required:
        raise TooFewSitesError(
            f"{len(roster)} sites are too few to survive {hostile} hostile: {least_opened(hostile)} clusters of"
            f" {smallest} take {required}",
            remedy="Take in more sites, or name fewer hostile ones in the plan.",
        )
    words = _words(bytes.fromhex(seed_digest))
    for last in range(len(roster) - 1, 0, -1):
        other = _below(last + 1, words)
        roster[last], roster[other] = roster[other], roster[last]
    count = len(roster) // smallest
    size, longer = divmod(len(roster), count)
    ends = [number * size + min(number, longer) for number in range(count + 1)]
    return tuple(tuple(sorted(roster[ends[number] : ends[number + 1]])) for number in range(count))


def seed_of(roster_digest: str, contributions: Mapping[str, str]) -> str:
    """The seed of a plan's draw: SHA-256 over the digest of who is in the roster and what each site contributed, 64
    hexadecimal digits: the masking key that it announced before (docs/adr/0016 weighs the ways)."""
    if not contributions or not all(
        _DIGEST.fullmatch(one) for one in (roster_digest, *contributions.values())
    ):
        raise ClusterDrawError("a seed is made of the roster's digest and one of each site")
    return canonical.digest(
        canonical.encode(
            {"wardround": "cluster-seed/v1", "roster": roster_digest, "contributions": dict(contributions)}
        )
    )


def _words(seed: bytes) -> Iterator[int]:
    """The draw's 64-bit words, without end."""
    block = 0
    while True:
        digest = hashlib.sha256(_LABEL + seed + block.to_bytes(8, "big")).digest()
        for start in range(0, len(digest), 8):
            yield int.from_bytes(digest[start : start + 8], "big")
        block += 1


def _below(count: int, words: Iterator[int]) -> int:
    """One of 0 to count - 1, all equally likely."""
    fair = _WORDS - _WORDS % count
    return next(word for word in words if word < fair) % count
