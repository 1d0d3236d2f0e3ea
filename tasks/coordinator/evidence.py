"""Write a round's evidence package, passed or failed, once its end is final. What is in one: `tasks.evidence`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from policies.events import PlanPublished
from tasks.coordinator.party import Coordinator
from tasks.evidence.building import package_name, write_evidence
from tasks.step import repeatable_step


def evidence_path(coordinator: Coordinator, published: PlanPublished, round_number: int) -> Path:
    return coordinator.home.root / "evidence" / package_name(published.plan_digest, round_number)


@repeatable_step
async def record_evidence(coordinator: Coordinator, published: PlanPublished, round_number: int) -> None:
    """Write the package of a round that ended (0: the refused plan), unless it is there."""
    if evidence_path(coordinator, published, round_number).exists():
        return
    registered = coordinator.state.registered.get((published.plan_digest, round_number))
    await asyncio.to_thread(
        write_evidence,
        coordinator.home,
        coordinator.exchange,
        plan_digest=published.plan_digest,
        round_number=round_number,
        run_id=None if registered is None else registered.run_id,
    )
