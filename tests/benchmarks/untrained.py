"""Running flows whose sites do not train: the sessions live in spawned processes, as in a demo."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
from prefect import flow

from adapters.home import Home, SiteConfig
from flows.coordinator import federated_round
from flows.site import take_part
from policies.plan import Plan
from tasks.site.party import opened_site
from tasks.train import weights
from tasks.worker.process import WorkerProcess
from tasks.worker.site_session import SiteSession
from tests.consortium import Consortium


class UntrainedSession(SiteSession):
    """Everything a site does but training: the update is drawn at random."""

    def train(self, plan: Plan, base: bytes, round_number: int, attempt: int) -> float:
        start = weights.flatten(self._weights(plan, base))
        self._delta = np.random.default_rng(round_number).normal(0, 1e-3, start.shape).astype(np.float32)
        self._patients_by_round[round_number] = self._present().begin_round().patient_count
        return 0.0


async def run_untrained(consortium: Consortium, path: Path, plan: Plan) -> list[float]:
    """Run every round of the plan in real flows; seconds of each round, as the coordinator measured them."""

    @flow(name="site-untrained", persist_result=False, validate_parameters=False)
    async def site_flow(home: str) -> None:
        def worker(at: Home, config: SiteConfig) -> WorkerProcess[SiteSession]:
            return WorkerProcess(UntrainedSession, at.root, party=config.name, log=at.log)

        async with opened_site(Path(home), worker=worker) as site:
            await take_part(site, plan_digest=plan.content_digest(), wait_s=60.0)

    sites = [asyncio.create_task(site_flow(home=str(home))) for home in consortium.founded.sites.values()]
    await federated_round(home=str(consortium.founded.coordinator), plan=str(path))
    await asyncio.gather(*sites)
    report = json.loads(Home(consortium.founded.coordinator).report.read_text())
    return [float(item["seconds"]) for item in report["rounds"]]
