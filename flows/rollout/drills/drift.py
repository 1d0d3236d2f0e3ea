"""One hospital's images come inverted one night. It must take itself out by its own word, and the night go on.

It sees that from its own noised evaluation, beside the figure of the model in force (`policies.drift`). Sabotaged,
the plan watches for no drift.
"""

from __future__ import annotations

from flows.rehearsal import LEARNED_PX, WAIT_S, rehearsing
from flows.rollout.drills.minutes import Minutes
from ledger.canonical import JsonValue
from policies.drift import PERFORMANCE
from policies.plan import Plan
from tasks.rehearsal.plan import rehearsal_plan
from tasks.rehearsal.shards import rewrite_shard

SITES = ("hospital-a", "hospital-b", "hospital-c", "hospital-d")
SITE = SITES[3]
PATIENTS = 400
LEARNED_MICRO = 850_000
MONITOR: JsonValue = {"margin": 0.15, "deviations": 3.0}


async def drift(minutes: Minutes) -> None:
    with rehearsing(SITES, patients=dict.fromkeys(SITES, PATIENTS)) as rehearsal:
        first = _night("1", base="initial", monitored=not minutes.sabotaged)
        outcome = await rehearsal.run(first, wait_s=WAIT_S, leave=True)
        figure = outcome.state.evaluated[first.content_digest(), 1].auc_micro or 0
        minutes.figure("auc-in-force", figure)
        minutes.note("model-in-force", outcome.counts(first) and figure >= LEARNED_MICRO)

        # A scanner whose new software inverts every image: the same patients, and a model that fits them no more.
        rewrite_shard(
            rehearsal, SITE, study=first.study, patients=PATIENTS, width_px=LEARNED_PX, inverted=True
        )
        second = _night("2", base="latest", monitored=not minutes.sabotaged)
        outcome = await rehearsal.run(second, wait_s=WAIT_S, leave=True)
        out, key = outcome.state.quarantined, (second.content_digest(), 1)
        minutes.note("drifted-site-took-itself-out", out.get(SITE) == PERFORMANCE, code=out.get(SITE))
        minutes.note("nobody-else-is-out", set(out) <= {SITE}, count=len(out))
        missing = outcome.missing(second, 1, "evaluation")
        minutes.note("evaluation-counts-without-it", missing == {SITE: PERFORMANCE}, code=missing.get(SITE))
        minutes.figure("auc-of-the-night", outcome.state.evaluated[key].auc_micro or 0)
        minutes.note("night-ends-with-a-model", key in outcome.state.registered)
        minutes.ledger(rehearsal)


def _night(edition: str, *, base: str, monitored: bool) -> Plan:
    gates: dict[str, JsonValue] = {"minimum_auc": 0.0}
    return rehearsal_plan(
        {"edition": edition, "base": base, "gates": {**gates, "drift": MONITOR} if monitored else gates}
    )
