"""Stop a nightly schedule the night before it would overspend, with a reason that a person can act on.

Asked after a night's run: would the same plan, as the next night's edition, be admitted? If not, the deployment is
paused and the run says why, so that nobody finds out from a night that failed. Rules live in `policies.forecast`.
"""

from __future__ import annotations

from adapters.home import write_atomically
from ledger import canonical
from ledger.canonical import JsonValue
from ledger.errors import Violation
from policies.events import PlanPublished
from policies.forecast import next_run_violations
from tasks.coordinator.party import Coordinator
from tasks.step import step


@step
async def foresee(coordinator: Coordinator, published: PlanPublished) -> list[Violation]:
    """What would refuse the next run of the plan; kept in the coordinator's own report, whatever it is."""
    found = next_run_violations(coordinator.state, published.plan)
    value: dict[str, JsonValue] = {
        "plan_digest": published.plan_digest,
        "violations": [{"code": item.code, "message": item.message} for item in found],
    }
    write_atomically(coordinator.home.root / "next-night.json", canonical.encode(value))
    return found
