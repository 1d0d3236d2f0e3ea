"""An in-memory consortium: real homes, keys, ledger, witnesses and gates; sessions in threads, no Prefect.

Nothing is mocked. What differs from a demo is where the sessions run (threads) and how small the plan is.
A test changes one thing, by a seam that the product has anyway: a worker, an exchange, a file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import yaml

from adapters.exchange import Exchange
from adapters.home import CoordinatorConfig, Home, SiteConfig, SourceConfig
from adapters.institution_log import read_state
from flows.coordinator import run_plan
from flows.site import take_part
from policies.federation import Pool
from policies.plan import Plan
from policies.state import FederationState
from tasks.coordinator.party import Coordinator, opened_coordinator
from tasks.found import Founded, FoundingSite, found
from tasks.planning import approved
from tasks.site.party import Site, opened_site
from tasks.worker.coordinator_session import CoordinatorSession
from tasks.worker.process import InlineWorker, Worker
from tasks.worker.site_session import SiteSession

SITES = ("hospital-a", "hospital-b", "hospital-c", "hospital-d")

TINY_PLAN = """
schema_version: 1
name: tiny
study: tiny-study
edition: "1"
base: initial
rounds: 1
seed: 0
participation: {required: [], minimum_sites: 3, deadline_s: 20}
data:
  image: {height_px: 8, width_px: 8, modalities: [CR]}
  labels: [0, 1]
  minimum_patients: 20
  held_out_fraction: 0.25
network: {name: Classifier, channels: [4], strides: [2], norm_groups: 2}
training:
  sampling_rate: 0.2
  steps: 2
  noise_multiplier: 2.0
  clip_l2: 1.0
  learning_rate: 0.1
  nominal_batch_patients: 10.0
update: {clip_l2: 8.0, lane_bits: 22, maximum_sites: 50, server_learning_rate: 1.0}
protection: {scheme: homomorphic}
evaluation: {bins: 8, noise_std: 4.0}
budget: {epsilon_cap: 8.0, delta: 1.0e-5}
gates: {minimum_auc: 0.0}
"""


def tiny_plan(**fields: object) -> Plan:
    """The tiny plan with some top-level fields replaced, approved for the running code."""
    value = yaml.safe_load(TINY_PLAN)
    value.update(fields)
    return approved(Plan.from_value(value, what="plan"))


def write_shard(path: Path, *, patients: int = 60, seed: int = 0) -> None:
    """A site's shard of small images whose label shows in their brightness."""
    random = np.random.default_rng(seed)
    labels = np.arange(patients) % 2
    images = random.integers(0, 120, (patients, 8, 8)) + labels[:, None, None] * 100
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        images=images.astype(np.uint8),
        labels=labels.astype(np.int64),
        patients=np.array([f"invented-{seed}-{number}" for number in range(patients)]),
        modality=np.array("CR"),
    )


SiteWorker = Callable[[Home, SiteConfig], Worker[SiteSession]]


def inline_site(home: Home, config: SiteConfig) -> Worker[SiteSession]:
    return InlineWorker(SiteSession, home.root, party=config.name, log=home.log)


def inline_coordinator(home: Home, config: CoordinatorConfig) -> Worker[CoordinatorSession]:
    return InlineWorker(CoordinatorSession, home.root, party=config.name, log=home.log)


@dataclass
class Outcome:
    """What a run came to: errors by party, and the coordinator's ledger state afterwards."""

    errors: dict[str, BaseException]
    state: FederationState


@dataclass
class Consortium:
    """A founded federation in a temporary folder."""

    founded: Founded
    workers: dict[str, SiteWorker] = field(default_factory=dict)
    exchange: Exchange | None = None

    @classmethod
    def found(
        cls,
        root: Path,
        *,
        sites: tuple[str, ...] = SITES,
        cap: float = 8.0,
        patients: dict[str, int] | None = None,
    ) -> Consortium:
        for number, name in enumerate(sites):
            write_shard(root / "data" / f"{name}.npz", patients=(patients or {}).get(name, 60), seed=number)
        sources = tuple(
            FoundingSite(name, SourceConfig(kind="npz", path=str(root / "data" / f"{name}.npz")))
            for name in sites
        )
        pool = Pool(epsilon_cap_micro=int(cap * 1_000_000), delta=1e-5)
        return cls(found(root, sources, name="test", pool=pool))

    def state(self) -> FederationState:
        return read_state(Home(self.founded.coordinator))[0]

    async def run(
        self,
        plan: Plan,
        *,
        absent: tuple[str, ...] = (),
        wait_s: float = 20.0,
        coordinate: Callable[[Coordinator, Plan], object] | None = None,
    ) -> Outcome:
        """Run the plan with every site but the `absent`; errors are returned by party, not raised."""
        errors: dict[str, BaseException] = {}
        async with AsyncExitStack() as stack:
            coordinator = await stack.enter_async_context(
                opened_coordinator(
                    self.founded.coordinator, exchange=self.exchange, worker=inline_coordinator
                )
            )
            running: dict[str, asyncio.Task[None]] = {}
            for name, home in self.founded.sites.items():
                if name in absent:
                    continue
                site: Site = await stack.enter_async_context(
                    opened_site(home, exchange=self.exchange, worker=self.workers.get(name, inline_site))
                )
                running[name] = asyncio.create_task(
                    take_part(site, plan_digest=plan.content_digest(), wait_s=wait_s)
                )
            try:
                await run_plan(coordinator, plan)
            except Exception as error:  # noqa: BLE001 - handed to the test
                errors["coordinator"] = error
            _, stuck = await asyncio.wait(running.values(), timeout=wait_s)
            for task in stuck:
                task.cancel()
            for name, outcome in zip(
                running, await asyncio.gather(*running.values(), return_exceptions=True), strict=True
            ):
                if isinstance(outcome, BaseException):
                    errors[name] = outcome
            return Outcome(errors, coordinator.state)
