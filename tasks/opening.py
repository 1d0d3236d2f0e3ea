"""Signed openings: what a key holder says a sum is, and how many must say the same.

One opening proves nothing, as its holder may lie; f+1 identical ones include an honest holder's. The coordinator
counts them before it releases a model, and every site before it follows one, so that nobody has to believe the
coordinator. Making one lives in `tasks.site.opening`. It is a DSSE envelope of type
application/vnd.wardround.opening+json over

    {"combined_digest", "origin", "plan_digest", "round", "schema_version", "step", "sum_digest"}
"""

from __future__ import annotations

from typing import Literal

from adapters import mail
from adapters.exchange import Exchange
from ledger import envelope
from ledger.errors import CodedError
from policies.document import Document
from policies.events import PlanPublished
from policies.plan import Digest
from policies.receipt import Step
from policies.state import FederationState

PAYLOAD_TYPE = "application/vnd.wardround.opening+json"


class Opening(Document):
    schema_version: Literal[1]
    origin: str
    plan_digest: Digest
    round: int
    step: Step
    combined_digest: Digest
    sum_digest: Digest


def agreed_sum(
    exchange: Exchange,
    state: FederationState,
    published: PlanPublished,
    round_number: int,
    kind: Step,
    *,
    combined_digest: str | None = None,
) -> str | None:
    """Digest of the sum that enough key holders opened identically (of that combined sum, if it is named)."""
    federation = state.federation
    if federation is None:
        return None
    votes: dict[str, int] = {}
    for holder in federation.key_holders:
        opening = _opening(exchange, state, published, round_number, kind, holder=holder)
        if opening is not None and combined_digest in (None, opening.combined_digest):
            votes[opening.sum_digest] = votes.get(opening.sum_digest, 0) + 1
    return next((digest for digest, count in votes.items() if count >= federation.openings_required()), None)


def _opening(
    exchange: Exchange,
    state: FederationState,
    published: PlanPublished,
    round_number: int,
    kind: Step,
    *,
    holder: str,
) -> Opening | None:
    """The holder's opening, if it verifies and is about this step; anything else does not count."""
    data = exchange.get(f"{mail.openings(published.plan_digest, round_number, kind)}/{holder}")
    member = None if state.federation is None else state.federation.member(holder)
    if data is None or member is None:
        return None
    key = member.key.verification_key()
    try:
        signed = envelope.parse(data)
        signed.verify({key.keyid: key}, threshold=1)
        opening = Opening.from_canonical(signed.payload, what="opening")
    except CodedError:
        return None
    about = (opening.origin, opening.plan_digest, opening.round, opening.step)
    wanted = (state.origin, published.plan_digest, round_number, kind)
    return opening if signed.payload_type == PAYLOAD_TYPE and about == wanted else None
