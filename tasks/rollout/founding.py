"""Wait for what the sites of a foundation record themselves: agreements, and that their source conforms."""

from __future__ import annotations

from contextlib import suppress

from policies.rollout import gate
from policies.rollout.record import Opened
from policies.state import FederationState
from tasks.background import DeadlineError
from tasks.coordinator.party import Coordinator
from tasks.step import step

RECORDED = frozenset(("phase.conformance", "phase.agreements"))


@step
async def await_sites(coordinator: Coordinator, opened: Opened, *, wait_s: float) -> None:
    """Until enough sites have recorded both, or `wait_s` are over: what is missing then, the measurement names."""
    coordinator.tell("wait for the sites' records")

    def recorded(state: FederationState) -> bool | None:
        missing = {violation.code for violation in gate.exit_violations(state, opened)}
        return None if missing & RECORDED else True

    with suppress(DeadlineError):
        await coordinator.until(recorded, timeout_s=wait_s, waiting_for="the sites' records")
