"""All roles of a federation in one process: for the demo, tests and benchmarks, never between institutions.

The roles share nothing but the exchange folder and the Prefect API; each has its home, its keys, its working
process and its own view of the ledger, as it would elsewhere (docs/adr/0003).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from flows.coordinator import federated_round
from flows.site import site_round

GRACE_S = 60.0


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
