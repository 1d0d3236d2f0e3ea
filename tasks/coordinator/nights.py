"""Every night of the kept schedules with what came of it, and the ones that were missed said where operators look.

What a night came to follows from the ledger (`policies.nights`), when one was due from the schedules
(`tasks.nightly`). A missed night is named, never made up for.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from prefect.artifacts import acreate_table_artifact
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

from policies.nights import Night, dates_run, judged
from policies.state import FederationState
from tasks.coordinator.party import Coordinator
from tasks.nightly import schedules
from tasks.step import repeatable_step

ARTIFACT: Final = "nights"
SHOWN: Final = 31
GRACE_S: Final = 1800
"""A run that was due so long ago and has published nothing does not come any more."""


async def nights(home: Path, state: FederationState, *, now_s: int) -> tuple[Night, ...]:
    """Every night that was due or was run by `now_s`, in order; none where no schedule is kept."""
    kept, found = schedules(home), dict[tuple[str, str, str], Night]()
    for number, schedule in enumerate(kept):
        plan, study = schedule.plan, schedule.study
        run = dates_run(state, plan=plan, study=study)
        begins = schedule.since_s
        if run and not any((one.plan, one.study) == (plan, study) for one in kept[:number]):
            # The ledger may know of nights from before the schedule was kept.
            first = datetime.combine(min(run), datetime.min.time(), tzinfo=UTC)
            begins = min(begins, int(first.timestamp()) + 86_400)
        ends = kept[number + 1].since_s if number + 1 < len(kept) else now_s
        for night in judged(state, plan=plan, study=study, dates={*await schedule.due(begins, ends), *run}):
            found[plan, study, night.date.isoformat()] = night
        for day in await schedule.due(max(begins, now_s - GRACE_S), ends):
            if found[plan, study, day.isoformat()].outcome == "missed":
                found[plan, study, day.isoformat()] = Night(day, "due")
    return tuple(sorted(found.values(), key=lambda night: night.date))


def newly_missed(listed: Sequence[Night], tonight: str) -> list[Night]:
    """The nights before `tonight` that were missed since the last one that was run."""
    found: list[Night] = []
    for night in listed:
        if night.date.isoformat() >= tonight:
            break
        found = [*found, night] if night.outcome == "missed" else []
    return found


@repeatable_step
async def show_nights(coordinator: Coordinator, listed: Sequence[Night], missed: Sequence[Night]) -> None:
    """Keep the nights as a table beside the run in Prefect, and name those that were missed in both logs."""
    if missed:
        text = f"missed since the last run: {', '.join(night.date.isoformat() for night in missed)}"
        coordinator.keep_diagnostics(text)
        if _in_a_flow():
            get_run_logger().warning(text)
    if _in_a_flow():
        rows = [row(night) for night in reversed(listed[-SHOWN:])]
        await acreate_table_artifact(
            rows, key=ARTIFACT, description="The nights of the schedule; none is made up for."
        )


def _in_a_flow() -> bool:
    return FlowRunContext.get() is not None


def row(night: Night) -> dict[str, str]:
    """A night for people. Names nothing but dates, digests and codes."""
    return {
        "night": night.date.isoformat(),
        "came to": night.outcome,
        "models": "" if night.plan_digest is None else str(night.rounds),
        "why": ", ".join(night.codes),
        "plan": (night.plan_digest or "")[:16],
    }
