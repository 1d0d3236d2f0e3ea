"""All ends of one shared sum, for tests: sites named site-00, site-01, ..., the first of them aggregators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from privacy.packing import Lanes, Packing
from privacy.protected_sum import Answer, Report
from privacy.sealing import SealingKey
from privacy.shared_sum import Aggregator, SharedSum
from privacy.sum_context import Participant, Roster, SumContext

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


def random_lanes(scheme: SharedScheme, *, count: int, limit: int, seed: int = 0) -> dict[str, Lanes]:
    generator = np.random.default_rng(seed)
    return {
        name: generator.integers(-limit, limit, count, endpoint=True, dtype=np.int32) for name in scheme.sites
    }
