"""Foundation: sites have their papers and a checked source, and a dry round without any patient's data.

The dry round's plan learns from phantoms that every site makes (`DataContract.source`), so that connectivity, code,
signatures, masks and finality are proved before the first patient is touched; the rules refuse any other plan in this
phase. Agreements and conformance are recorded by the sites themselves (`wardround site agreement`, `conform`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from prefect import flow
from prefect.client.schemas.objects import State

from flows.coordinator import run_plan
from flows.rollout.phase import ended, run_phase
from policies.plan import Plan
from policies.rollout.record import Opened
from tasks.coordinator.party import Coordinator, opened_coordinator
from tasks.planning import read_plan
from tasks.rollout.founding import await_sites
from tasks.rollout.terms import read_terms


@flow(name="foundation", persist_result=False, retries=0, validate_parameters=False)
async def foundation(home: str, terms: str, plan: str, wait_s: float = 600.0) -> State[None]:
    """Lay the foundation under the terms in file `terms`, with the dry round of file `plan`; wait for the sites'
    records for `wait_s`."""
    wanted, dry = read_terms(Path(terms)), read_plan(Path(plan))
    async with opened_coordinator(Path(home)) as coordinator:
        standing = await run_phase(coordinator, wanted, partial(lay_foundation, plan=dry, wait_s=wait_s))
    return ended(wanted, standing)


async def lay_foundation(coordinator: Coordinator, opened: Opened, *, plan: Plan, wait_s: float) -> None:
    await run_plan(coordinator, plan)
    await await_sites(coordinator, opened, wait_s=wait_s)
