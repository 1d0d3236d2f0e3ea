"""A site in one of its maintenance windows (`policies.maintenance`) starts nothing on its data.

If the window ends within half of the plan's deadline, a round waits for its end; the witness goes on meanwhile. If
not, the plan is declined before it is approved, or the round is withheld, with the code `site.maintenance`; nothing
was reserved by then. What had begun under a reservation is finished, in a window or not.
"""

from __future__ import annotations

from datetime import UTC, datetime

from ledger.errors import CodedError, Violation
from policies.events import Published
from policies.inquiry import AnyPlan
from policies.maintenance import window_end_s
from policies.state import FederationState
from tasks.site.party import Site
from tasks.step import step

WAITING_SHARE = 0.5
"""How much of a plan's deadline a site may wait; the rest is for the work."""
_CLOCK_SLACK_S = 60.0


class MaintenanceError(CodedError):
    code = "site.maintenance"
    kind = "policy"


def in_window(site: Site) -> bool:
    return window_end_s(site.config.policy.maintenance, site.now_s) is not None


def too_long(site: Site, plan: AnyPlan) -> list[Violation]:
    """Why the plan's first round could not wait for the end of a window that holds now."""
    end_s = window_end_s(site.config.policy.maintenance, site.now_s)
    if end_s is None or end_s - site.now_s <= WAITING_SHARE * plan.participation.deadline_s:
        return []
    return [Violation(MaintenanceError.code, _message(site, end_s))]


@step
async def await_window(site: Site, published: Published, round_number: int) -> None:
    """Return once the round's work may start here; raises MaintenanceError if that is too late for the round."""
    end_s = window_end_s(site.config.policy.maintenance, site.now_s)
    if end_s is None:
        return
    if too_long(site, published.plan):
        raise MaintenanceError(_message(site, end_s))
    site.tell("wait for the end of the maintenance window", round_number)
    site.keep_diagnostics(f"{_message(site, end_s)}; round {round_number} waits for it")
    closed = (published.plan_digest, round_number, published.plan.steps[0])

    def may_start(state: FederationState) -> bool | None:
        if closed in state.closed or (published.plan_digest, round_number) in state.verdicts:
            return False
        return True if site.now_s >= end_s else None

    if not await site.until(
        may_start,
        timeout_s=end_s - site.now_s + _CLOCK_SLACK_S,
        waiting_for="the end of the maintenance window",
    ):
        raise MaintenanceError(f"{_message(site, end_s)}, and the round was closed before")


def has_begun(site: Site, published: Published, round_number: int) -> bool:
    """Whether the round's cost is reserved and not settled yet, or its reports are closed: what is left of it is
    finished, in a window or not."""
    digest = published.plan_digest
    attempt = site.latest.attempts.get((digest, round_number, site.name), 0)
    settled = site.latest.settled.get((digest, round_number, site.name))
    reserved = attempt > 0 and (settled is None or settled.attempt < attempt)
    return reserved or (digest, round_number, published.plan.steps[0]) in site.state.closed


def _message(site: Site, end_s: int) -> str:
    until = datetime.fromtimestamp(end_s, UTC).isoformat(timespec="minutes").replace("+00:00", "Z")
    return f"{site.name} is in its maintenance window until {until}"
