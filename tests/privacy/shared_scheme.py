"""All ends of one shared sum, for tests: sites named site-00, site-01, ..., the first of them aggregators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from privacy.packing import Lanes, Packing
from privacy.protected_sum import Answer, Report
from privacy.sealing import SealingKey
from privacy.shared_sum import Aggregator, SharedSum
from privacy.sum_context import Participant, Roster, SumContext
from tests.privacy.masking.rosters import Sites, sites

if TYPE_CHECKING:  # the contract suite imports this module
    from tests.privacy.sum_contract import Ends, Terms

# The format of a report among three aggregators (`privacy.shared_frame`).
COMMITMENTS, SEALED, VECTOR = 48, 48 + 3 * 32, 48 + 3 * 117
COUNT = 300
PACKING = Packing(lane_bits=22, maximum_sites=5)
KEYS = tuple(SealingKey.generate() for _ in range(3))


def context(sites: int, *, round_number: int = 1, model: str = "ab" * 32) -> SumContext:
    roster = Roster(
        tuple(
            Participant(name=f"site-{number:02}", masking_key=bytes([number + 1]) * 32)
            for number in range(sites)
        )
    )
    return SumContext(
        origin="test.example/log",
        study="study",
        plan_digest="cd" * 32,
        round=round_number,
        step="statistics",
        attempt=1,
        scheme="shared",
        model_digest=model,
        minimum_sites=3,
        roster=roster,
    )


@dataclass
class SharedScheme:
    """`sites` by name, and the coordinator's end, which also every auditor can have."""

    sites: dict[str, SharedSum]
    coordinator: SharedSum

    @classmethod
    def of(
        cls, about: SumContext, *, lane_count: int, aggregators: int = 3, packing: Packing | None = None
    ) -> SharedScheme:
        names = about.roster.names
        packing = packing or Packing(lane_bits=22, maximum_sites=max(5, len(names)))
        chosen = tuple(
            Aggregator(name=name, sealing_key=key.public_bytes())
            for name, key in zip(names[:aggregators], KEYS, strict=False)
        )
        return cls(
            sites={
                name: SharedSum(
                    about,
                    packing,
                    lane_count,
                    aggregators=chosen,
                    name=name,
                    key=KEYS[number] if number < aggregators else None,
                )
                for number, name in enumerate(names)
            },
            coordinator=SharedSum(about, packing, lane_count, aggregators=chosen),
        )

    def reports(self, lanes: Mapping[str, Lanes]) -> dict[str, Report]:
        return {name: self.sites[name].protect(row) for name, row in lanes.items()}

    @property
    def aggregators(self) -> tuple[str, ...]:
        return self.coordinator.aggregators

    def answers(self, closed: Mapping[str, Report], *, of: Iterable[str] | None = None) -> dict[str, Answer]:
        """The answers of all who are in the set and have one; with `of`, of these sites."""
        found = {name: self.sites[name].answer(closed) for name in (closed if of is None else of)}
        return {name: answer for name, answer in found.items() if answer is not None}


class SharedEnds:
    """Three sites aggregate: of seven, such that one may miss any of the others."""

    def __init__(self, told: Sites) -> None:
        self.context = told.context
        names = told.names
        chosen = (names[2], names[5], names[6]) if len(names) == 7 else names[:3]
        self._keys = dict(zip(chosen, KEYS, strict=True))
        self._aggregators = tuple(
            Aggregator(name=name, sealing_key=key.public_bytes()) for name, key in self._keys.items()
        )
        self._reported: set[tuple[str, bytes]] = set()

    def site(self, name: str, terms: Terms) -> SharedSum:
        place = (name, terms.context.label("reported"))
        restarted = place in self._reported
        self._reported.add(place)
        return SharedSum(
            terms.context,
            terms.packing,
            terms.lane_count,
            aggregators=self._aggregators,
            name=name,
            key=self._keys.get(name),
            protected=restarted,
        )

    def coordinator(self, terms: Terms) -> SharedSum:
        return SharedSum(terms.context, terms.packing, terms.lane_count, aggregators=self._aggregators)


@dataclass(frozen=True)
class Shared:
    """It recovers from no silent aggregator, and needs no other site: the suite's thresholds are not its own."""

    name: str = "shared"
    largest: int = 50
    recovers: bool = False

    def ends(self, count: int) -> Ends:
        return SharedEnds(sites(count, scheme="shared"))


def random_lanes(scheme: SharedScheme, *, count: int, limit: int, seed: int = 0) -> dict[str, Lanes]:
    generator = np.random.default_rng(seed)
    return {
        name: generator.integers(-limit, limit, count, endpoint=True, dtype=np.int32) for name in scheme.sites
    }


def five() -> tuple[SharedScheme, dict[str, Lanes], dict[str, Report]]:
    scheme = SharedScheme.of(context(5), lane_count=COUNT, packing=PACKING)
    lanes = random_lanes(scheme, count=COUNT, limit=PACKING.site_limit)
    return scheme, lanes, scheme.reports(lanes)


def total(lanes: dict[str, Lanes], names: list[str]) -> Lanes:
    added: Lanes = np.sum([lanes[name] for name in names], axis=0, dtype=np.int32)
    return added
