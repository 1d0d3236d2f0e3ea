"""A hospital sends the worst that a plain sum lets through. Its cluster must be named, and the model survive it.

Twelve sites, one of them hostile: it trains honestly and sends the opposite of what its last layer learned, eleven
clips long. A plain mean of the same updates is made beside, to see that the attack is one. Sabotaged, the plan is not
robust.
"""

from __future__ import annotations

from flows.rehearsal import LEARNED_PX, WAIT_S, Outcome, Rehearsal, rehearsing
from flows.rollout.drills.minutes import Minutes
from ledger.canonical import JsonValue
from policies.plan import Plan
from policies.protection import groups_of
from tasks.rehearsal.cast import site_worker
from tasks.rehearsal.plan import rehearsal_plan
from tasks.rehearsal.poisoning import LyingSession, figures_micro

SITES = tuple(f"hospital-{number:02}" for number in range(1, 13))
HOSTILE = "hospital-07"
PATIENTS = 60
SURVIVED_MICRO, HARMED_MICRO = 850_000, 650_000
"""A model above the first learned what there is to learn; one below the second is of no use."""


async def poisoning(minutes: Minutes) -> None:
    with rehearsing(SITES, patients=dict.fromkeys(SITES, PATIENTS)) as rehearsal:
        plan, outcome = await attacked(rehearsal, minutes, step="hostile-cluster-named")
        key, state = (plan.content_digest(), 1), outcome.state
        with_defence, without = figures_micro(rehearsal, plan, state, width_px=LEARNED_PX)
        minutes.figure("auc-of-the-model", with_defence)
        minutes.figure("auc-of-the-plain-mean", without)
        minutes.note("attack-harms-the-plain-mean", without <= HARMED_MICRO)
        minutes.note("nobody-else-named", len(state.released[key].outliers) == 1)
        survives = with_defence >= SURVIVED_MICRO and key in state.registered
        minutes.note("model-survives", survives)
        minutes.ledger(rehearsal)


async def attacked(rehearsal: Rehearsal, minutes: Minutes, *, step: str) -> tuple[Plan, Outcome]:
    """A round with one hostile site; notes whether its cluster was named, and how many were."""
    rehearsal.workers[HOSTILE] = site_worker(LyingSession)
    robust: JsonValue = None if minutes.sabotaged else {"hostile": 1}
    plan = rehearsal_plan({"robust": robust})
    outcome = await rehearsal.run(plan, wait_s=3 * WAIT_S, leave=True)
    digest = plan.content_digest()
    clusters = groups_of(outcome.state, digest, "training")
    spoilt = tuple(number for number, cluster in enumerate(clusters) if HOSTILE in cluster)
    named = outcome.state.released[digest, 1].outliers
    # Of a single group, to name it would be to name nobody.
    minutes.note(step, set(spoilt) <= set(named) and len(clusters) > 1, count=len(named))
    return plan, outcome
