"""Building one party's end of a protected sum out of what the ledger says of it.

Plain functions, used by the coordinator, by sites and by whoever checks them. What a sum is bound to is
`policies.protection`; the schemes are in `privacy`. No secret is made here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters import objects
from adapters.exchange import Exchange, ExchangeTooLargeError
from ledger.errors import CodedError
from policies.events import Published
from policies.inquiry import AnyPlan, Inquiry
from policies.plan import Plan
from policies.protection import is_encrypted, sum_context
from policies.receipt import Step
from policies.receipt_record import Receipt
from policies.state import FederationState
from privacy import statistics
from privacy.homomorphic_sum import HomomorphicSum
from privacy.masked_sum import MaskedSum
from privacy.masking.mask_secrets import AnswerKeys, MaskSecrets
from privacy.message_sizes import MessageSizes, message_sizes
from privacy.packing import Lanes, Packing, SumOutOfRangeError
from privacy.protected_sum import Answer, ProtectedSum, Report
from privacy.sealing import SealingKey
from privacy.shared_sum import Aggregator, SharedSum
from privacy.study_key import MAXIMUM_CONTEXT_BYTES, PublicContext, StudyKey
from privacy.sum_context import SumContext
from tasks.aggregate import lane_count, lanes_to_bytes, packing_of, void_lanes

TOO_LARGE = "report.too-large"


@dataclass(frozen=True, slots=True, kw_only=True)
class SumTerms:
    """All that is public about one sum; it goes into a party's process."""

    context: SumContext
    public: bytes | None
    """The public context of the plan's key, where sums are encrypted."""
    holders: tuple[str, ...]
    """Of the plan's key, in the roster."""
    openings_required: int
    aggregators: tuple[Aggregator, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSum:
    """One group's sum as far as it has come: the closed set's reports and the answers so far, by site."""

    terms: SumTerms
    closed: Mapping[str, Report]
    answers: Mapping[str, Answer]
    sizes: MessageSizes


@dataclass(frozen=True, slots=True, kw_only=True)
class SumSecrets:
    """What a site adds to the terms: all of it stays in its process."""

    name: str
    masks: MaskSecrets | AnswerKeys | None = None
    key: StudyKey | None = None
    sealing: SealingKey | None = None


def sum_terms(
    state: FederationState,
    exchange: Exchange,
    published: Published,
    round_number: int,
    step: Step,
    *,
    model_digest: str,
    group: int = 0,
) -> SumTerms:
    """The terms of one group's sum, as this party's ledger has them."""
    plan, federation = published.plan, state.founded()
    context = sum_context(
        state, published.plan_digest, round_number, step, model_digest=model_digest, group=group
    )
    holders = tuple(name for name in federation.key_holders if name in context.roster.names)
    public = None
    if is_encrypted(plan):
        named = state.sum_keys[published.plan_digest].public_key_digest
        public = objects.load(exchange, named, at_most_bytes=MAXIMUM_CONTEXT_BYTES)
    return SumTerms(
        context=context,
        public=public,
        holders=holders,
        openings_required=federation.openings_required(),
        aggregators=_aggregators(state, plan, holders),
    )


def _aggregators(state: FederationState, plan: AnyPlan, holders: Sequence[str]) -> tuple[Aggregator, ...]:
    if plan.scheme != "shared":
        return ()
    found = []
    for name in sorted(holders[: plan.protection.aggregators]):
        member = state.founded().member(name)
        if member is not None and member.sealing_key is not None:
            found.append(Aggregator(name=name, sealing_key=bytes.fromhex(member.sealing_key)))
    return tuple(found)


def needs_updates(plan: AnyPlan, terms: SumTerms, name: str) -> bool:
    """Whether this site's answer takes the others' updates, or their shares alone."""
    if is_encrypted(plan):
        return name in terms.holders
    return any(aggregator.name == name for aggregator in terms.aggregators)


def opening_needs_updates(plan: AnyPlan) -> bool:
    """Whether a sum is opened out of the updates; an encrypted one is opened out of what holders decrypted."""
    return not is_encrypted(plan)


def answers_wanted(plan: AnyPlan, terms: SumTerms, closed: Sequence[str]) -> frozenset[str]:
    """Which sites of the closed set answer under this scheme."""
    if plan.scheme == "shared":
        return frozenset(one.name for one in terms.aggregators)
    if plan.scheme == "homomorphic-unmasked":
        return frozenset(terms.holders) & frozenset(closed)
    return frozenset(closed)


def sizes_of(plan: AnyPlan, terms: SumTerms) -> MessageSizes:
    """How long the messages of one group's sum can be. Takes the plan's network: for a party's process."""
    packing, lanes = _form(plan, terms.context)
    sites = len(terms.context.roster.names)
    return message_sizes(plan.scheme, packing, lanes, sites=sites, aggregators=len(terms.aggregators))


def load_reports(
    exchange: Exchange, receipts: Sequence[Receipt], sizes: MessageSizes, *, with_updates: bool = True
) -> dict[str, Report]:
    """The reports of these receipts by site, as their digests name them. One that is longer than any of this sum is
    not read, but refused (`report.too-large`)."""
    found = {}
    for receipt in receipts:
        statement = receipt.statement
        try:
            update = shares = b""
            if with_updates:
                update = objects.load(exchange, statement.update_digest, at_most_bytes=sizes.update)
            if statement.shares_digest is not None:
                shares = objects.load(exchange, statement.shares_digest, at_most_bytes=sizes.shares)
        except CodedError as error:
            code = TOO_LARGE if isinstance(error, ExchangeTooLargeError) else error.code
            raise CodedError(f"the report of {receipt.site}: {error.public_message}", code=code) from None
        found[receipt.site] = Report(update=update, shares=shares)
    return found


def _form(plan: AnyPlan, context: SumContext) -> tuple[Packing, int]:
    """How the lanes of this step lie in the sum, and how many there are."""
    if isinstance(plan, Inquiry):
        return plan.packing, statistics.lane_count(plan.queries)
    return packing_of(plan, context.step), lane_count(plan, context.step, round_number=context.round)


def end_of(plan: AnyPlan, terms: SumTerms, secrets: SumSecrets | None = None) -> ProtectedSum:
    """One party's end: a site's with its secrets, the coordinator's and a checker's without."""
    packing, lanes = _form(plan, terms.context)
    masks = None if secrets is None else secrets.masks
    if plan.scheme == "masked":
        return MaskedSum(terms.context, packing, lanes, secrets=masks)
    name = None if secrets is None else secrets.name
    if plan.scheme == "shared":
        aggregating = name is not None and any(one.name == name for one in terms.aggregators)
        return SharedSum(
            terms.context,
            packing,
            lanes,
            aggregators=terms.aggregators,
            name=name,
            key=secrets.sealing if secrets is not None and aggregating else None,
        )
    return HomomorphicSum(
        terms.context,
        packing,
        lanes,
        public=PublicContext.from_bytes(terms.public or b""),
        holders=terms.holders,
        openings_required=terms.openings_required,
        name=name,
        key=None if secrets is None else secrets.key,
        secrets=masks,
        masked=plan.scheme == "homomorphic",
    )


def open_groups(plan: AnyPlan, groups: Sequence[GroupSum]) -> bytes:
    """The opened sums of all groups, one behind the other (`tasks.aggregate.lanes_to_bytes`)."""
    return b"".join(lanes_to_bytes(_open(plan, group)) for group in groups)


def _open(plan: AnyPlan, group: GroupSum) -> Lanes:
    """One group's sum. A cluster of a robust plan that opens to no possible sum proves that somebody in it is
    hostile; it is marked as void, the same at every party, and does not keep the others from being opened."""
    try:
        return end_of(plan, group.terms).open(group.closed, group.answers)
    except SumOutOfRangeError:
        if not isinstance(plan, Plan) or plan.robust is None or group.terms.context.step != "training":
            raise
        return void_lanes(plan)
