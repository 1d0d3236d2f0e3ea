"""All roles of a federation in one process: for the demo, tests and benchmarks, never between institutions.

The roles share nothing but the exchange folder and the Prefect API; each has its home, its keys, its working
process and its own view of the ledger, as it would elsewhere (docs/adr/0003).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from prefect import flow

from flows.coordinator import federated_round
from flows.site import keep_serving, site_round
from ledger.errors import CodedError
from tasks.site.party import opened_site

GRACE_S = 60.0
PAUSE_S = 1.0


async def run_together(
    coordinator: Path, sites: Mapping[str, Path], plan: Path, *, plan_digest: str, wait_s: float = 120.0
) -> dict[str, BaseException]:
    """Run one plan over all sites. Raises what the coordinator's flow raised; returns the sites' errors."""
    running = {
        name: asyncio.create_task(site_round(home=str(home), plan_digest=plan_digest, wait_s=wait_s))
        for name, home in sites.items()
    }
    try:
        await federated_round(home=str(coordinator), plan=str(plan))
    finally:
        # Sites that follow the ledger end by themselves; whoever still waits then is told to stop.
        _, stuck = await asyncio.wait(running.values(), timeout=GRACE_S)
        for task in stuck:
            task.cancel()
        outcomes = await asyncio.gather(*running.values(), return_exceptions=True)
    return {
        name: outcome
        for name, outcome in zip(running, outcomes, strict=True)
        if isinstance(outcome, BaseException)
    }


@asynccontextmanager
async def all_serving(sites: Mapping[str, Path]) -> AsyncIterator[None]:
    """Every site takes part in whatever comes, until this is left: as each would under `wardround site serve`."""
    serving = [asyncio.create_task(served_site(home=str(home))) for home in sites.values()]
    try:
        yield
    finally:
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


@flow(name="served-site", persist_result=False, retries=0, validate_parameters=False)
async def served_site(home: str, wait_s: float = 300.0) -> None:
    """A site in one process from plan to plan, so that nothing is loaded twice; ends when it is cancelled."""
    while True:
        # The home is refused while another run has it.
        with suppress(CodedError):
            async with opened_site(Path(home)) as site:
                await keep_serving(site, wait_s=wait_s, pause_s=PAUSE_S)
        await asyncio.sleep(PAUSE_S)
