"""Admission of joint statistics: an inquiry that is published, and the sum that came of it.

All that lies between, from approvals to the closed set, is admitted as for any other plan (`policies.rounds`,
`policies.budget`). Each function returns every reason why the event may not stand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ledger.errors import Violation
from policies.events import InquiryPublished, StatisticsReleased
from policies.opening import sum_digest_of
from policies.rounds import open_round, opened
from privacy.statistics import lane_count

if TYPE_CHECKING:
    from policies.state import FederationState

ROUND = 1
"""An inquiry's only one."""


def inquiry(state: FederationState, body: InquiryPublished) -> list[Violation]:
    found = []
    if body.inquiry.content_digest() != body.plan_digest:
        found.append(Violation("plan.digest", "the inquiry does not have the digest it is published under"))
    if state.published(body.plan_digest) is not None:
        found.append(Violation("plan.published-twice", "this inquiry is on the ledger already"))
    return found


def release(state: FederationState, body: StatisticsReleased) -> list[Violation]:
    """The opened sum of the closed set, once, on the word of enough key holders. What it says follows from it."""
    known = state.inquiries.get(body.plan_digest)
    if known is None:
        return [Violation("plan.unknown", "no such inquiry is on the ledger")]
    found = open_round(state, body.plan_digest, ROUND)
    if (body.plan_digest, ROUND, "statistics") not in state.closed:
        found.append(Violation("statistics.not-closed", "nothing is opened before its round is closed"))
    if body.plan_digest in state.statistics:
        found.append(Violation("statistics.twice", "the sum of this inquiry is released already"))
    if len(body.lanes) != lane_count(known.inquiry.queries):
        found.append(Violation("statistics.lanes", "the lanes are not those of the inquiry's queries"))
    if sum_digest_of(np.array(body.lanes, dtype=np.int32)) != body.sum_digest:
        found.append(Violation("statistics.sum", "the lanes are not the opened sum"))
    return found + opened(
        state,
        body.plan_digest,
        ROUND,
        "statistics",
        sum_digest=body.sum_digest,
        openings=body.openings,
    )
