"""A hospital and the coordinator change their signing keys; the rounds go on, and the old keys sign nothing any more.

Sabotaged, nobody makes a new key: whoever stole the old one can still speak.
"""

from __future__ import annotations

from flows.rehearsal import WAIT_S, rehearsing
from flows.rollout.drills.minutes import Minutes
from tasks.found import COORDINATOR
from tasks.rehearsal.plan import rehearsal_plan
from tasks.rehearsal.rotation import key_id_in_force, make_next_key, refusal_of, signing_key

SITES = ("hospital-a", "hospital-b", "hospital-c")
SITE = SITES[1]
STEPS = {SITE: "old-key-of-the-site-refused", COORDINATOR: "old-key-of-the-coordinator-refused"}


async def key_rotation(minutes: Minutes) -> None:
    with rehearsing(SITES) as rehearsal:
        old = {name: signing_key(rehearsal, name) for name in STEPS}
        if not minutes.sabotaged:
            for name in STEPS:
                make_next_key(rehearsal, name)
        first = rehearsal_plan()
        outcome = await rehearsal.run(first, wait_s=WAIT_S, leave=True)
        minutes.note("round-counts-under-the-new-keys", outcome.counts(first))
        changed = [
            name for name, key in old.items() if key_id_in_force(outcome.state, name) != key.public.keyid
        ]
        minutes.note("new-keys-in-force", len(changed) == len(old), count=len(changed))
        following = rehearsal_plan({"edition": "2"})
        outcome = await rehearsal.run(following, wait_s=WAIT_S, leave=True)
        minutes.note("next-round-counts", outcome.counts(following))
        for name, step in STEPS.items():
            async with rehearsal.opened_coordinator() as coordinator:
                code = await refusal_of(coordinator, name, old[name])
            minutes.note(step, bool(code), code=code)
        minutes.ledger(rehearsal)
