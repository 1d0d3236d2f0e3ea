"""The site's own report: what it may see of its own results. Written in its home; it never leaves."""

from __future__ import annotations

from adapters.home import write_atomically
from ledger import canonical
from ledger.canonical import JsonValue
from policies.events import PlanPublished, Published
from policies.facts import uses_patients
from tasks.site.party import Site
from tasks.step import step
from tasks.worker.site_session import SiteSession


@step
async def compare(site: Site, published: PlanPublished, model: bytes) -> None:
    """Compare the federation's model with one trained here alone, and keep the figures here; of phantoms there is
    nothing to gain for anybody."""
    if not uses_patients(published.plan):
        return
    site.tell("compare with a local model")
    figures = await site.worker.call(SiteSession.compare, published.plan, model)
    _keep(site, published, dict(figures))


def keep_training(
    site: Site, published: Published, round_number: int, *, seconds: float, patients: int
) -> None:
    """How long this site trained in a round, and on how many patients in the end. Both stay here."""
    # One write for both: in a plan of hundreds of rounds each of them counts.
    _keep_of_round(
        site, published, round_number, {"training_seconds": seconds, "patients_by_round": patients}
    )


def keep_withheld(site: Site, published: Published, round_number: int, code: str) -> None:
    """Why this site did not report in a round: the code that may not leave."""
    _keep_of_round(site, published, round_number, {"withheld": code})


def _keep_of_round(site: Site, published: Published, round_number: int, told: dict[str, JsonValue]) -> None:
    kept = _kept(site, published)
    fields: dict[str, JsonValue] = {}
    for field, value in told.items():
        known = kept.get(field)
        fields[field] = {**(known if isinstance(known, dict) else {}), str(round_number): value}
    _keep(site, published, fields)


def _kept(site: Site, published: Published) -> dict[str, JsonValue]:
    """The report so far, if it is about this plan: a run that was cut off adds to it."""
    try:
        report = canonical.decode(site.home.report.read_bytes())
    except FileNotFoundError:
        return {}
    mine = isinstance(report, dict) and report.get("plan_digest") == published.plan_digest
    return report if mine and isinstance(report, dict) else {}


def _keep(site: Site, published: Published, fields: dict[str, JsonValue]) -> None:
    value = {**_kept(site, published), "plan_digest": published.plan_digest, **fields}
    write_atomically(site.home.report, canonical.encode(value), mode=0o600)
