"""Expansion: more sites and images, and a federation that shows that it holds when something goes wrong.

A run is one night, and every drill of the terms that was not passed since they were published.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State

from flows.rollout.phase import run_phase_night
from flows.rollout.work import spend_night_with_drills
from policies.rollout.statements import Drill


@flow(name="expansion", persist_result=False, retries=0, validate_parameters=False)
async def expansion(
    home: str,
    terms: str,
    plan: str,
    edition: str | None = None,
    cron: str | None = None,
    time_zone: str = "UTC",
    sabotage: Drill | None = None,
) -> State[None]:
    """A night of the expansion; parameters as of `flows.rollout.pilot`. `sabotage` is a drill that is run with its
    control switched off, to see the gate refuse."""
    return await run_phase_night(
        Path(home),
        Path(terms),
        Path(plan),
        partial(spend_night_with_drills, sabotage=sabotage),
        edition=edition,
        cron=cron,
        time_zone=time_zone,
    )
