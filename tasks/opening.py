"""Counting the openings on the exchange: the coordinator before it releases, every site before it follows.

What an opening is, and how many must agree, is `policies.opening`; making one is `tasks.site.opening`.
"""

from __future__ import annotations

from adapters import mail
from adapters.exchange import Exchange
from policies.events import PlanPublished
from policies.opening import SignedOpening, read_opening
from policies.receipt import Step
from policies.state import FederationState


def agreed_sum(
    exchange: Exchange,
    state: FederationState,
    published: PlanPublished,
    round_number: int,
    kind: Step,
    *,
    combined_digest: str | None = None,
) -> tuple[str, tuple[SignedOpening, ...]] | None:
    """(digest, signed openings) of the sum that enough key holders opened identically, of that combined sum if
    it is named; None until then."""
    federation = state.federation
    if federation is None:
        return None
    votes: dict[str, list[SignedOpening]] = {}
    place = mail.openings(published.plan_digest, round_number, kind)
    for holder in federation.key_holders:
        data = exchange.get(f"{place}/{holder}")
        found = None if data is None else read_opening(data, federation, holder)
        if data is None or found is None:
            continue
        about = (found.origin, found.plan_digest, found.round, found.step)
        wanted = (state.origin, published.plan_digest, round_number, kind)
        if about == wanted and combined_digest in (None, found.combined_digest):
            votes.setdefault(found.sum_digest, []).append(SignedOpening.from_canonical(data, what="opening"))
    return next(
        (
            (digest, tuple(signed))
            for digest, signed in votes.items()
            if len(signed) >= federation.openings_required()
        ),
        None,
    )
