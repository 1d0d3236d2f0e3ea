"""What came of each night of a nightly plan, read off the folded ledger: the run of a night is the plan's edition of
that date. Which nights were due is the schedule's affair (`tasks.nightly`). Pure readings; no clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal

from policies.events import PlanPublished
from policies.plan import Plan

if TYPE_CHECKING:
    from policies.state import FederationState

Outcome = Literal["done", "refused", "failed", "unfinished", "missed", "due"]


@dataclass(frozen=True, slots=True)
class Night:
    """`done`: every round is registered. `refused` at the entry gate, `failed` at a later one: `codes` say why.
    `unfinished`: published, and neither. `missed`: nothing of it is on the ledger;
    `due`: nothing yet, and it is too early to say."""

    date: date
    outcome: Outcome
    plan_digest: str | None = None
    rounds: int = 0
    """How many have a registered model."""
    codes: tuple[str, ...] = ()


def judged(state: FederationState, *, plan: str, study: str, dates: Iterable[date]) -> list[Night]:
    """What came of the runs of the plan of that name on those dates, in their order; of several that a plan that was
    changed had on one date, the newest."""
    runs = _runs(state, plan, study)
    return [
        Night(day, "missed") if day not in runs else _night(state, day, runs[day])
        for day in sorted(set(dates))
    ]


def is_done(state: FederationState, plan: Plan) -> bool:
    """Whether this very edition is on the ledger with a registered model of its last round."""
    return (plan.content_digest(), plan.rounds) in state.registered


def dates_run(state: FederationState, *, plan: str, study: str) -> frozenset[date]:
    """The dates of which the ledger has an edition."""
    return frozenset(_runs(state, plan, study))


def _runs(state: FederationState, plan: str, study: str) -> dict[date, PlanPublished]:
    found = {}
    for digest in state.published_at:
        published = state.plans.get(digest)
        if published is None or (published.plan.name, published.plan.study) != (plan, study):
            continue
        try:
            day = date.fromisoformat(published.plan.edition)
        except ValueError:
            continue  # an edition of another kind
        if day.isoformat() == published.plan.edition:
            found[day] = published
    return found


def _night(state: FederationState, day: date, published: PlanPublished) -> Night:
    digest, plan = published.plan_digest, published.plan
    rounds = sum((digest, number) in state.registered for number in range(1, plan.rounds + 1))
    failed = [
        (number, verdict.violations)
        for (about, number), verdict in state.verdicts.items()
        if about == digest and not verdict.passed
    ]
    if failed:
        number, codes = failed[-1]
        return Night(day, "failed" if number else "refused", digest, rounds, codes)
    done = (digest, plan.rounds) in state.registered
    return Night(day, "done" if done else "unfinished", digest, rounds)
