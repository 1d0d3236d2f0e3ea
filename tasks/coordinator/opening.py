"""Open the closed set's sums, and wait until enough key holders found the same.

The coordinator opens like everybody else, out of the sites' answers (`tasks.opening`). What it publishes counts only
with the word of f + 1 key holders, who sign the sums and, of training, what follows from them.
"""

from __future__ import annotations

from adapters import objects
from policies.events import Published
from policies.opening import SignedOpening
from policies.receipt import Step
from policies.state import FederationState
from tasks.background import DeadlineError
from tasks.coordinator.party import Coordinator
from tasks.opening import NotOpenedError, Opened, agreed_sum, open_closed
from tasks.step import step
from tasks.summing import GroupSum
from tasks.worker.coordinator_session import CoordinatorSession


@step
async def open_sum(coordinator: Coordinator, published: Published, round_number: int, kind: Step) -> Opened:
    """Open the sums as the coordinator finds them, and lay them where sites look."""
    coordinator.tell("open the sum", round_number)

    async def open_sums(groups: list[GroupSum]) -> bytes:
        return await coordinator.worker.call(CoordinatorSession.open_sums, published.plan, groups)

    opened = await open_closed(coordinator, published, round_number, kind, open_sums)
    objects.store(coordinator.exchange, opened.lanes)
    return opened


@step
async def confirm(
    coordinator: Coordinator,
    published: Published,
    round_number: int,
    kind: Step,
    total: Opened,
    outcome_digest: str | None = None,
) -> tuple[SignedOpening, ...]:
    """The openings of enough key holders who found these sums, and this outcome."""
    coordinator.tell("wait for openings", round_number)

    def agreed(state: FederationState) -> tuple[SignedOpening, ...] | None:
        return agreed_sum(
            coordinator.exchange,
            state,
            published,
            round_number,
            kind,
            sum_digest=total.digest,
            outcome_digest=outcome_digest,
        )

    try:
        return await coordinator.until(
            agreed, timeout_s=published.plan.participation.deadline_s, waiting_for="openings"
        )
    except DeadlineError:
        required = coordinator.federation.openings_required()
        raise NotOpenedError(
            f"fewer than {required} key holders found the same sum in round {round_number}",
            remedy="See whether the key holders are running; then resume.",
        ) from None
