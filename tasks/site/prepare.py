"""Select and validate at the site, before any round."""

from __future__ import annotations

from ledger.errors import PolicyViolation
from policies.events import InquiryPublished, PlanPublished, Published
from policies.facts import uses_patients
from policies.site_policy import cohort_details, cohort_violations
from tasks.site.party import Site
from tasks.step import step
from tasks.worker.site_session import SiteSession
from tasks.worker.sum_session import Prepared


@step
async def prepare(site: Site, published: PlanPublished) -> Prepared:
    """Load the cohort of those who consent, hold it against the plan's contract and the site's own policy; raises
    with every broken rule."""
    prepared = await site.worker.call(SiteSession.prepare, published.plan)
    await judge_cohort(site, published)
    return prepared


@step
async def prepare_table(site: Site, published: InquiryPublished) -> Prepared:
    """Read the table and hold it against the inquiry's contract and the site's own policy; raises with every broken
    rule. Nothing is drawn yet."""
    site.tell("read the table")
    prepared = await site.worker.call(SiteSession.prepare_table, published.inquiry)
    _judge(site, published, await site.worker.call(SiteSession.table_size))
    return prepared


async def judge_cohort(site: Site, published: PlanPublished) -> None:
    """Select those who consent now, as a round does when it begins, and hold them against the contract and the site's
    own policy. Before the round's cost is reserved: patients may have left since the last one."""
    if not uses_patients(published.plan):
        await site.worker.call(SiteSession.begin_round)
        return
    _judge(site, published, await site.worker.call(SiteSession.begin_round))


def _judge(site: Site, published: Published, patients: tuple[int, int]) -> None:
    pool, (register, cohort) = site.member.pool, patients
    plan, policy, pool_delta = published.plan, site.config.policy, 0.0 if pool is None else pool.delta
    found = cohort_violations(
        plan,
        policy,
        site=site.name,
        pool_delta=pool_delta,
        register_patients=register,
        cohort_patients=cohort,
    )
    if found:
        details = cohort_details(
            plan, policy, pool_delta=pool_delta, register_patients=register, cohort_patients=cohort
        )
        own = [details[one.code] for one in found if one.code in details]
        raise PolicyViolation(found, diagnostics="\n".join(own))
