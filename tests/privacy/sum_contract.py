"""What builds every end of a protected sum for the contract suite. A scheme joins with one line in `SCHEMES`.

Lives here: the factories, and one step played through by all ends. What must hold is said in
`tests.privacy.test_sum_contract`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np

from privacy.masked_sum import MaskedSum
from privacy.masking.mask_secrets import AnswerKeys
from privacy.packing import Lanes, Packing
from privacy.protected_sum import Answer, ProtectedSum, Report
from privacy.sum_context import SumContext
from tests.privacy.homomorphic_scheme import Homomorphic
from tests.privacy.masking.rosters import Sites, sites
from tests.privacy.shared_scheme import Shared


@dataclass(frozen=True)
class Terms:
    """What all ends of one sum agree on."""

    context: SumContext
    packing: Packing
    lane_count: int


class Ends(Protocol):
    """Everybody's ends of sums among the same sites. Asked for the same site and context again, `site` gives the end
    of a process that was started anew: what it protected is known to it no longer."""

    context: SumContext

    def site(self, name: str, terms: Terms) -> ProtectedSum: ...

    def coordinator(self, terms: Terms) -> ProtectedSum: ...


class Scheme(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def largest(self) -> int:
        """The largest roster that the suite plays through; slow schemes have fewer."""

    @property
    def recovers(self) -> bool:
        """Whether sites answer, so that too few answers leave the sum closed."""

    def ends(self, count: int) -> Ends: ...


class MaskedEnds:
    def __init__(self, told: Sites) -> None:
        self.told = told
        self.context = told.context
        self._kept: dict[tuple[str, bytes], AnswerKeys] = {}

    def site(self, name: str, terms: Terms) -> ProtectedSum:
        place = (name, terms.context.label("kept"))
        if place in self._kept:
            return MaskedSum(terms.context, terms.packing, terms.lane_count, secrets=self._kept[place])
        secrets = self.told.secrets(name, context=terms.context)
        self._kept[place] = secrets.answering()
        return MaskedSum(terms.context, terms.packing, terms.lane_count, secrets=secrets)

    def coordinator(self, terms: Terms) -> ProtectedSum:
        return MaskedSum(terms.context, terms.packing, terms.lane_count)


@dataclass(frozen=True)
class Masked:
    name: str = "masked"
    largest: int = 50
    recovers: bool = True

    def ends(self, count: int) -> Ends:
        return MaskedEnds(sites(count, scheme="masked"))


SCHEMES: Final[Sequence[Scheme]] = [Masked(), Homomorphic(), Shared()]


@dataclass
class Played:
    """A step in which every site reported."""

    ends: Ends
    terms: Terms
    lanes: Mapping[str, Lanes]
    sites: dict[str, ProtectedSum] = field(default_factory=dict)
    reports: dict[str, Report] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, lanes in self.lanes.items():
            self.sites[name] = self.ends.site(name, self.terms)
            self.reports[name] = self.sites[name].protect(lanes)

    @property
    def names(self) -> list[str]:
        return list(self.lanes)

    def closed(self, names: Sequence[str]) -> dict[str, Report]:
        return {name: self.reports[name] for name in names}

    def answers(self, names: Sequence[str], *, by: Sequence[str]) -> dict[str, Answer]:
        closed = self.closed(names)
        given = {name: self.sites[name].answer(closed) for name in by}
        return {name: answer for name, answer in given.items() if answer is not None}

    def open(self, names: Sequence[str], *, by: Sequence[str] | None = None) -> Lanes:
        answers = self.answers(names, by=names if by is None else by)
        return self.ends.coordinator(self.terms).open(self.closed(names), answers)

    def plain(self, names: Sequence[str]) -> Lanes:
        """numpy's sum of the same lanes."""
        total: Lanes = np.sum([self.lanes[name] for name in names], axis=0, dtype=np.int32)
        return total


def play(scheme: Scheme, count: int, *, lane_count: int = 300, lane_bits: int = 16) -> Played:
    """A step among `count` sites, with lanes over all that a site may send."""
    ends = scheme.ends(count)
    packing = Packing(lane_bits=lane_bits, maximum_sites=max(count, 5))
    terms = Terms(context=ends.context, packing=packing, lane_count=lane_count)
    generator = np.random.default_rng(count)
    limit = packing.site_limit
    lanes = {
        name: generator.integers(-limit, limit + 1, lane_count, dtype=np.int32)
        for name in ends.context.roster.names
    }
    return Played(ends, terms, lanes)
