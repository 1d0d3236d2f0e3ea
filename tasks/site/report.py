"""The site's own report: what it may see of its own results. Written in its home; it never leaves."""

from __future__ import annotations

from collections.abc import Mapping

from adapters.home import write_atomically
from ledger import canonical
from ledger.canonical import JsonValue
from policies.events import PlanPublished
from tasks.site.party import Site
from tasks.step import step
from tasks.worker.site_session import SiteSession


@step
async def compare(
    site: Site, published: PlanPublished, model: bytes, training_seconds: Mapping[str, float]
) -> None:
    """Compare the federation's model with one trained here alone, and keep the figures here."""
    site.tell("compare with a local model")
    figures = await site.worker.call(SiteSession.compare, published.plan, model)
    value: dict[str, JsonValue] = {
        "plan_digest": published.plan_digest,
        "training_seconds": dict(training_seconds),
        **figures,
    }
    write_atomically(site.home.report, canonical.encode(value), mode=0o600)
