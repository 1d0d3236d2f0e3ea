"""A patient withdraws while round 1 trains. Round 2 trains on one fewer, and the ledger does not tell whose it was.

Every site says as much on the ledger as every other, and after the next day's consent states all roots are new.
Sabotaged, the site asks for consent once and trains on regardless.
"""

from __future__ import annotations

from flows.rehearsal import WAIT_S, rehearsing
from flows.rollout.drills.minutes import Minutes
from policies.state import FederationState
from tasks.found import COORDINATOR
from tasks.rehearsal.cast import site_worker
from tasks.rehearsal.consents import (
    HeedlessSession,
    LaterClock,
    WithdrawsInTraining,
    everybody_agrees,
    patients_by_round,
)
from tasks.rehearsal.founding import RECORDS
from tasks.rehearsal.plan import rehearsal_plan

SITES = ("hospital-a", "hospital-b", "hospital-c")
SITE = SITES[0]


async def consent_withdrawal(minutes: Minutes) -> None:
    plan = rehearsal_plan({"rounds": 2, "evaluation": {"bins": 16, "noise_std": 1.0, "every": 2}})
    with rehearsing(SITES, consent=RECORDS) as rehearsal:
        if minutes.sabotaged:
            rehearsal.workers[SITE] = site_worker(HeedlessSession)
        keys = everybody_agrees(rehearsal, plan)
        withdrawal = WithdrawsInTraining(rehearsal, SITE, patient_key=keys[SITE])
        stop = withdrawal.watch()
        try:
            outcome = await rehearsal.run(plan, wait_s=WAIT_S, leave=True)
        finally:
            stop()
        minutes.note("withdrawn-while-round-1-trains", withdrawal.withdrawn == 1, count=withdrawal.withdrawn)
        minutes.note("both-rounds-count", outcome.counts(plan))
        trained = patients_by_round(rehearsal, SITE)
        fewer = trained.get("1", 0) - trained.get("2", 0)
        minutes.note("round-2-trains-on-one-fewer", fewer == 1, count=max(0, fewer))
        said = {outcome.state.chain.position(site)[0] for site in SITES}
        minutes.note("all-sites-speak-alike", len(said) == 1, count=max(said))

        before = _roots(outcome.state)
        later = LaterClock(outcome.state.founded().consent_cadence_s)
        rehearsal.clocks.update(dict.fromkeys((*SITES, COORDINATOR), later))
        following = rehearsal_plan({"edition": "2"})
        after = _roots((await rehearsal.run(following, wait_s=WAIT_S, leave=True)).state)
        changed = [site for site in SITES if after[site] != before[site]]
        minutes.note("all-roots-change-alike", len(changed) == len(SITES), count=len(changed))
        minutes.ledger(rehearsal)


def _roots(state: FederationState) -> dict[str, str]:
    return {site: state.consent_states[site].root for site in SITES}
