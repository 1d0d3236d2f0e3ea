"""A site's flow: take part in one plan, round by round. Runs in the site's own Prefect, on the site's decision.

What each step does lives in `tasks.site`. A round in which this site fails ends for this site alone: it says
so on the ledger by code, and takes part in the next.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from prefect import flow

from adapters.outbox import Slot
from flows.statistics import answer_inquiry
from ledger import canonical
from ledger.errors import CodedError
from policies.drift import PERFORMANCE
from policies.events import InquiryPublished, PlanPublished
from policies.rounds import goes_on
from policies.selection import is_left_out
from tasks.model_objects import load_model
from tasks.rotate import rotate_key
from tasks.site.accept import accept, await_verdict, find_plan, witness_registration
from tasks.site.consents import publish_consent_policies, publish_consent_state
from tasks.site.contribute import (
    attempts,
    can_resume,
    declined,
    kept_release,
    protect,
    require_unsent,
    reserve,
    submit,
    train,
    withhold,
)
from tasks.site.drift import is_drift, quarantine_itself
from tasks.site.maintenance import MaintenanceError, await_window, has_begun, in_window
from tasks.site.opening import answer, follow_model, open_sum
from tasks.site.party import Site, opened_site
from tasks.site.prepare import judge_cohort, prepare
from tasks.site.report import compare
from tasks.site.settle import settle
from tasks.site.statements import has_unsaid, say_unsaid
from tasks.site.sums import join_roster, leave_roster, stand_by
from tasks.worker.sum_session import Prepared


@flow(name="site", persist_result=False, retries=0, validate_parameters=False)
async def site_round(home: str, plan_digest: str | None = None, wait_s: float = 300.0) -> None:
    """Take part in the plan of that digest, or in the newest open one; return at once if none comes."""
    async with opened_site(Path(home)) as site:
        await take_part(site, plan_digest=plan_digest, wait_s=wait_s)


async def keep_serving(site: Site, *, wait_s: float, pause_s: float = 0.0) -> None:
    """One plan after the other, as a hospital does, until it is cancelled. What refuses a plan is in the site's log.

    `pause_s` between two looks: a plan that stays open would be looked at without end."""
    while True:
        with suppress(CodedError):
            await take_part(site, plan_digest=None, wait_s=wait_s)
        await asyncio.sleep(pause_s)


async def take_part(site: Site, *, plan_digest: str | None, wait_s: float) -> None:
    published = await find_plan(site, plan_digest, wait_s)
    if published is None:
        site.tell("no plan")
        return
    # A new key is used even if the plan is refused: the coordinator is there to take it.
    await rotate_key(site)
    await publish_consent_policies(site)
    # The coordinator's verdict first: a plan that failed its gate needs no refusal of ours. Then our own checks.
    if not await await_verdict(site, published, 0):
        site.tell("plan refused")
        return
    await accept(site, published)
    await publish_consent_state(site)
    if not await join_roster(site, published):
        if is_left_out(site.state, published.plan_digest, site.name):
            site.tell("not selected")
            await stand_by(site, published)
        else:
            site.tell("not in the roster")
        return
    if isinstance(published, InquiryPublished):
        await answer_inquiry(site, published)
        return
    prepared: Prepared | CodedError | None = None
    model = await load_model(site, published, published.base_model_digest)
    for round_number in range(1, published.plan.rounds + 1):
        if has_unsaid(site):
            await say_unsaid(site)
        prepared = await ready(site, published, round_number, prepared)
        following = await take_round(site, published, round_number, model, prepared)
        await settle(site, published, round_number)
        if following is None or not await passed(site, published, round_number):
            await leave_roster(site, published)
            site.tell("plan ended", round_number)
            return
        model = following
    if has_unsaid(site):
        await say_unsaid(site)
    await witness_registration(site, published)
    await leave_roster(site, published)
    # For this site alone, and last: it takes long, and whatever becomes of it the site's part is done.
    # It trains a model of its own, which no maintenance window is for.
    if isinstance(prepared, Prepared) and not in_window(site):
        try:
            await compare(site, published, model)
        except CodedError:  # the site's log says why
            site.tell("no comparison with a local model")
    site.tell("done")


async def ready(
    site: Site, published: PlanPublished, round_number: int, earlier: Prepared | CodedError | None
) -> Prepared | CodedError:
    """The cohort, loaded for the first round that no maintenance window keeps from starting; or why this site does
    not report."""
    if earlier is not None and not isinstance(earlier, MaintenanceError):
        return earlier
    try:
        if not has_begun(site, published, round_number):
            await await_window(site, published, round_number)
        return await prepare(site, published)
    except CodedError as error:
        return error


async def passed(site: Site, published: PlanPublished, round_number: int) -> bool:
    """Whether the plan goes on after this round; one without an evaluation is passed by its release."""
    if goes_on(site.state, published.plan_digest, round_number):
        return True
    return await await_verdict(site, published, round_number)


async def take_round(
    site: Site,
    published: PlanPublished,
    round_number: int,
    base: bytes,
    prepared: Prepared | CodedError,
) -> bytes | None:
    """One round. Returns the model that came of it, verified here, or None if the round failed for all."""
    if (published.plan_digest, round_number) not in site.state.released:
        # After a refusal no training of this round can count any more: another one would tell, and give nothing.
        if not declined(site, published, round_number, ("training",)):
            try:
                await report_training(site, published, round_number, base, prepared)
            except CodedError as error:
                for kind in published.plan.steps_of(round_number):
                    await withhold(site, published, round_number, kind, error)
        await answer(site, published, round_number, "training")
        await open_sum(site, published, round_number, "training", base)
    model = await follow_model(site, published, base, round_number)
    if model is None:
        return None
    if not published.plan.evaluates(round_number):
        return model
    if (published.plan_digest, round_number) not in site.state.evaluated:
        attempt = evaluation_attempt(site, published, round_number)
        if attempt and isinstance(prepared, Prepared):
            try:
                slot = Slot(published.plan_digest, round_number, "evaluation", attempt)
                await report(site, published, slot, model, prepared, canonical.digest(model))
            except CodedError as error:
                if is_drift(error):
                    await quarantine_itself(site, published, round_number, error)
                else:
                    await withhold(site, published, round_number, "evaluation", error)
        await answer(site, published, round_number, "evaluation")
        await open_sum(site, published, round_number, "evaluation")
    return model


def evaluation_attempt(site: Site, published: PlanPublished, round_number: int) -> int:
    """The attempt under which this site owes the round an evaluation, 0 if it owes none: it did not take part
    in the training, reported already, or took itself out over it.
    Read from the ledger, so that it survives a restart."""
    key = (published.plan_digest, round_number)
    trained = (*key, "training", site.name) in site.latest.receipts
    refused = declined(site, published, round_number, published.plan.steps_of(round_number))
    drifted = site.latest.quarantined.get(site.name) == PERFORMANCE
    owes = trained and not refused and not drifted
    return attempts(site, published, round_number) if owes else 0


async def report_training(
    site: Site,
    published: PlanPublished,
    round_number: int,
    base: bytes,
    prepared: Prepared | CodedError,
) -> None:
    """Reserve, train and submit. A release that was built before is only sent again; a training that was cut off goes
    on, under the reservation that it had."""
    if not isinstance(prepared, Prepared):
        raise prepared
    slot = Slot(published.plan_digest, round_number, "training", attempts(site, published, round_number))
    if slot.attempt == 0 or kept_release(site, slot) is None:
        require_unsent(site, published, slot)
        resumed = await can_resume(site, published, base, slot)
        if not resumed:
            await await_window(site, published, round_number)
        await judge_cohort(site, published)
        if not resumed:
            slot = replace(slot, attempt=await reserve(site, published, round_number))
        await train(site, published, base, slot)
    await report(site, published, slot, base, prepared, canonical.digest(base))


async def report(
    site: Site,
    published: PlanPublished,
    slot: Slot,
    model: bytes,
    prepared: Prepared,
    parent: str,
) -> None:
    release = kept_release(site, slot)
    if release is None:
        release = await protect(site, published, slot, model, prepared, parent)
    await submit(site, published, slot, release, parent)
