"""Joint statistics: the coordinator's flow for one inquiry, and what a site does for it once it is in the roster.

The same steps as a round of training, once, with a table and noise instead of a network (`flows.coordinator`,
`flows.site`). A site comes here from its own flow, which finds plans and inquiries alike.
"""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from adapters.outbox import Slot
from flows.coordinator import close_or_end, roster_or_end
from ledger.errors import CodedError
from policies.events import InquiryPublished
from policies.inquiries import ROUND
from policies.inquiry import Inquiry
from tasks.coordinator.collect import collect
from tasks.coordinator.figures import keep_figures
from tasks.coordinator.party import Coordinator, opened_coordinator
from tasks.coordinator.publish import judge_plan, publish_inquiry
from tasks.coordinator.release import judge_model, open_or_judge, release_statistics
from tasks.planning import read_inquiry
from tasks.rotate import rotate_key
from tasks.site import opening
from tasks.site.accept import await_verdict
from tasks.site.contribute import (
    attempts,
    kept_release,
    protect_figures,
    require_unsent,
    reserve,
    submit,
    withhold,
)
from tasks.site.maintenance import await_window
from tasks.site.party import Site
from tasks.site.prepare import prepare_table
from tasks.site.settle import settle
from tasks.site.sums import leave_roster


@flow(name="statistics", persist_result=False, retries=0, validate_parameters=False)
async def joint_statistics(home: str, inquiry: str, edition: str | None = None) -> None:
    """Ask the inquiry in file `inquiry` of all sites, as `edition` if given; the figures are kept in the home."""
    read = read_inquiry(Path(inquiry), edition=edition)
    async with opened_coordinator(Path(home)) as coordinator:
        await run_inquiry(coordinator, read)


async def run_inquiry(coordinator: Coordinator, inquiry: Inquiry) -> InquiryPublished:
    """From publishing to the verdict. One that is on the ledger is continued; an answered one is only read."""
    await rotate_key(coordinator)
    published = await publish_inquiry(coordinator, inquiry)
    await judge_plan(coordinator, published)
    if published.plan_digest not in coordinator.state.statistics:
        await _collect_and_open(coordinator, published)
    await judge_model(coordinator, published, ROUND)
    await keep_figures(coordinator, published)
    return published


async def _collect_and_open(coordinator: Coordinator, published: InquiryPublished) -> None:
    terms = published.plan.participation
    everyone = frozenset(site.name for site in coordinator.federation.sites())
    roster = await roster_or_end(coordinator, published, ROUND)
    missing = await collect(coordinator, published, ROUND, "statistics", roster)
    reported = everyone - missing.keys()
    if len(reported) < terms.minimum_sites or not set(terms.required) <= reported:
        await judge_model(coordinator, published, ROUND)  # raises: it names who did not report
    await close_or_end(coordinator, published, ROUND, "statistics", missing)
    total = await open_or_judge(coordinator, published, ROUND, "statistics")
    await release_statistics(coordinator, published, total)


async def answer_inquiry(site: Site, published: InquiryPublished) -> None:
    """Report, answer for the closed set, open as a key holder, and stay until the verdict."""
    if published.plan_digest not in site.state.statistics:
        try:
            await report_figures(site, published)
        except CodedError as error:
            await withhold(site, published, ROUND, "statistics", error)
        await opening.answer(site, published, ROUND, "statistics")
        await opening.open_sum(site, published, ROUND, "statistics")
    judged = await await_verdict(site, published, ROUND)
    await settle(site, published, ROUND)
    await leave_roster(site, published)
    site.tell("done" if judged else "inquiry ended")


async def report_figures(site: Site, published: InquiryPublished) -> None:
    """Read, reserve, draw and submit. A release that was built before is only sent again, and none is built for a set
    that is closed or that refused this site."""
    digest = published.plan_digest
    slot = Slot(digest, ROUND, "statistics", attempts(site, published, ROUND))
    release = kept_release(site, slot)
    if release is None:
        closed = (digest, ROUND, "statistics") in site.state.closed
        if closed or (digest, ROUND, "statistics", site.name) in site.latest.refusals:
            return
        require_unsent(site, published, slot)
        await await_window(site, published, ROUND)
        prepared = await prepare_table(site, published)
        slot = Slot(digest, ROUND, "statistics", await reserve(site, published, ROUND))
        release = await protect_figures(site, published, slot, prepared)
    await submit(site, published, slot, release, digest)
