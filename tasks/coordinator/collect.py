"""Collect reports, close the set that counts, have its sum opened: one step of a round, or of an inquiry.

Nobody waits longer than the plan's deadline, and nobody is dropped silently: a site that is not in the closed
set is named there with the code of why. Reports are checked for form; none is opened but in the sum.
"""

from __future__ import annotations

from collections.abc import Mapping

from ledger.errors import CodedError, PolicyViolation
from policies.events import Absence, Published, RoundClosed, UpdateRefused
from policies.protection import groups_of, is_masked, openable_groups
from policies.receipt import Step
from policies.receipt_record import Receipt
from policies.selection import NOT_SELECTED, is_left_out
from policies.state import FederationState
from privacy.masking.closed_set import ContradictionError
from tasks.background import DeadlineError
from tasks.coordinator.party import Coordinator
from tasks.deadline import Deadline
from tasks.step import step
from tasks.summing import load_reports, sum_terms
from tasks.worker.coordinator_session import CoordinatorSession

SILENT = "site.silent"
TOO_LATE = "site.late"
UNLISTED = "roster.absent"
ISOLATED = "robust.isolated"
LATE = frozenset(("receipt.late", "round.over", "round.not-open"))
UNCLOSABLE = frozenset(("round.too-few", "robust.isolated", "robust.too-few-clusters"))
"""Why a step of which everybody was heard can never be closed."""


@step
async def collect(
    coordinator: Coordinator,
    published: Published,
    round_number: int,
    kind: Step,
    expected: frozenset[str],
) -> Mapping[str, str]:
    """Wait until every expected site has reported or declined, or the deadline; return {missing site: code}."""
    digest = published.plan_digest
    already = coordinator.state.closed.get((digest, round_number, kind))
    if already is not None:  # a run that was cut off: the set is fixed
        return {absence.site: absence.code for absence in already.missing}
    deadline = Deadline(published.plan.participation.deadline_s)
    checked: set[str] = set()

    def unchecked(state: FederationState) -> list[Receipt]:
        return [
            receipt
            for receipt in state.usable_receipts(digest, round_number, kind)
            if receipt.entry_digest not in checked
        ]

    def refusal(state: FederationState, site: str) -> str | None:
        """The code with which a site's part in this step, or in the whole plan (round 0), was refused, or with which
        the site is in quarantine: nothing of it will count."""
        whole = state.refusals.get((digest, 0, published.plan.steps[0], site), state.quarantined.get(site))
        return state.refusals.get((digest, round_number, kind, site), whole)

    def settled(state: FederationState) -> bool:
        reported = {receipt.site for receipt in state.usable_receipts(digest, round_number, kind)}
        declined = {site for site in expected if refusal(state, site) is not None}
        return reported | declined >= expected

    def news(state: FederationState) -> bool | None:
        return (
            True
            if unchecked(state) or settled(state) or len(coordinator.refused) > coordinator.refusals_read
            else None
        )

    while unchecked(coordinator.state) or not settled(coordinator.state):
        try:
            await coordinator.until(news, timeout_s=deadline.left_s(), waiting_for="reports")
        except DeadlineError:
            break
        # Receipts that the log refused: their site is named, and waited for no longer.
        # Some came before this step was collected; what merely came too late says nothing about this one.
        for refused in list(coordinator.refused.values())[coordinator.refusals_read :]:
            coordinator.refusals_read += 1
            code = refused.violations[0].code
            if (
                refused.institution in expected
                and refused.event_type in (None, "training.receipt")
                and code not in LATE
            ):
                await _refuse(coordinator, published, round_number, kind, refused.institution, code)
        for receipt in unchecked(coordinator.state):
            code_found = await _fault_of(coordinator, published, round_number, kind, receipt)
            if code_found is not None:
                await _refuse(coordinator, published, round_number, kind, receipt.site, code_found)
            checked.add(receipt.entry_digest)
        coordinator.tell(f"collect ({kind})", round_number, len(checked), len(expected))
    state = coordinator.state
    reported = {receipt.site for receipt in state.usable_receipts(digest, round_number, kind)}
    everyone = {site.name for site in coordinator.federation.sites()}
    roster = state.rosters.get(digest, ())

    def unlisted(site: str) -> str:
        return NOT_SELECTED if is_left_out(state, digest, site) else UNLISTED

    return {
        site: refusal(state, site) or (SILENT if site in roster else unlisted(site))
        for site in sorted(everyone - reported)
    }


async def _fault_of(
    coordinator: Coordinator, published: Published, round_number: int, kind: Step, receipt: Receipt
) -> str | None:
    """None if the report is there, has the receipt's digests and the plan's form; else the code of what is wrong."""
    state, digest = coordinator.state, published.plan_digest
    groups = groups_of(state, digest, kind)
    try:
        terms = sum_terms(
            state,
            coordinator.exchange,
            published,
            round_number,
            kind,
            model_digest=receipt.statement.predicate.parent_model_digest,
            group=next(number for number, group in enumerate(groups) if receipt.site in group),
        )
        sizes = await coordinator.worker.call(CoordinatorSession.message_sizes, published.plan, terms)
        report = load_reports(coordinator.exchange, [receipt], sizes)[receipt.site]
        return await coordinator.worker.call(
            CoordinatorSession.check_report, published.plan, terms, receipt.site, report
        )
    except CodedError as error:
        return error.code


async def _contradicting(
    coordinator: Coordinator, published: Published, round_number: int, kind: Step, present: frozenset[str]
) -> tuple[str, ...]:
    """Whose masks cannot be those of the others, by what all of them committed to. Found before the set is closed,
    since no site answers for a set that contradicts itself."""
    state, digest = coordinator.state, published.plan_digest
    if not is_masked(published.plan):
        return ()
    found: list[str] = []
    for number, group in enumerate(groups_of(state, digest, kind)):
        receipts = [
            one for one in state.usable_receipts(digest, round_number, kind) if one.site in present & {*group}
        ]
        if not receipts:
            continue
        terms = sum_terms(
            state,
            coordinator.exchange,
            published,
            round_number,
            kind,
            model_digest=receipts[0].statement.predicate.parent_model_digest,
            group=number,
        )
        sizes = await coordinator.worker.call(CoordinatorSession.message_sizes, published.plan, terms)
        reports = load_reports(coordinator.exchange, receipts, sizes, with_updates=False)
        shares = {site: report.shares for site, report in reports.items()}
        found += await coordinator.worker.call(CoordinatorSession.accused, published.plan, terms, shares)
    return tuple(found)


async def _refuse(
    coordinator: Coordinator, published: Published, round_number: int, kind: Step, site: str, code: str
) -> None:
    await coordinator.say(
        UpdateRefused(plan_digest=published.plan_digest, round=round_number, step=kind, site=site, code=code),
        final=False,
    )


@step
async def close(
    coordinator: Coordinator,
    published: Published,
    round_number: int,
    kind: Step,
    absent: Mapping[str, str],
) -> RoundClosed:
    """Fix the set of receipts that count, finally. Raises what the log raises if they are too few."""
    missing = dict(absent)
    key = (published.plan_digest, round_number, kind)
    already = coordinator.state.closed.get(key)
    if already is not None:
        return already
    while True:
        # Whoever reports after the set was decided is refused by name, never left out in silence.
        receipts = coordinator.state.usable_receipts(published.plan_digest, round_number, kind)
        for late in [receipt.site for receipt in receipts if receipt.site in missing]:
            await _refuse(coordinator, published, round_number, kind, late, TOO_LATE)
        present = frozenset(receipt.site for receipt in receipts if receipt.site not in missing)
        # Whom the ledger took out meanwhile (quarantine, its own word) is missing too.
        everyone = {site.name for site in coordinator.federation.sites()}
        for gone in everyone - present - missing.keys():
            missing[gone] = coordinator.state.refusals.get((*key, gone), SILENT)
        for site in await _contradicting(coordinator, published, round_number, kind, present):
            await _refuse(coordinator, published, round_number, kind, site, ContradictionError.code)
            missing[site] = ContradictionError.code
        present -= missing.keys()
        groups = openable_groups(coordinator.state, *key, present=present)
        for stray in sorted(present - {site for _, sites in groups for site in sites}):
            await _refuse(coordinator, published, round_number, kind, stray, ISOLATED)
            missing[stray] = ISOLATED
        refused = {site for site in missing if (*key, site) in coordinator.state.refusals}
        closed = RoundClosed(
            plan_digest=published.plan_digest,
            round=round_number,
            step=kind,
            receipts=tuple(receipt.entry_digest for receipt in receipts if receipt.site not in missing),
            missing=tuple(
                Absence(site=site, code=coordinator.state.refusals[*key, site] if site in refused else code)
                for site, code in sorted(missing.items())
            ),
        )
        try:
            await coordinator.say(closed)
        except PolicyViolation as violation:
            if violation.code != "round.receipts":
                raise
            continue  # one more report came in while this was said
        return closed
