"""Pilot: a workflow of limited risk at a few sites, night after night, against thresholds that were published before.

A run is one night: it trains the night's edition of the plan, and measures the phase once enough nights are
registered, so that a schedule can start it (`deployments/prefect.yaml`). What privacy costs is swept first, on items
that the plan's contract alone describes; no patient is touched for it.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State

from flows.rollout.phase import run_phase_night
from flows.rollout.work import spend_night
from policies.plan import Plan
from policies.rollout.record import Opened
from tasks.coordinator.party import Coordinator
from tasks.rollout.sweeping import sweep_once


@flow(name="pilot", persist_result=False, retries=0, validate_parameters=False)
async def pilot(
    home: str,
    terms: str,
    plan: str,
    edition: str | None = None,
    cron: str | None = None,
    time_zone: str = "UTC",
) -> State[None]:
    """A night of the pilot under the terms in file `terms`, with the plan in file `plan` as `edition` if given
    ("date": the night's, by the schedule of `cron` and `time_zone`)."""
    return await run_phase_night(
        Path(home), Path(terms), Path(plan), try_out, edition=edition, cron=cron, time_zone=time_zone
    )


async def try_out(coordinator: Coordinator, opened: Opened, plan: Plan) -> list[str]:
    await sweep_once(coordinator, plan)
    return await spend_night(coordinator, opened, plan)
