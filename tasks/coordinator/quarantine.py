"""Quarantine the sites of clusters that a robust plan's aggregate shows to be outliers, with the entry that shows it.

The whole cluster, since nothing smaller is visible: honest sites are among them, and a quorum of the sites takes
them back (`site.released`) once it knows which (docs/robustness.md).
"""

from __future__ import annotations

from policies.events import PlanPublished, SiteQuarantined
from policies.protection import outlying_sites
from tasks.coordinator.party import Coordinator
from tasks.step import step

OUTLIER = "robust.outlier"


@step
async def quarantine_outliers(coordinator: Coordinator, published: PlanPublished, round_number: int) -> None:
    """Say it for each of them that is not in quarantine already; nothing where no cluster is an outlier."""
    key = (published.plan_digest, round_number)
    evidence = next(
        (entry for entry, released in coordinator.state.release_entries.items() if released == key), None
    )
    if evidence is None:
        return
    for site in sorted(outlying_sites(coordinator.state, evidence) - coordinator.state.quarantined.keys()):
        coordinator.tell(f"quarantine {site}", round_number)
        await coordinator.say(SiteQuarantined(site=site, code=OUTLIER, evidence=evidence))
