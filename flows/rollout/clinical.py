"""Clinical: images with much at stake, validated on patients of every site before a model becomes the champion.

A run is one night, and every drill of the terms that was not passed since. Confidence bounds, calibration and
subgroups are read off the opened figures, which costs nothing (`policies.rollout.gate`); the last sign-off promotes
the model (`tasks.rollout.promotion`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State

from flows.rollout.phase import run_phase_night
from flows.rollout.work import spend_night_with_drills
from policies.rollout.statements import Drill


@flow(name="clinical", persist_result=False, retries=0, validate_parameters=False)
async def clinical(
    home: str,
    terms: str,
    plan: str,
    edition: str | None = None,
    cron: str | None = None,
    time_zone: str = "UTC",
    sabotage: Drill | None = None,
) -> State[None]:
    """A night of the clinical phase; parameters as of `flows.rollout.expansion`."""
    return await run_phase_night(
        Path(home),
        Path(terms),
        Path(plan),
        partial(spend_night_with_drills, sabotage=sabotage),
        edition=edition,
        cron=cron,
        time_zone=time_zone,
    )
