"""Select and validate at the site, before any round."""

from __future__ import annotations

from ledger.errors import PolicyViolation
from policies.events import PlanPublished
from policies.site_policy import cohort_violations
from tasks.site.party import Site
from tasks.step import step
from tasks.worker.site_session import Prepared, SiteSession


@step
async def prepare(site: Site, published: PlanPublished) -> Prepared:
    """Load the cohort of those who consent, hold it against the plan's contract and the site's own policy; raises
    with every broken rule."""
    prepared = await site.worker.call(SiteSession.prepare, published.plan)
    await judge_cohort(site, published)
    return prepared


async def judge_cohort(site: Site, published: PlanPublished) -> None:
    """Select those who consent now, as a round does when it begins, and hold them against the contract and the site's
    own policy. Before the round's cost is reserved: patients may have left since the last one."""
    pool = site.member.pool
    register, cohort = await site.worker.call(SiteSession.begin_round)
    found = cohort_violations(
        published.plan,
        site.config.policy,
        site=site.name,
        pool_delta=0.0 if pool is None else pool.delta,
        register_patients=register,
        cohort_patients=cohort,
    )
    if found:
        raise PolicyViolation(found)
