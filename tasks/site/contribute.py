"""A site's contribution to one round: reserve, train, protect, submit; then evaluate what came of it. To an inquiry:
reserve, draw, protect, submit.

The order is the protection: the reservation is final on the ledger before any noise is drawn, so a crash
leaves the budget spent and never the other way round. A release that was built is resent, not made again.
"""

from __future__ import annotations

from collections.abc import Sequence

from adapters.outbox import Slot
from adapters.pool_lines import Sum, Use
from ledger.errors import CodedError, PolicyViolation, Violation
from ledger.event import entry_digest
from policies.cost import round_mechanisms
from policies.disclosure import public_code
from policies.drift import level_in_force
from policies.events import BudgetReserved, InquiryPublished, PlanPublished, Published, UpdateRefused
from policies.receipt import Step
from privacy import accounting
from tasks.model_objects import previous_model
from tasks.site import release
from tasks.site.drift import is_drift, keep_quarantine
from tasks.site.party import Drawing, Site
from tasks.site.release import Release
from tasks.site.report import keep_training, keep_withheld
from tasks.site.sums import own_terms, sealed_key
from tasks.step import keep_error, step
from tasks.worker.site_session import SiteSession
from tasks.worker.sum_session import Prepared


def kept_release(site: Site, slot: Slot) -> Release | None:
    """A release of this step that was built before, by this run or one that was cut off."""
    kept = site.outbox.kept(slot)
    return None if kept is None else Release(*kept)


def carried(site: Site, published: PlanPublished, round_number: int) -> int:
    """The last round before this one whose closed set has this site's update; 0 if none has."""
    digest = published.plan_digest
    return max(
        (
            earlier
            for earlier in range(1, round_number)
            if site.name in site.state.reported(digest, earlier) and (digest, earlier) in site.state.released
        ),
        default=0,
    )


def attempts(site: Site, published: Published, round_number: int) -> int:
    return site.latest.attempts.get((published.plan_digest, round_number, site.name), 0)


def declined(site: Site, published: Published, round_number: int, kinds: Sequence[Step]) -> bool:
    """Whether the ledger has a refusal of one of these steps for this site: by itself or by the coordinator."""
    key = (published.plan_digest, round_number)
    return any((*key, kind, site.name) in site.latest.refusals for kind in kinds)


@step
async def reserve(site: Site, published: Published, round_number: int) -> int:
    """Reserve the round's whole cost, in the register's journal and on the ledger; return the attempt's number once
    the reservation is final. If the ledger refuses it nothing was drawn."""
    site.tell("reserve", round_number)
    pool = site.member.pool
    assert pool is not None  # noqa: S101 - `Member` refuses a site without
    mechanisms = round_mechanisms(published.plan, round_number)
    attempt = attempts(site, published, round_number) + 1
    site.journal.require_covers(site.latest, site.name)
    use = use_of(site, published, round_number, attempt)
    drawn = site.journal.reserve(use, mechanisms)
    try:
        await site.say(
            BudgetReserved(
                plan_digest=published.plan_digest,
                round=round_number,
                attempt=attempt,
                mechanisms=mechanisms,
                epsilon_total_micro=pool.epsilon_micro(
                    site.latest.spent_by(site.name) + accounting.total(mechanisms)
                ),
            ),
            final=True,
        )
    except PolicyViolation:
        if drawn:
            site.journal.give_back(use, mechanisms)
        raise
    site.drawn[published.plan_digest, round_number] = Drawing(attempt)
    return attempt


def use_of(site: Site, published: Published, round_number: int, attempt: int) -> Use:
    """The name of this attempt in the register's journal."""
    return Use(
        origin=site.latest.origin,
        founded_as=site.latest.founded_as,
        plan_digest=published.plan_digest,
        round=round_number,
        attempt=attempt,
    )


def sum_of(site: Site, published: Published, slot: Slot) -> Sum:
    """The name of the sum that a step's release is for in the register's journal."""
    return Sum(
        origin=site.latest.origin,
        founded_as=site.latest.founded_as,
        plan_digest=published.plan_digest,
        round=slot.round,
        step=slot.step,
    )


def require_unsent(site: Site, published: Published, slot: Slot) -> None:
    """Refuse a step whose release left this site before and is not kept in this home: it is an old copy of itself."""
    if (published.plan_digest, slot.round, slot.step, site.name) in site.latest.receipts:
        raise PolicyViolation([Violation("receipt.replayed", f"{site.name} has reported this step already")])
    site.journal.require_covers(site.latest, site.name)
    site.journal.require_unsent(sum_of(site, published, slot))


def begin(site: Site, published: Published, round_number: int, kind: Step) -> None:
    """From here on the step's mechanism counts as used, whatever becomes of it: even an error would tell of it."""
    drawing = site.drawn.get((published.plan_digest, round_number))
    if drawing is not None:
        drawing.begun.add(kind)


async def can_resume(site: Site, published: PlanPublished, base: bytes, slot: Slot) -> bool:
    """Whether a training that was cut off goes on under the reservation that it had: nothing of it left the site, so
    its steps are paid for. Not where the reservation was settled since, nor where this site has published a newer
    state of its consents than the receipt would name. The first reservation then stays spent."""
    state, key = site.latest, (published.plan_digest, slot.round, site.name)
    settled = state.settled.get(key)
    if slot.attempt == 0 or (settled is not None and settled.attempt == slot.attempt):
        return False
    if state.consent_states[site.name].root != state.consent_reserved[key]:
        return False
    return await site.worker.call(SiteSession.can_resume, published.plan, base, slot.round, slot.attempt)


@step
async def train(site: Site, published: PlanPublished, base: bytes, slot: Slot) -> None:
    """Train privately in the site's process. How long and on how many is for the site's own report."""
    begin(site, published, slot.round, "training")
    seconds = await site.worker.call(SiteSession.train, published.plan, base, slot.round, slot.attempt)
    patients = await site.worker.call(SiteSession.patients_trained)
    keep_training(site, published, slot.round, seconds=seconds, patients=patients[slot.round])


@step
async def protect(
    site: Site,
    published: PlanPublished,
    slot: Slot,
    model: bytes,
    prepared: Prepared,
    parent: str,
) -> Release:
    """Protect the trained update (or the noised evaluation of `model`) and build its release."""
    site.tell("protect" if slot.step == "training" else "evaluate", slot.round)
    require_unsent(site, published, slot)
    terms = own_terms(site, published, slot.round, slot.step, model_digest=parent)
    sealed = sealed_key(site, published)
    if slot.step == "training":
        protected = await site.worker.call(
            SiteSession.protect_update,
            published.plan,
            terms,
            model,
            await previous_model(site, published, slot.round),
            carried=carried(site, published, slot.round),
            sealed=sealed,
        )
    else:
        begin(site, published, slot.round, "evaluation")
        # Drawn once where something is decided on it: who may draw again after a crash can choose what.
        if published.plan.gates.drift is not None:
            site.journal.begin(sum_of(site, published, slot))
        try:
            protected = await site.worker.call(
                SiteSession.protect_evaluation,
                published.plan,
                terms,
                model,
                sealed=sealed,
                in_force=level_in_force(site.state, published.plan),
            )
        except CodedError as error:
            if is_drift(error):
                keep_quarantine(site, published, slot.round)
            raise
    return release.build(site, published, slot, protected, prepared, parent_model_digest=parent)


@step
async def protect_figures(site: Site, published: InquiryPublished, slot: Slot, prepared: Prepared) -> Release:
    """Draw the noise on the site's figures, protect them and build their release."""
    site.tell("draw and protect")
    require_unsent(site, published, slot)
    parent = published.plan_digest
    terms = own_terms(site, published, slot.round, slot.step, model_digest=parent)
    begin(site, published, slot.round, slot.step)
    protected = await site.worker.call(
        SiteSession.protect_figures, published.inquiry, terms, sealed=sealed_key(site, published)
    )
    return release.build(site, published, slot, protected, prepared, parent_model_digest=parent)


@step
async def submit(site: Site, published: Published, slot: Slot, ready: Release, parent: str) -> int:
    """Send a release that is kept; its masks are never used again. That it leaves is in the register's journal first,
    so that no other one can: not from a home that was restored to a time before it either."""
    site.tell("submit", slot.round)
    site.journal.leave(sum_of(site, published, slot), release=entry_digest(ready.entry))
    terms = own_terms(site, published, slot.round, slot.step, model_digest=parent)
    await site.worker.call(SiteSession.released, published.plan, terms)
    return await release.send(site, ready)


@step
async def withhold(
    site: Site, published: Published, round_number: int, kind: Step, error: CodedError
) -> None:
    """Say that this site will not report, so that nobody waits for it. A code alone leaves, and one that could tell
    of patients does not."""
    keep_error(site, error)
    keep_withheld(site, published, round_number, error.code)
    if kind == "training":
        await _forget_training(site, published)
    refusal = UpdateRefused(
        plan_digest=published.plan_digest,
        round=round_number,
        step=kind,
        site=site.name,
        code=public_code(error.code),
    )
    try:
        await site.say(refusal)
    except PolicyViolation as late:
        # The round was closed without this site: it is named as missing there, which says the same.
        site.keep_diagnostics(str(late))


async def _forget_training(site: Site, published: Published) -> None:
    """Remove what a training would go on from: before its refusal is said, so that no run in between finds it."""
    try:
        await site.worker.call(SiteSession.forget_training, published.plan_digest)
    except CodedError as error:  # the process may be what failed
        site.keep_diagnostics(f"the checkpoint of the training is left: {error}")
