"""Settle a round's reservation: say on the ledger what was used, and give back what never began.

A step is given back only by the run that reserved it, and only if it never began: of a run that was cut off nothing
is known, so all of it counts as used. What was given back can have no receipt any more (`policies.budget`).
"""

from __future__ import annotations

from ledger.errors import CodedError
from policies.budget import unreleased
from policies.events import BudgetSpent, Published
from privacy import accounting
from tasks.site.contribute import attempts, use_of
from tasks.site.party import Site
from tasks.step import step

PATIENCE_S = 10.0
"""A coordinator that gave up takes nothing any more. Then the reservation stays spent, which is safe."""


@step
async def settle(site: Site, published: Published, round_number: int) -> None:
    """Settle the last attempt of the round, once; nothing if there is none."""
    key = (published.plan_digest, round_number, site.name)
    attempt = attempts(site, published, round_number)
    done = site.latest.settled.get(key)
    pool = site.member.pool
    if attempt == 0 or pool is None or (done is not None and done.attempt == attempt):
        return
    drawing = site.drawn.get((published.plan_digest, round_number))
    ours = drawing is not None and drawing.attempt == attempt
    released = tuple(
        kind
        for kind in published.plan.steps_of(round_number)
        if drawing is None or not ours or kind in drawing.begun
    )
    unused = unreleased(published.plan, round_number, released)
    if not unused and len(published.plan.steps_of(round_number)) < len(published.plan.steps):
        return  # of a round without an evaluation it would say nothing
    left = site.latest.spent_by(site.name) - accounting.total(unused)
    try:
        await site.say(
            BudgetSpent(
                plan_digest=published.plan_digest,
                round=round_number,
                attempt=attempt,
                released=released,
                epsilon_total_micro=pool.epsilon_micro(left),
            ),
            final=bool(unused),
            timeout_s=PATIENCE_S,
        )
    except CodedError as error:
        site.keep_diagnostics(f"round {round_number} is not settled: {error}")
        return
    if unused:
        site.journal.give_back(use_of(site, published, round_number, attempt), unused)
