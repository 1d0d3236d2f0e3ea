"""A site's contribution to one round: reserve, train, protect, submit; then evaluate what came of it.

The order is the protection: the reservation is final on the ledger before any noise is drawn, so a crash
leaves the budget spent and never the other way round. A release that was built is resent, not made again.
"""

from __future__ import annotations

from adapters.outbox import Slot
from adapters.pool_journal import Use
from ledger.errors import CodedError, PolicyViolation
from policies.cost import round_mechanisms
from policies.disclosure import public_code
from policies.events import BudgetReserved, PlanPublished, UpdateRefused
from policies.receipt import Step
from privacy import accounting
from tasks.site import release
from tasks.site.party import Drawing, Site
from tasks.site.release import Release
from tasks.site.report import keep_training, keep_withheld
from tasks.step import step
from tasks.worker.site_session import Prepared, SiteSession


def kept_release(site: Site, slot: Slot) -> Release | None:
    """A release of this step that was built before, by this run or one that was cut off."""
    kept = site.outbox.kept(slot)
    return None if kept is None else Release(*kept)


def attempts(site: Site, published: PlanPublished, round_number: int) -> int:
    return site.latest.attempts.get((published.plan_digest, round_number, site.name), 0)


@step
async def reserve(site: Site, published: PlanPublished, round_number: int) -> int:
    """Reserve the round's whole cost, in the register's journal and on the ledger; return the attempt's number once
    the reservation is final. If the ledger refuses it nothing was drawn."""
    site.tell("reserve", round_number)
    pool = site.member.pool
    assert pool is not None  # noqa: S101 - `Member` refuses a site without
    mechanisms = round_mechanisms(published.plan)
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


def use_of(site: Site, published: PlanPublished, round_number: int, attempt: int) -> Use:
    """The name of this attempt in the register's journal."""
    return Use(
        origin=site.latest.origin,
        founded_as=site.latest.founded_as,
        plan_digest=published.plan_digest,
        round=round_number,
        attempt=attempt,
    )


def begin(site: Site, published: PlanPublished, round_number: int, kind: Step) -> None:
    """From here on the step's mechanism counts as used, whatever becomes of it: even an error would tell of it."""
    drawing = site.drawn.get((published.plan_digest, round_number))
    if drawing is not None:
        drawing.begun.add(kind)


@step
async def train(site: Site, published: PlanPublished, base: bytes, round_number: int) -> None:
    """Train privately in the site's process. How long and on how many is for the site's own report."""
    begin(site, published, round_number, "training")
    seconds = await site.worker.call(SiteSession.train, published.plan, base, round_number)
    patients = await site.worker.call(SiteSession.patients_trained)
    keep_training(site, published, round_number, seconds=seconds, patients=patients[round_number])


@step
async def protect(
    site: Site,
    published: PlanPublished,
    slot: Slot,
    model: bytes,
    public: bytes,
    prepared: Prepared,
    parent: str,
) -> Release:
    """Encrypt the trained update (or the noised evaluation of `model`) and build its release."""
    site.tell("protect" if slot.step == "training" else "evaluate", slot.round)
    if slot.step == "training":
        protected = await site.worker.call(SiteSession.protect_update, published.plan, public)
    else:
        begin(site, published, slot.round, "evaluation")
        protected = await site.worker.call(SiteSession.protect_evaluation, published.plan, model, public)
    return release.build(site, published, slot, protected, prepared, parent_model_digest=parent)


@step
async def submit(site: Site, ready: Release, round_number: int) -> int:
    site.tell("submit", round_number)
    return await release.send(site, ready)


@step
async def withhold(
    site: Site, published: PlanPublished, round_number: int, kind: Step, error: CodedError
) -> None:
    """Say that this site will not report, so that nobody waits for it. A code alone leaves, and one that could tell
    of patients does not."""
    site.keep_diagnostics(f"{error}\n{error.diagnostics()}")
    keep_withheld(site, published, round_number, error.code)
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
