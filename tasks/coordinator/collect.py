"""Collect reports, close the set that counts, have its sum opened. One step of a round, training or evaluation.

Nobody waits longer than the plan's deadline, and nobody is dropped silently: a site that is not in the closed
set is named there with the code of why. Updates are checked for form and added up; none is decrypted here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adapters import mail, objects
from ledger.errors import CodedError, PolicyViolation
from policies.events import Absence, PlanPublished, RoundClosed, UpdateRefused
from policies.opening import SignedOpening
from policies.receipt import Step
from policies.state import FederationState, Receipt
from tasks.background import DeadlineError
from tasks.coordinator.party import Coordinator
from tasks.deadline import Deadline
from tasks.opening import agreed_sum
from tasks.step import step
from tasks.worker.coordinator_session import CoordinatorSession

SILENT = "site.silent"
TOO_LATE = "site.late"
LATE = frozenset(("receipt.late", "round.over", "round.not-open"))


class NotOpenedError(CodedError):
    code = "opening.too-few"


@dataclass(frozen=True, slots=True)
class Sum:
    """An opened sum: its lanes' bytes, their digest, how many sites are in it, and the holders' word for it."""

    opened: bytes
    digest: str
    sites: int
    openings: tuple[SignedOpening, ...]


@step
async def collect(
    coordinator: Coordinator,
    published: PlanPublished,
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
        """The code with which a site's part in this step, or in the whole plan (round 0), was refused."""
        whole = state.refusals.get((digest, 0, "training", site))
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
            code_found = await _fault_of(coordinator, published, kind, receipt)
            if code_found is not None:
                await _refuse(coordinator, published, round_number, kind, receipt.site, code_found)
            checked.add(receipt.entry_digest)
        coordinator.tell(f"collect ({kind})", round_number, len(checked), len(expected))
    state = coordinator.state
    reported = {receipt.site for receipt in state.usable_receipts(digest, round_number, kind)}
    everyone = {site.name for site in coordinator.federation.sites()}
    return {site: refusal(state, site) or SILENT for site in sorted(everyone - reported)}


async def _fault_of(
    coordinator: Coordinator, published: PlanPublished, kind: Step, receipt: Receipt
) -> str | None:
    """None if the update is there, has the receipt's digest and the plan's form; else the code of what is wrong."""
    try:
        update = objects.load(coordinator.exchange, receipt.statement.update_digest)
        return await coordinator.worker.call(
            CoordinatorSession.check_update, published.plan, kind, update, _public(coordinator, published)
        )
    except CodedError as error:
        return error.code


async def _refuse(
    coordinator: Coordinator, published: PlanPublished, round_number: int, kind: Step, site: str, code: str
) -> None:
    await coordinator.say(
        UpdateRefused(plan_digest=published.plan_digest, round=round_number, step=kind, site=site, code=code),
        final=False,
    )


def _public(coordinator: Coordinator, published: PlanPublished) -> bytes:
    return objects.load(
        coordinator.exchange, coordinator.state.sum_keys[published.plan.study].public_key_digest
    )


@step
async def close(
    coordinator: Coordinator,
    published: PlanPublished,
    round_number: int,
    kind: Step,
    missing: Mapping[str, str],
) -> RoundClosed:
    """Fix the set of receipts that count, finally. Raises what the log raises if they are too few."""
    key = (published.plan_digest, round_number, kind)
    already = coordinator.state.closed.get(key)
    if already is not None:
        return already
    while True:
        # Whoever reports after the set was decided is refused by name, never left out in silence.
        receipts = coordinator.state.usable_receipts(published.plan_digest, round_number, kind)
        for late in [receipt.site for receipt in receipts if receipt.site in missing]:
            await _refuse(coordinator, published, round_number, kind, late, TOO_LATE)
        refused = {site for site in missing if (*key, site) in coordinator.state.refusals}
        closed = RoundClosed(
            plan_digest=published.plan_digest,
            round=round_number,
            step=kind,
            receipts=tuple(receipt.entry_digest for receipt in receipts if receipt.site not in missing),
            missing=tuple(
                Absence(site=site, code=coordinator.state.refusals[*key, site] if site in refused else code)
                for site, code in missing.items()
            ),
        )
        try:
            await coordinator.say(closed)
        except PolicyViolation as violation:
            if violation.code != "round.receipts":
                raise
            continue  # one more report came in while this was said
        return closed


@step
async def open_sum(
    coordinator: Coordinator, published: PlanPublished, round_number: int, kind: Step, closed: RoundClosed
) -> Sum:
    """Add the closed set's ciphertexts and wait for enough identical openings from key holders."""
    coordinator.tell("add ciphertexts", round_number)
    by_entry = {receipt.entry_digest: receipt for receipt in coordinator.state.receipts.values()}
    receipts = [by_entry[entry] for entry in closed.receipts]
    updates = [objects.load(coordinator.exchange, receipt.statement.update_digest) for receipt in receipts]
    combined = await coordinator.worker.call(
        CoordinatorSession.combine, published.plan, updates, _public(coordinator, published)
    )
    combined_digest = objects.store(coordinator.exchange, combined)
    place = mail.combined(published.plan_digest, round_number, kind)
    coordinator.exchange.replace(place, combined_digest.encode())

    coordinator.tell("wait for openings", round_number)
    required = coordinator.federation.openings_required()

    def agreed(state: FederationState) -> tuple[str, tuple[SignedOpening, ...]] | None:
        return agreed_sum(
            coordinator.exchange, state, published, round_number, kind, combined_digest=combined_digest
        )

    try:
        digest, openings = await coordinator.until(
            agreed, timeout_s=published.plan.participation.deadline_s, waiting_for="openings"
        )
    except DeadlineError:
        raise NotOpenedError(
            f"fewer than {required} key holders opened the sum of round {round_number} identically",
            remedy="See whether the key holders are running; then resume.",
        ) from None
    return Sum(objects.load(coordinator.exchange, digest), digest, len(receipts), openings)
