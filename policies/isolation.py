"""Whether the sums of a plan, taken together, would tell fewer sites apart than hide each other.

A site's update changes little from one round to the next. Whoever subtracts a sum over {a, b, c, d} from one over
{a, b, c, d, e} of the round before therefore learns much about e, although no sum that was opened is small. So
all sums of a plan are judged as if every site sent one vector all through it. Which sites sum together is
`policies.clusters`; nothing here reads a sum.

Why atoms decide. Let S_1 .. S_k be the memberships and call two sites alike if they are in the same of them; a class
of sites that are alike, and in at least one membership, is an *atom* (of the Boolean algebra that the memberships
generate). The coefficient of site i in a combination c_1 1_S1 + ... + c_k 1_Sk is the sum of those c_j with i in
S_j: the same for all sites of an atom, and 0 outside all memberships. So the support of every combination, over
the rationals or any other field, is a union of atoms; if it is not empty, it has as many sites as the smallest
atom at least. If every atom has r + 2 sites, so has every support, and r sites that tell the coordinator their
updates leave two honest ones in it.

The converse does not hold: of {a, b, c} and {c, d, e} no combination isolates c, but c is an atom, and the two are
refused. Looking for the smallest support itself is as hard as finding the minimum distance of a linear code; plans
that keep their clusters lose nothing by the stricter rule.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from ledger.errors import Violation

Membership = Collection[str]
"""The names of the sites whose updates one opened sum holds."""


def atoms(memberships: Sequence[Membership]) -> tuple[tuple[str, ...], ...]:
    """Sites that are in the same of the memberships, and in one at least; sorted by name."""
    patterns: dict[str, list[int]] = defaultdict(list)
    for number, membership in enumerate(memberships):
        for site in set(membership):
            patterns[site].append(number)
    alike: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for site in sorted(patterns):
        alike[tuple(patterns[site])].append(site)
    return tuple(sorted(tuple(sites) for sites in alike.values()))


def isolation_violations(
    published: Sequence[Membership], proposed: Sequence[Membership], *, least: int
) -> list[Violation]:
    """Why the sums of `proposed` may not be opened after those of `published`; empty if they may.

    `published`: the memberships of every sum of this plan that was opened or closed for opening, over all rounds;
    `proposed`: those of the sums that are opened next, together. `least` is r + 2. One violation for each atom that
    is smaller, naming its sites. A membership that is itself smaller is refused too, for its atoms are.
    """
    return [
        Violation(
            "robust.isolated",
            f"together with the sums opened before, these would tell {_listed(sites)} apart from all others:"
            f" {len(sites)} of the {least} sites that must hide each other",
        )
        for sites in atoms([*published, *proposed])
        if len(sites) < least
    ]


def openable(
    clusters: Sequence[Sequence[str]],
    published: Sequence[Membership],
    present: Collection[str],
    *,
    least: int,
) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """The sums that may be opened next: (cluster number, its members, sorted), in the order of the numbers.

    A cluster that was never opened may be with those of its sites that are `present`, if they are `least` or more;
    who is missing then stays out for the rest of the plan. A cluster that was opened may be opened again with
    exactly the same sites, so it waits as long as one of them is away, and is closed for good if that site never
    returns. Every cluster is thus one atom, however the rounds go: `isolation_violations` of what this
    returns is empty. A sum over several clusters counts for each of them; a cluster of which different sites were
    opened stays closed.
    """
    here, found = set(present), []
    for number, cluster in enumerate(clusters):
        opened = {frozenset(cluster) & set(one) for one in published} - {frozenset()}
        members = frozenset(cluster) & here if not opened else next(iter(opened))
        if len(opened) <= 1 and members <= here and len(members) >= least:
            found.append((number, tuple(sorted(members))))
    return tuple(found)


def _listed(sites: Sequence[str]) -> str:
    return sites[0] if len(sites) == 1 else f"{', '.join(sites[:-1])} and {sites[-1]}"
