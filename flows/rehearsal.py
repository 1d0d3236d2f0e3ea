"""A federation that is played through in one process and thrown away: no Prefect, sessions in threads.

For drills, simulations and tests. All else is as between institutions; who plays, and by which seams a party is bent,
is `tasks.rehearsal.cast`. Nothing of a rehearsal is left behind, and nothing of it counts anywhere.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from adapters.home import ConsentConfig
from flows.coordinator import run_plan
from flows.site import keep_serving, take_part
from flows.statistics import run_inquiry
from ledger.errors import CodedError
from policies.federation import Phase
from policies.inquiry import AnyPlan, Inquiry
from policies.plan import Plan
from policies.receipt import Step
from policies.state import FederationState
from tasks.coordinator.party import Coordinator
from tasks.found import COORDINATOR
from tasks.progress import Progress, listen
from tasks.rehearsal.cast import Cast
from tasks.rehearsal.founding import WAIVER, found_to_throw_away, invented_sources

T = TypeVar("T")
WAIT_S = 20.0
LEARNED_PX = 4
"""Columns that tell the label: half an image, so that a network with norms learns it."""


class PowerCut(BaseException):
    """Everything stops at once. No `except Exception` of the product sees it, as none would see the real one."""


@dataclass
class Outcome:
    """What a run came to: errors by party, and the coordinator's ledger state afterwards."""

    errors: dict[str, BaseException]
    state: FederationState

    def code(self, party: str) -> str:
        """Of what ended this party's part; "" if nothing did, or nothing that has a code."""
        error = self.errors.get(party)
        return error.code if isinstance(error, CodedError) else ""

    def missing(self, plan: AnyPlan, round_number: int, step: Step = "training") -> dict[str, str]:
        """{site: code} as the closed round names them."""
        closed = self.state.closed[plan.content_digest(), round_number, step]
        return {absence.site: absence.code for absence in closed.missing}

    def counts(self, plan: Plan) -> bool:
        """Whether every round of the plan has its model, everybody reported in each step, and nobody failed."""
        digest, rounds = plan.content_digest(), range(1, plan.rounds + 1)
        return (
            not self.errors
            and (digest, plan.rounds) in self.state.registered
            and not any(
                self.missing(plan, number, step) for number in rounds for step in plan.steps_of(number)
            )
        )


@dataclass
class Rehearsal(Cast):
    """A founded federation that plays what it is told to."""

    async def run(
        self,
        plan: AnyPlan,
        *,
        absent: tuple[str, ...] = (),
        wait_s: float = WAIT_S,
        cut_at: Callable[[Progress], bool] | None = None,
        leave: bool = False,
    ) -> Outcome:
        """Run the plan with every site but the `absent`; errors are returned by party, not raised.

        `cut_at` cuts everybody's power at the first progress for which it is true. `leave`: the sites do not
        wait out their patience once the coordinator gave up.
        """
        with _cutting(cut_at):
            async with AsyncExitStack() as stack:
                coordinator = await stack.enter_async_context(self.opened_coordinator())
                self.opened(coordinator)
                running = {COORDINATOR: asyncio.create_task(_ordered(coordinator, plan))}
                for name in self.founded.sites:
                    if name not in absent:
                        site = await stack.enter_async_context(self.opened_site(name))
                        running[name] = asyncio.create_task(
                            take_part(site, plan_digest=plan.content_digest(), wait_s=wait_s)
                        )
                errors = await _all_of(running, leave=leave)
                return Outcome(errors, coordinator.state)

    async def serve(self, work: Callable[[Coordinator], Awaitable[T]], *, absent: tuple[str, ...] = ()) -> T:
        """What the coordinator's `work` comes to while every site but the `absent` serves."""
        async with self.serving(absent=absent):
            return await self.conduct(work)

    async def conduct(
        self,
        work: Callable[[Coordinator], Awaitable[T]],
        *,
        cut_at: Callable[[Progress], bool] | None = None,
    ) -> T:
        """What the coordinator's `work` comes to, beside sites that serve. `cut_at` cuts the coordinator's power, at
        its first progress for which it is true; the sites go on."""
        with _cutting(cut_at):
            async with self.opened_coordinator() as coordinator:
                return await work(coordinator)

    @asynccontextmanager
    async def serving(self, *, absent: tuple[str, ...] = ()) -> AsyncIterator[None]:
        """Every site but the `absent` takes part in whatever comes, until this is left."""
        async with AsyncExitStack() as stack:
            serving = list[asyncio.Task[None]]()
            try:
                for name in self.founded.sites.keys() - set(absent):
                    site = await stack.enter_async_context(self.opened_site(name))
                    serving.append(asyncio.create_task(keep_serving(site, wait_s=WAIT_S)))
                yield
            finally:
                for task in serving:
                    task.cancel()
                await asyncio.gather(*serving, return_exceptions=True)


@contextmanager
def rehearsing(
    sites: tuple[str, ...],
    *,
    patients: Mapping[str, int] | None = None,
    consent: ConsentConfig = WAIVER,
    epsilon_cap: float = 1e5,
    phase: Phase = "pilot",
) -> Iterator[Rehearsal]:
    """A new federation of these sites, with invented patients, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="wardround-rehearsal-") as folder:
        sources = invented_sources(Path(folder), sites, patients, width_px=LEARNED_PX)
        founded = found_to_throw_away(
            Path(folder), sources, consent=consent, epsilon_cap=epsilon_cap, phase=phase
        )
        yield Rehearsal(founded)


@contextmanager
def _cutting(cut_at: Callable[[Progress], bool] | None) -> Iterator[None]:
    def watch(progress: Progress) -> None:
        if cut_at is not None and cut_at(progress):
            raise PowerCut

    stop_watching = listen(watch)
    try:
        yield
    finally:
        stop_watching()


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
        over = leave and _gave_up(running[COORDINATOR])
        if over or any(isinstance(task.exception(), PowerCut) for task in done if not task.cancelled()):
            for task in pending:
                task.cancel()
    outcomes = await asyncio.gather(*running.values(), return_exceptions=True)
    return {
        name: outcome
        for name, outcome in zip(running, outcomes, strict=True)
        if isinstance(outcome, BaseException)
    }


def _gave_up(task: asyncio.Task[None]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
