"""What an inquiry came to, for people: figures read off the released sum, kept in the coordinator's home.

    <home>/statistics/<plan digest>.json    {"plan_digest", "name", "edition", "sites_reported", "sites_missing",
                                             "queries": [{"name", "kind", "figures": [{"label", "value",
                                             "half_width"}]}]}

Everything here follows from the ledger, for whoever has it; every figure is noised. What a figure and its half-width
are is `privacy.statistics_reading`.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from adapters.home import Home, write_atomically
from ledger.canonical import JsonValue
from policies.events import InquiryPublished
from policies.inquiries import ROUND
from policies.state import FederationState
from privacy.statistics_reading import Released, read_sum
from tasks.coordinator.party import Coordinator
from tasks.step import step


def figures_of(state: FederationState, plan_digest: str) -> tuple[Released, ...]:
    """The figures of an inquiry that is released; KeyError before."""
    published, released = state.inquiries[plan_digest], state.statistics[plan_digest]
    sites = len(state.closed[plan_digest, ROUND, "statistics"].receipts)
    lanes = np.array(released.lanes, dtype=np.int32)
    return read_sum(published.inquiry.queries, lanes, sites=sites)


def figures_path(home: Home, plan_digest: str) -> Path:
    return home.root / "statistics" / f"{plan_digest}.json"


def figures_json(state: FederationState, published: InquiryPublished) -> dict[str, JsonValue]:
    """As drawn above."""
    digest = published.plan_digest
    closed = state.closed[digest, ROUND, "statistics"]
    missing: dict[str, JsonValue] = {absence.site: absence.code for absence in closed.missing}
    reported: list[JsonValue] = [*sorted(state.reported(digest, ROUND))]
    queries: list[JsonValue] = []
    for released in figures_of(state, digest):
        figures: list[JsonValue] = [
            {"label": one.label, "value": one.value, "half_width": one.half_width} for one in released.figures
        ]
        queries.append({"name": released.name, "kind": released.kind, "figures": figures})
    return {
        "plan_digest": digest,
        "name": published.plan.name,
        "edition": published.plan.edition,
        "sites_reported": reported,
        "sites_missing": missing,
        "queries": queries,
    }


@step
async def keep_figures(coordinator: Coordinator, published: InquiryPublished) -> None:
    """Write the file anew; the same bytes for the same ledger."""
    value = figures_json(coordinator.state, published)
    path = figures_path(coordinator.home, published.plan_digest)
    write_atomically(path, json.dumps(value, indent=1).encode() + b"\n")
