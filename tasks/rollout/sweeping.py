"""Keep what privacy would cost a plan (`tasks.rollout.sweep`) in the coordinator's home, before its first night.

<coordinator's home>/sweeps/<study>/     once a study: its nights may differ in what they ask of an evaluation
"""

from __future__ import annotations

import asyncio
from functools import partial

from ledger.errors import CodedError
from policies.plan import Plan
from tasks.coordinator.party import Coordinator
from tasks.rollout.sweep import sweep
from tasks.step import repeatable_step


@repeatable_step
async def sweep_once(coordinator: Coordinator, plan: Plan) -> None:
    """Nothing is decided by it: a plan that no sweep can be made of is run all the same."""
    folder = coordinator.home.root / "sweeps" / plan.study
    if folder.exists():
        return
    coordinator.tell("sweep epsilon, clip and rounds on stand-in data")
    beside = folder.with_name(f".{folder.name}.writing")
    tell = partial(coordinator.tell, "sweep epsilon, clip and rounds on stand-in data", 0)
    try:
        await asyncio.to_thread(sweep, plan, beside, on_point=tell)
    except CodedError as error:
        coordinator.keep_diagnostics(f"no sweep of the plan: {error.code}")
    else:
        beside.rename(folder)
