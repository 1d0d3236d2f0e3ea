"""Quarantine itself: what a site does whose evaluation lies too far under the model in force.

The evaluation is withheld and the site takes itself out, until the others take it back. Both are kept in the home
before anything else follows from the decision (`adapters.unsaid`): a run that was cut off says them first. It never
evaluates a second time, wherever it was cut off (`adapters.pool_journal`): that would tell of the same patients twice
and be paid for once, and who may draw again can wait for kind noise. Whether it drifted is `policies.drift`'s.
"""

from __future__ import annotations

from adapters.unsaid import Unsaid
from ledger.errors import CodedError
from policies.drift import PERFORMANCE
from policies.events import Body, PlanPublished, SiteQuarantined, UpdateRefused
from tasks.site.party import Site
from tasks.site.report import keep_withheld
from tasks.site.statements import say_unsaid
from tasks.step import keep_error


def is_drift(error: CodedError) -> bool:
    """Also of one that came out of the site's process, where only its code is left."""
    return error.code == PERFORMANCE


def keep_quarantine(site: Site, published: PlanPublished, round_number: int) -> None:
    """Durably, before anything else follows from the decision: there is no way back from it but the others' votes."""
    unsaid = Unsaid(site.home.root)
    # Itself first: cut off between the two, the journal keeps it from a second evaluation without the other.
    for body in _statements(site, published, round_number):
        unsaid.put(body)


async def quarantine_itself(
    site: Site, published: PlanPublished, round_number: int, error: CodedError
) -> None:
    """Say both, which are kept, as soon as the ledger takes them; where so many sites drifted that it is the model,
    the ledger takes the refusal alone."""
    keep_error(site, error)
    keep_withheld(site, published, round_number, error.code)
    unsaid = Unsaid(site.home.root)
    ours = _statements(site, published, round_number)
    left = [name for name in unsaid.waiting() if _read(unsaid, name) in ours]
    site.tell("quarantine itself", round_number)
    await say_unsaid(site)
    for name in left:
        for violation in unsaid.refusal(name):
            site.keep_diagnostics(f"not taken by the ledger: {violation.code}: {violation.message}")


def _read(unsaid: Unsaid, name: str) -> Body | None:
    """None for a file that is none of ours; it is refused when its turn comes."""
    try:
        return unsaid.read(name)
    except CodedError:
        return None


def _statements(
    site: Site, published: PlanPublished, round_number: int
) -> tuple[SiteQuarantined, UpdateRefused]:
    return (
        SiteQuarantined(site=site.name, code=PERFORMANCE),
        UpdateRefused(
            plan_digest=published.plan_digest,
            round=round_number,
            step="evaluation",
            site=site.name,
            code=PERFORMANCE,
        ),
    )
