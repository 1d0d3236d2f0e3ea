"""What the hospitals of a rollout demo put on record for a phase: papers, and that their sources conform.

The check is what `wardround site conform` runs, in processes that serve every phase. What comes of it is left in the
hospital's home, and its served site says it as soon as the coordinator runs.
"""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from adapters.home import Home, SiteConfig
from adapters.unsaid import Unsaid
from ledger import canonical
from policies.federation import Phase
from policies.rollout.statements import Agreement, AgreementRecorded
from tasks.planning import read_plan
from tasks.rollout.conformance import conform, recorded
from wardround.rollout.cast import PILOT_SITES, SITES, Cast, sites_of

_AT_ONCE: Final = 2


@dataclass(frozen=True, slots=True)
class Records:
    cast: Cast
    checkers: ProcessPoolExecutor

    async def of_phase(self, phase: Phase) -> None:
        """Everybody's conformance for the phase, and at its beginning the papers."""
        if phase == "foundation":
            for site in SITES:
                self._papers(site)
        await asyncio.gather(*(self.conformance(phase, site) for site in sites_of(phase)))

    async def conformance(self, phase: Phase, site: str) -> None:
        """Of one hospital; one whose source does not conform records nothing."""
        studied: Phase = phase
        if phase == "foundation":  # whose own plan asks nothing of a source
            studied = "pilot" if site in SITES[:PILOT_SITES] else "expansion"
        plan, home = self.cast.plan(studied), self.cast.sites[site]
        passed = await asyncio.get_running_loop().run_in_executor(self.checkers, _conforms, home, plan)
        if passed:
            Unsaid(home).put(recorded(read_plan(plan)))

    def _papers(self, site: str) -> None:
        for kind in get_args(Agreement):
            paper = self.cast.root / "papers" / site / f"{kind}.txt"
            if not paper.exists():
                paper.parent.mkdir(parents=True, exist_ok=True)
                paper.write_text(f"An invented agreement of {site} for the rollout demo: {kind}\n")
            body = AgreementRecorded(kind=kind, document_digest=canonical.digest(paper.read_bytes()))
            Unsaid(self.cast.sites[site]).put(body)


@contextmanager
def keeping_records(cast: Cast) -> Iterator[Records]:
    with ProcessPoolExecutor(_AT_ONCE, mp_context=multiprocessing.get_context("spawn")) as checkers:
        yield Records(cast, checkers)


def _conforms(home: Path, plan: Path) -> bool:
    """In a process of its own, where what a check prints and logs is nobody else's."""
    institution = Home(home)
    return all(check.passed for check in conform(institution, institution.read(SiteConfig), read_plan(plan)))
