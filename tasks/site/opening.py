"""Answering for the closed set, opening sums at a key holder, and following what was opened at every site.

A site answers once a step, and only for the set in a *final* `round.closed` event. A key holder opens that set's sum
itself, out of the reports and the answers, and signs what it found. Every site recomputes the model and the AUC from
the opened sum and refuses the round if the coordinator released others.
"""

from __future__ import annotations

from typing import Literal

from adapters import mail, objects
from adapters.home import write_atomically
from ledger import canonical, envelope
from ledger.errors import CodedError, PolicyViolation, Violation
from policies.answer import PAYLOAD_TYPE as ANSWER_TYPE
from policies.answer import SumAnswer
from policies.events import AggregateReleased, PlanPublished, Published, RoundClosed
from policies.opening import PAYLOAD_TYPE as OPENING_TYPE
from policies.opening import Opening, outcome_digest_of
from policies.protection import closed_receipts, opened_groups
from policies.receipt import Step
from policies.state import FederationState
from privacy.protected_sum import Answer
from tasks.aggregate import Aggregate, outcome_of
from tasks.model_objects import load_sum, previous_model, server_state
from tasks.opening import ImpossibleSumError, open_closed
from tasks.site.party import Site, patience_s
from tasks.site.sums import own_terms, sealed_key
from tasks.step import step
from tasks.summing import GroupSum, answers_wanted, load_reports, needs_updates
from tasks.worker.site_session import SiteSession
from tasks.worker.sum_session import Complaint


def _ended(state: FederationState, plan_digest: str, round_number: int) -> bool:
    """The round got its verdict without this step: nothing more is coming."""
    return (plan_digest, round_number) in state.verdicts


async def _closed(
    site: Site, published: Published, round_number: int, kind: Step
) -> RoundClosed | Literal[False]:
    """The final closed set; False if the round ended without one."""
    digest = published.plan_digest

    def closed(state: FederationState) -> RoundClosed | Literal[False] | None:
        found = state.closed.get((digest, round_number, kind))
        return False if found is None and _ended(state, digest, round_number) else found

    return await site.until(closed, timeout_s=patience_s(published.plan), waiting_for="the round to close")


@step
async def answer(site: Site, published: Published, round_number: int, kind: Step) -> bool:
    """Answer for the closed set, once, if the scheme wants this site's answer. False where it does not."""
    digest = published.plan_digest
    fixed = await _closed(site, published, round_number, kind)
    if fixed is False:
        return False
    place = f"{mail.answers(digest, round_number, kind)}/{site.name}"
    kept = site.home.root / "answers" / digest / f"{round_number}-{kind}"
    group = _group(site, digest, round_number, kind)
    if group is None:
        return False
    terms = own_terms(
        site, published, round_number, kind, model_digest=_model_digest(site, published, round_number, kind)
    )
    if kept.exists():  # what a site answered is sent again, never made again
        await site.worker.call(SiteSession.answered, published.plan, terms)
        site.exchange.replace(place, kept.read_bytes())
        return True
    receipts = closed_receipts(site.state, digest, round_number, kind)[group]
    if site.name not in answers_wanted(published.plan, terms, tuple(receipt.site for receipt in receipts)):
        return False
    # The ledger refuses such a set too. This site does not take the ledger's word where its answer is at stake.
    own = {receipt.entry_digest for receipt in site.state.usable_receipts(digest, round_number, kind)}
    if not own <= set(fixed.receipts):
        raise PolicyViolation([Violation("opening.set", "the closed set omits a receipt that counts")])
    site.tell("answer", round_number)
    try:
        sizes = await site.worker.call(SiteSession.message_sizes, published.plan, terms)
        reports = load_reports(
            site.exchange, receipts, sizes, with_updates=needs_updates(published.plan, terms, site.name)
        )
        said = await site.worker.call(
            SiteSession.answer, published.plan, terms, reports, sealed_key(site, published)
        )
    except CodedError as error:
        # A report or its own keys are gone. The others' answers may suffice without it.
        site.keep_diagnostics(f"no answer in round {round_number} ({kind}): {error}\n{error.diagnostics()}")
        return False
    if said is None:
        return False
    complaints = said.names if isinstance(said, Complaint) else ()
    answered = Answer() if isinstance(said, Complaint) else said
    statement = SumAnswer(
        schema_version=1,
        origin=site.state.origin,
        plan_digest=digest,
        round=round_number,
        step=kind,
        closed_digest=fixed.content_digest(),
        unmask_digest=objects.store(site.exchange, answered.unmask) if answered.unmask else None,
        part_digest=objects.store(site.exchange, answered.part) if answered.part else None,
        complaints=complaints,
    )
    signed = envelope.sign(ANSWER_TYPE, statement.canonical_bytes(), [site.signer]).encode()
    write_atomically(kept, signed, mode=0o600)  # durable before it is sent
    await site.worker.call(SiteSession.answered, published.plan, terms)
    site.exchange.replace(place, signed)  # whatever anybody else put there
    return True


def _group(site: Site, plan_digest: str, round_number: int, kind: Step) -> int | None:
    """The number of the opened group that has this site's report; None if none has."""
    groups = opened_groups(site.state, plan_digest, round_number, kind)
    return next((number for number, sites in groups if site.name in sites), None)


def _model_digest(site: Site, published: Published, round_number: int, kind: Step) -> str:
    after = round_number if kind == "training" else round_number + 1
    return site.state.model_before(published.plan_digest, after) or ""


@step
async def open_sum(
    site: Site, published: Published, round_number: int, kind: Step, base: bytes | None = None
) -> bool:
    """As a key holder, open the closed set's sums and sign what they are and, of training that began at `base`, what
    follows from them. False where there is nothing to open."""
    digest = published.plan_digest
    if site.name not in site.federation.key_holders:
        return False
    if await _closed(site, published, round_number, kind) is False:
        return False
    place = f"{mail.openings(digest, round_number, kind)}/{site.name}"
    kept = site.home.root / "openings" / digest / f"{round_number}-{kind}"
    if kept.exists():
        site.exchange.replace(place, kept.read_bytes())
        return True
    site.tell("open the sum", round_number)

    async def open_sums(groups: list[GroupSum]) -> bytes:
        return await site.worker.call(SiteSession.open_sums, published.plan, groups)

    try:
        opened = await open_closed(site, published, round_number, kind, open_sums)
    except ImpossibleSumError as error:
        # The coordinator finds the same, and the verdict says so.
        site.keep_diagnostics(f"{error}")
        return False
    outcome = None
    if isinstance(published, PlanPublished) and kind == "training" and base is not None:
        outcome = outcome_of(await _aggregate(site, published, base, round_number, opened.lanes))
    statement = Opening(
        schema_version=1,
        origin=site.state.origin,
        plan_digest=digest,
        round=round_number,
        step=kind,
        sum_digest=opened.digest,
        outcome_digest=outcome,
    )
    signed = envelope.sign(OPENING_TYPE, statement.canonical_bytes(), [site.signer]).encode()
    write_atomically(kept, signed, mode=0o600)
    site.exchange.replace(place, signed)
    return True


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
    opened = await load_sum(site, published, round_number, found.sum_digest)
    aggregate = await _aggregate(site, published, base, round_number, opened)
    told = outcome_digest_of(
        model_digest=found.model_digest,
        norm_l2_micro=found.norm_l2_micro,
        cosines_micro=found.cosines_micro,
        outliers=found.outliers,
        server_state_digest=found.server_state_digest,
    )
    if told != outcome_of(aggregate):
        raise PolicyViolation(
            [Violation("aggregate.model", "the released model does not follow from the opened sum")]
        )
    return aggregate.model


async def _aggregate(
    site: Site, published: PlanPublished, base: bytes, round_number: int, opened: bytes
) -> Aggregate:
    """What follows from the opened sums, computed in this site's process; once a round, whoever asks."""
    key = (round_number, canonical.digest(base), canonical.digest(opened))
    if site.aggregated is None or site.aggregated[0] != key:
        groups = opened_groups(site.state, published.plan_digest, round_number, "training")
        made = await site.worker.call(
            SiteSession.next_model,
            published.plan,
            round_number,
            base,
            opened,
            sizes=tuple(len(sites) for _, sites in groups),
            previous=await previous_model(site, published, round_number),
            server_state=await _server_state(site, published, round_number),
        )
        site.aggregated = (key, made)
    return site.aggregated[1]


async def _server_state(site: Site, published: PlanPublished, round_number: int) -> bytes | None:
    """The state that this site computed in the last round, or else, if it is another run's, the ledger's."""
    released = site.state.released.get((published.plan_digest, round_number - 1))
    if released is not None and site.aggregated is not None:
        own = site.aggregated[1]
        if own.server_state_digest == released.server_state_digest:
            return own.server_state
    return await server_state(site, published, round_number)
