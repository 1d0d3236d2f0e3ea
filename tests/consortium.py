"""An in-memory consortium: real homes, keys, ledger, witnesses and gates; sessions in threads, no Prefect.

Nothing is mocked. What differs from a demo is where the sessions run (threads) and how small the plan is.
A test changes one thing, by a seam that the product has anyway: a worker, an exchange, a file.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from adapters.clock import Clock
from adapters.exchange import DirectoryExchange, Exchange
from adapters.home import ConsentConfig, CoordinatorConfig, Home, SiteConfig, SourceConfig
from adapters.institution_log import read_state
from flows.coordinator import run_plan
from flows.site import take_part
from flows.statistics import run_inquiry
from ledger.errors import CodedError
from policies.federation import Phase, Pool
from policies.inquiry import AnyPlan, Inquiry
from policies.receipt import Step
from policies.state import FederationState
from tasks.coordinator.party import Coordinator, opened_coordinator
from tasks.found import COORDINATOR, Founded, FoundingSite, found
from tasks.progress import Progress, listen
from tasks.rollout.officers import default_officers, default_sign_offs
from tasks.site.party import Site, opened_site
from tasks.worker.coordinator_session import CoordinatorSession
from tasks.worker.process import InlineWorker, Worker
from tasks.worker.site_session import SiteSession
from tests.consents import WAIVER
from tests.plans import tiny_plan as tiny_plan

T = TypeVar("T")
SITES = ("hospital-a", "hospital-b", "hospital-c", "hospital-d")


def write_shard(path: Path, *, patients: int = 200, seed: int = 0) -> None:
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
CoordinatorWorker = Callable[[Home, CoordinatorConfig], Worker[CoordinatorSession]]


def site_worker(session: type[SiteSession] = SiteSession) -> SiteWorker:
    """A site whose process computes with `session`: the honest one, or one that a test bent."""

    def begin(home: Home, config: SiteConfig) -> Worker[SiteSession]:
        return InlineWorker(session, home.root, party=config.name, log=home.log)

    return begin


def coordinator_worker(session: type[CoordinatorSession] = CoordinatorSession) -> CoordinatorWorker:
    def begin(home: Home, config: CoordinatorConfig) -> Worker[CoordinatorSession]:
        return InlineWorker(session, home.root, party=config.name, log=home.log)

    return begin


class PowerCut(BaseException):
    """Everything stops at once. No `except Exception` of the product sees it, as none would see the real one."""


@dataclass
class Outcome:
    """What a run came to: errors by party, and the coordinator's ledger state afterwards."""

    errors: dict[str, BaseException]
    state: FederationState

    def code(self, party: str) -> str:
        error = self.errors[party]
        assert isinstance(error, CodedError), error
        return error.code

    def missing(self, plan: AnyPlan, round_number: int, step: Step = "training") -> dict[str, str]:
        """{site: code} as the closed round names them."""
        closed = self.state.closed[plan.content_digest(), round_number, step]
        return {absence.site: absence.code for absence in closed.missing}


@dataclass
class Consortium:
    """A founded federation in a temporary folder.

    A test bends it through seams that the product has anyway: the process of a party (`workers`,
    `coordinator`), what a party sees of the exchange (`exchanges`), files in the homes, and a power cut.
    """

    founded: Founded
    workers: dict[str, SiteWorker] = field(default_factory=dict)
    coordinator: CoordinatorWorker = field(default_factory=coordinator_worker)
    exchanges: dict[str, Callable[[Exchange], Exchange]] = field(default_factory=dict)
    clocks: dict[str, Clock] = field(default_factory=dict)
    """Of sites whose clock is not the machine's."""
    opened: Callable[[Coordinator], None] = lambda coordinator: None
    """Is given the coordinator before it runs anything."""

    @classmethod
    def found(
        cls,
        root: Path,
        *,
        sites: tuple[str, ...] = SITES,
        cap: float = 100.0,
        patients: dict[str, int] | None = None,
        token_module: Path | None = None,
        consent: ConsentConfig = WAIVER,
        data: dict[str, SourceConfig] | None = None,
        families: tuple[str, ...] = ("Classifier",),
        phase: Phase = "pilot",
    ) -> Consortium:
        """`data` by site, for other sources than shards of small images."""
        if data is None:
            data = {}
            for number, name in enumerate(sites):
                shard = root / "data" / f"{name}.npz"
                write_shard(shard, patients=(patients or {}).get(name, 200), seed=number)
                data[name] = SourceConfig(kind="npz", path=str(shard))
        sources = tuple(FoundingSite(name, data[name], consent) for name in sites)
        pool = Pool.of(epsilon_cap_micro=int(cap * 1_000_000), delta=1e-5)
        consortium = cls(
            found(
                root,
                sources,
                name="test",
                pool=pool,
                token_module=token_module,
                model_families=families,
                phase=phase,
                officers=default_officers(sites, coordinator=COORDINATOR) if phase == "foundation" else (),
                sign_offs=default_sign_offs(len(sites)) if phase == "foundation" else (),
            )
        )
        shutil.copy(_empty_lineage(), consortium.founded.coordinator / "mlflow.db")
        return consortium

    def state(self) -> FederationState:
        return read_state(Home(self.founded.coordinator))[0]

    def site_log(self, name: str) -> str:
        return Home(self.founded.sites[name]).log.read_text()

    def report(self) -> dict[str, Any]:
        """What the coordinator says of its rounds."""
        value: dict[str, Any] = json.loads(Home(self.founded.coordinator).report.read_text())
        return value

    def registered_versions(self) -> int:
        """Model versions in the registry, whatever the ledger says."""
        with sqlite3.connect(self.founded.coordinator / "mlflow.db") as store:
            count: int = store.execute("SELECT COUNT(*) FROM model_versions").fetchone()[0]
        return count

    async def run(
        self,
        plan: AnyPlan,
        *,
        absent: tuple[str, ...] = (),
        wait_s: float = 20.0,
        cut_at: Callable[[Progress], bool] | None = None,
        leave: bool = False,
    ) -> Outcome:
        """Run the plan with every site but the `absent`; errors are returned by party, not raised.

        `cut_at` cuts everybody's power at the first progress for which it is true. `leave`: the sites do not
        wait out their patience once the coordinator gave up.
        """

        def watch(progress: Progress) -> None:
            if cut_at is not None and cut_at(progress):
                raise PowerCut

        stop_watching = listen(watch)
        shared = DirectoryExchange(self.founded.exchange)
        try:
            async with AsyncExitStack() as stack:
                coordinator = await stack.enter_async_context(
                    opened_coordinator(
                        self.founded.coordinator,
                        exchange=self._exchange_of("coordinator", shared),
                        worker=self.coordinator,
                    )
                )
                self.opened(coordinator)
                running = {"coordinator": asyncio.create_task(_ordered(coordinator, plan))}
                for name, home in self.founded.sites.items():
                    if name not in absent:
                        site = await stack.enter_async_context(
                            opened_site(
                                home,
                                clock=self.clocks.get(name),
                                exchange=self._exchange_of(name, shared),
                                worker=self.workers.get(name, site_worker()),
                            )
                        )
                        running[name] = asyncio.create_task(
                            take_part(site, plan_digest=plan.content_digest(), wait_s=wait_s)
                        )
                errors = await _all_of(running, leave=leave)
                return Outcome(errors, coordinator.state)
        finally:
            stop_watching()

    async def serve(
        self,
        work: Callable[[Coordinator], Awaitable[T]],
        *,
        absent: tuple[str, ...] = (),
        cut_at: Callable[[Progress], bool] | None = None,
    ) -> T:
        """What the coordinator's `work` comes to while every site but the `absent` serves; see `run`."""

        def watch(progress: Progress) -> None:
            if cut_at is not None and cut_at(progress):
                raise PowerCut

        stop_watching = listen(watch)
        shared = DirectoryExchange(self.founded.exchange)
        try:
            async with AsyncExitStack() as stack:
                coordinator = await stack.enter_async_context(
                    opened_coordinator(self.founded.coordinator, exchange=shared, worker=self.coordinator)
                )
                serving = []
                for name in self.founded.sites.keys() - set(absent):
                    site = await stack.enter_async_context(
                        opened_site(
                            self.founded.sites[name],
                            exchange=self._exchange_of(name, shared),
                            worker=self.workers.get(name, site_worker()),
                        )
                    )
                    serving.append(asyncio.create_task(keep_serving(site)))
                try:
                    return await work(coordinator)
                finally:
                    for task in serving:
                        task.cancel()
                    await asyncio.gather(*serving, return_exceptions=True)
        finally:
            stop_watching()

    def _exchange_of(self, name: str, shared: Exchange) -> Exchange:
        return self.exchanges.get(name, lambda exchange: exchange)(shared)


async def keep_serving(site: Site) -> None:
    while True:
        with suppress(CodedError):
            await take_part(site, plan_digest=None, wait_s=20.0)


async def _ordered(coordinator: Coordinator, plan: AnyPlan) -> None:
    if isinstance(plan, Inquiry):
        await run_inquiry(coordinator, plan)
    else:
        await run_plan(coordinator, plan)


async def _all_of(running: dict[str, asyncio.Task[None]], *, leave: bool) -> dict[str, BaseException]:
    """Wait for everybody; a power cut at one ends all. Returns what each raised."""
    pending = set(running.values())
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        over = leave and running["coordinator"].done()
        if over or any(isinstance(task.exception(), PowerCut) for task in done if not task.cancelled()):
            for task in pending:
                task.cancel()
    outcomes = await asyncio.gather(*running.values(), return_exceptions=True)
    return {
        name: outcome
        for name, outcome in zip(running, outcomes, strict=True)
        if isinstance(outcome, BaseException)
    }


@cache
def _empty_lineage() -> Path:
    """An MLflow store without runs: its migrations take seconds, and every federation needs one.

    The other slow imports are done here too, before any test's deadline runs.
    """
    for name in ("great_expectations", "monai.networks.nets.classifier", "opacus"):
        import_module(name)
    from adapters.lineage import Lineage

    root = Path(tempfile.mkdtemp(prefix="wardround-lineage-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    Lineage.open(root, experiment="none", run_name="none", tags={"wardround.plan_digest": "0"}, parameters={})
    return root / "mlflow.db"
