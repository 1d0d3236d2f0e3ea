"""Stop a nightly schedule the night before it would overspend, with a reason that a person can act on.

Asked after a night's run: would the same plan, as the next night's edition, be admitted? If not, the deployment is
paused and the run says why, so that nobody finds out from a night that failed. Rules live in `policies.forecast`.
"""

from __future__ import annotations

from adapters.home import Home, write_atomically
from ledger import canonical
from ledger.canonical import JsonValue
from ledger.errors import Violation
from policies.events import PlanPublished
from policies.forecast import next_run_violations
from tasks.coordinator.party import Coordinator
from tasks.step import step

FILE = "next-night.json"


@step
async def foresee(coordinator: Coordinator, published: PlanPublished) -> list[Violation]:
    """What would refuse the next run of the plan; kept in the coordinator's own report, whatever it is."""
    found = next_run_violations(coordinator.state, published.plan)
    value: dict[str, JsonValue] = {
        "plan_digest": published.plan_digest,
        "violations": [{"code": item.code, "message": item.message} for item in found],
    }
    write_atomically(coordinator.home.root / FILE, canonical.encode(value))
    return found


def foreseen(home: Home) -> list[str]:
    """Why the next night was stopped when the last one ended, as it was said then."""
    try:
        value = canonical.decode((home.root / FILE).read_bytes())
    except FileNotFoundError:
        return []
    listed = value.get("violations") if isinstance(value, dict) else None
    if not isinstance(listed, list):
        return []
    return [str(item["message"]) for item in listed if isinstance(item, dict)]
