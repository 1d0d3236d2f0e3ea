"""Select and validate at the site; the key of the study's sums, made and received. Before any round."""

from __future__ import annotations

from adapters import mail, objects
from ledger import canonical
from ledger.errors import PolicyViolation
from policies.events import PlanPublished, SumKeyRotated
from policies.site_policy import cohort_violations
from tasks.site.party import Site, patience_s
from tasks.step import step
from tasks.worker.site_session import Prepared, SiteSession


def key_context(site: Site, study: str) -> bytes:
    """What a sealed study key is bound to, so that it opens nowhere else."""
    return f"wardround/study-key/v1\n{site.federation.origin}\n{study}\n".encode()


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


@step
async def agree_on_key(site: Site, published: PlanPublished) -> bytes:
    """The public context of the study's sums. The first key holder makes it if there is none yet."""
    study = published.plan.study
    holders = site.federation.key_holders
    if study not in site.state.sum_keys and site.name == holders[0]:
        site.tell("make the study's key")
        await _make_key(site, study, holders)
    key = await site.until(
        lambda state: state.sum_keys.get(study),
        timeout_s=patience_s(published.plan),
        waiting_for="the study's key",
    )
    return objects.load(site.exchange, key.public_key_digest)


async def _make_key(site: Site, study: str, holders: tuple[str, ...]) -> None:
    recipients = {
        member.name: member.sealing_key
        for member in site.federation.sites()
        if member.name in holders and member.sealing_key is not None
    }
    public, sealed = await site.worker.call(
        SiteSession.make_key, recipients, context=key_context(site, study)
    )
    digest = canonical.digest(public)
    for name, secret in sealed.items():
        site.exchange.put(mail.sealed(digest, name), secret)
    objects.store(site.exchange, public)
    await site.say(
        SumKeyRotated(purpose="study-sum", study=study, public_key_digest=digest, previous=None), final=True
    )
