"""The cluster of a hostile hospital is quarantined by itself, with the entry that shows it, and then counts no more.

The round of `poisoning`: its model is evaluated without the cluster, and no plan follows before a quorum has taken
its sites back. Sabotaged, the plan is not robust: nobody is found.
"""

from __future__ import annotations

from flows.rehearsal import WAIT_S, rehearsing
from flows.rollout.drills.minutes import Minutes
from flows.rollout.drills.poisoning import HOSTILE, PATIENTS, SITES, attacked
from policies.protection import groups_of, outlying_sites
from tasks.found import COORDINATOR
from tasks.rehearsal.plan import rehearsal_plan

FOUND, IN_QUARANTINE = "robust.outlier", "site.quarantined"


async def quarantine(minutes: Minutes) -> None:
    with rehearsing(SITES, patients=dict.fromkeys(SITES, PATIENTS)) as rehearsal:
        plan, outcome = await attacked(rehearsal, minutes, step="hostile-cluster-named")
        digest, state = plan.content_digest(), outcome.state
        entry = next((one for one, about in state.release_entries.items() if about == (digest, 1)), "")
        found = outlying_sites(state, entry)
        cluster = next(set(one) for one in groups_of(state, digest, "training") if HOSTILE in one)
        held = {site for site, code in state.quarantined.items() if code == FOUND}
        minutes.note(
            "quarantined-with-the-evidence",
            HOSTILE in held and held == found == cluster and len(cluster) < len(SITES),
            code=FOUND if held else None,
            count=len(held),
        )

        # The model is measured, and registered, by the others.
        left = set(outcome.missing(plan, 1, "evaluation")) if (digest, 1) in state.evaluated else set()
        minutes.note(
            "next-step-counts-without-them",
            HOSTILE in left and left == held and (digest, 1) in state.registered,
            count=len(SITES) - len(left),
        )
        # What comes next waits until a quorum has taken back whom it found honest.
        second = await rehearsal.run(rehearsal_plan({"edition": "2"}), wait_s=WAIT_S, leave=True)
        code = second.code(COORDINATOR)
        minutes.note("next-plan-waits-for-a-quorum", code == IN_QUARANTINE, code=code)
        minutes.ledger(rehearsal)
