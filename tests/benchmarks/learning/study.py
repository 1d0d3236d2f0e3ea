"""What a task of the learning benchmark is: cases over the same data, each trained anew for every seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from policies.plan import Plan
from tasks.train.examples import Examples
from tasks.train.weights import Weights
from tests.benchmarks.learning.federation import centralised, spent, trained

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    label: str
    plan: Plan
    central: bool = False
    private: bool = True
    aim: str = ""

    def epsilon(self) -> float | None:
        return spent(self.plan) if self.private else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """What the sites train on, and what is measured on: of nobody's training data."""

    sites: Sequence[Examples]
    tests: Sequence[Examples]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    name: str
    title: str
    figures: tuple[str, ...]
    words: str
    """What the reader must know of split, seeds and choice."""
    cases: Callable[[], Sequence[Case]]
    data: Callable[[Path, Plan, int], Data]
    """(folder of this seed, plan, seed)."""
    measure: Callable[[Plan, Weights, Sequence[Examples]], Figures]

    def run(
        self, case: Case, seed: int, folder: Path, on_round: Callable[[int, int], None] | None = None
    ) -> Figures:
        data = self.data(folder, case.plan, seed)
        plan, sites = case.plan, list(data.sites)
        if case.central:
            plan, sites = centralised(plan), [pooled(sites)]
        weights = trained(plan, sites, seed=seed, private=case.private, on_round=on_round)
        return self.measure(plan, weights, data.tests)


def pooled(sites: Sequence[Examples]) -> Examples:
    """Everybody at one site; nobody is at two."""
    starts = np.cumsum([0, *(int(site.patients.max()) + 1 for site in sites)])
    return Examples(
        np.concatenate([site.inputs for site in sites]),
        np.concatenate([site.targets for site in sites]),
        np.concatenate([site.patients + start for site, start in zip(sites, starts, strict=False)]),
    )
