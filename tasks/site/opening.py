"""Opening sums at a key holder, and following what was opened at every site.

A holder opens once per step and only the sum over the set in a *final* `round.closed` event, after adding up
that set's updates itself. Every site checks that enough holders signed for the opened sum, recomputes the
model and the AUC from it, and refuses the round if the coordinator released others.
"""

from __future__ import annotations

from typing import Literal

from adapters import mail, objects
from adapters.home import write_atomically
from ledger import canonical, envelope
from ledger.errors import PolicyViolation, Violation
from policies.events import AggregateReleased, PlanPublished, RoundClosed
from policies.opening import PAYLOAD_TYPE, Opening
from policies.receipt import Step
from policies.state import FederationState
from tasks.site.party import Site, patience_s
from tasks.site.prepare import key_context
from tasks.step import step
from tasks.worker.site_session import SiteSession


def _ended(state: FederationState, plan_digest: str, round_number: int) -> bool:
    """The round got its verdict without this step: nothing more is coming."""
    return (plan_digest, round_number) in state.verdicts


@step
async def open_sum(site: Site, published: PlanPublished, round_number: int, kind: Step) -> bool:
    """As a key holder, open the closed set's sum and post it. False where there is nothing to open."""
    digest, study = published.plan_digest, published.plan.study
    if site.name not in site.federation.key_holders:
        return False

    def closed(state: FederationState) -> RoundClosed | Literal[False] | None:
        found = state.closed.get((digest, round_number, kind))
        return False if found is None and _ended(state, digest, round_number) else found

    fixed: RoundClosed | Literal[False] = await site.until(
        closed, timeout_s=patience_s(published.plan), waiting_for="the round to close"
    )
    if fixed is False:
        return False
    place = f"{mail.openings(digest, round_number, kind)}/{site.name}"
    answered = site.home.root / "openings" / digest / f"{round_number}-{kind}"
    if answered.exists():  # a holder opens once: what it answered is sent again, never made again
        site.exchange.put(place, answered.read_bytes())
        return True
    site.tell("open the sum", round_number)
    combined_digest = await site.until(
        lambda _: _combined(site, digest, round_number, kind),
        timeout_s=patience_s(published.plan),
        waiting_for="the sum",
    )
    by_entry = {receipt.entry_digest: receipt for receipt in site.state.receipts.values()}
    receipts = [by_entry[entry] for entry in fixed.receipts]
    own = {receipt.entry_digest for receipt in site.state.usable_receipts(digest, round_number, kind)}
    if not own <= set(fixed.receipts):
        raise PolicyViolation([Violation("opening.set", "the closed set omits a receipt that counts")])
    updates = [objects.load(site.exchange, receipt.statement.update_digest) for receipt in receipts]
    key = site.state.sum_keys[study].public_key_digest
    sealed = site.exchange.get(mail.sealed(key, site.name)) or b""
    opened = await site.worker.call(
        SiteSession.open_sum,
        published.plan,
        updates,
        objects.load(site.exchange, combined_digest),
        sealed,
        context=key_context(site, study),
    )
    opening = Opening(
        schema_version=1,
        origin=site.state.origin,
        plan_digest=digest,
        round=round_number,
        step=kind,
        combined_digest=combined_digest,
        sum_digest=objects.store(site.exchange, opened),
    )
    signed = envelope.sign(PAYLOAD_TYPE, opening.canonical_bytes(), [site.signer]).encode()
    write_atomically(answered, signed, mode=0o600)  # durable before it is sent
    site.exchange.put(place, signed)
    return True


def _combined(site: Site, plan_digest: str, round_number: int, kind: Step) -> str | None:
    named = site.exchange.get(mail.combined(plan_digest, round_number, kind))
    return None if named is None else named.decode("ascii", errors="replace")


@step
async def follow_model(site: Site, published: PlanPublished, base: bytes, round_number: int) -> bytes | None:
    """The round's model, recomputed here from the opened sum; None if the round ended without one."""
    digest = published.plan_digest

    def released(state: FederationState) -> AggregateReleased | Literal[False] | None:
        found = state.released.get((digest, round_number))
        return False if found is None and _ended(state, digest, round_number) else found

    found: AggregateReleased | Literal[False] = await site.until(
        released, timeout_s=patience_s(published.plan), waiting_for="the aggregate"
    )
    if found is False:
        return None
    sites = len(site.state.closed[digest, round_number, "training"].receipts)
    opened = objects.load(site.exchange, found.sum_digest)
    model, norm_micro = await site.worker.call(
        SiteSession.next_model, published.plan, base, opened, sites=sites
    )
    if (canonical.digest(model), norm_micro) != (found.model_digest, found.norm_l2_micro):
        raise PolicyViolation(
            [Violation("aggregate.model", "the released model does not follow from the opened sum")]
        )
    return model
