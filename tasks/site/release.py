"""The one door out of a site: a `Release` is a protected update, its shares, and the receipt that names both.

Nothing else that depends on patients leaves. It is built from bytes that the site's process protected, kept in
the outbox before it is sent, and resent byte for byte. Whoever audits what a hospital gives away reads this
file, and `policies.receipt` for what a receipt can say.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapters import objects
from adapters.outbox import Slot
from ledger import canonical
from policies.code import running_code_digest
from policies.cost import mechanisms_of
from policies.events import Published, TrainingReceipt
from policies.protection import norm_bound_micro, sum_key_digest
from policies.receipt import Predicate, Statement, Validation
from policies.receipt_record import ReceiptChain
from tasks.site.party import Site
from tasks.worker.sum_session import Prepared, Protected


@dataclass(frozen=True, slots=True)
class Release:
    update: bytes
    shares: bytes
    entry: bytes


def build(
    site: Site,
    published: Published,
    slot: Slot,
    protected: Protected,
    prepared: Prepared,
    *,
    parent_model_digest: str,
) -> Release:
    """Sign the receipt and keep both halves durably; from here on the release counts as built."""
    state = site.latest
    chain = state.receipt_chains.get(site.name, ReceiptChain())
    predicate = Predicate(
        origin=state.origin,
        study=published.plan.study,
        plan_digest=published.plan_digest,
        policy_digest=state.reserved_under[published.plan_digest, slot.round, site.name],
        round=slot.round,
        attempt=slot.attempt,
        step=slot.step,
        parent_model_digest=parent_model_digest,
        code_digest=running_code_digest(),
        dataset_commitment=protected.dataset_commitment,
        consent_root=state.consent_reserved[published.plan_digest, slot.round, site.name],
        mechanisms=mechanisms_of(published.plan, slot.step, round_number=slot.round),
        validation=Validation(passed=True, suite_digest=prepared.suite_digest),
        sum_key_digest=sum_key_digest(state, published.plan_digest),
        norm_bound_micro=norm_bound_micro(published.plan, slot.step),
        receipt_sequence=chain.sequence,
        previous_receipt=chain.previous,
    )
    statement = Statement.of(
        update_digest=canonical.digest(protected.update),
        shares_digest=canonical.digest(protected.shares) if protected.shares else None,
        predicate=predicate,
    )
    entry = site.entry(TrainingReceipt(statement=statement))
    release = Release(protected.update, protected.shares, entry)
    site.outbox.keep(slot, update=release.update, shares=release.shares, entry=release.entry)
    return release


async def send(site: Site, release: Release) -> int:
    """Put the update and its shares where the receipt's digests find them, then the receipt on the ledger."""
    objects.store(site.exchange, release.update)
    if release.shares:
        objects.store(site.exchange, release.shares)
    return await site.send(release.entry)
