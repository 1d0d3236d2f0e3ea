"""The homes of a hospital and of the coordinator are lost in the middle of a round, and put back from their backups.

The run goes on with everybody and draws nothing twice. A home from before its last release releases nothing again,
and a log from before its last entries appends nothing. Sabotaged, the backup leaves out the journal of the register.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from flows.rehearsal import WAIT_S, Outcome, Rehearsal, rehearsing
from flows.rollout.drills.minutes import Minutes
from ledger.canonical import JsonValue
from ledger.errors import CodedError
from policies.cost import plan_cost
from policies.plan import Plan
from tasks.found import COORDINATOR
from tasks.progress import Progress
from tasks.rehearsal.homes import back_up, drawn_twice, put_back
from tasks.rehearsal.plan import rehearsal_plan

SITES = ("hospital-a", "hospital-b", "hospital-c", "hospital-d")
SITE = SITES[3]
LOST = (SITE, COORDINATOR)
JOURNAL = "pool"
PATIENCE: JsonValue = {"required": [], "minimum_sites": 3, "deadline_s": 12}


async def restore(minutes: Minutes) -> None:
    with rehearsing(SITES) as rehearsal, tempfile.TemporaryDirectory(prefix="wardround-backup-") as folder:
        kept = Path(folder)
        # 1. Everybody has reported, and then the disks are gone.
        first = rehearsal_plan()
        await _until_reported(rehearsal, first)
        for name in LOST:
            left_out = JOURNAL if minutes.sabotaged and name == SITE else None
            back_up(rehearsal, name, kept / name, without=left_out)
            put_back(rehearsal, name, kept / name)
        minutes.note("homes-destroyed-and-restored", True, count=len(LOST))
        # 2. The same run, again.
        outcome = await rehearsal.run(first, wait_s=WAIT_S, leave=True)
        minutes.note("run-goes-on-with-everybody", outcome.counts(first), code=outcome.code(SITE))
        cost = plan_cost(first)
        once = [site for site in SITES if outcome.state.spent_by(site) == cost]
        agreed = not any(drawn_twice(rehearsal, outcome.state, site) for site in SITES)
        minutes.note("nothing-drawn-twice", len(once) == len(SITES) and agreed, count=len(once))
        # 3. Backups from before the last release are put back instead.
        for name in LOST:
            back_up(rehearsal, name, kept / f"old-{name}")
        # The older home has nothing to say any more: the others wait for it until the deadline.
        following = rehearsal_plan({"edition": "2", "participation": PATIENCE})
        await _until_reported(rehearsal, following)
        put_back(rehearsal, SITE, kept / f"old-{SITE}")
        await _releases_nothing(rehearsal, following, minutes)
        put_back(rehearsal, COORDINATOR, kept / f"old-{COORDINATOR}")
        code = await _refusal(rehearsal)
        minutes.note("older-log-appends-nothing", bool(code), code=code)


async def _until_reported(rehearsal: Rehearsal, plan: Plan) -> Outcome:
    def everybody_reported(seen: Progress) -> bool:
        return (seen.party, seen.step, seen.round) == (COORDINATOR, "open the sum", 1)

    return await rehearsal.run(plan, cut_at=everybody_reported, wait_s=WAIT_S, leave=True)


async def _releases_nothing(rehearsal: Rehearsal, plan: Plan, minutes: Minutes) -> None:
    """The older home's site has nothing but its report from before: no second one, and no evaluation."""
    digest = plan.content_digest()
    before = rehearsal.state().receipts
    outcome = await rehearsal.run(plan, wait_s=WAIT_S, leave=True)
    minutes.ledger(rehearsal)
    closed = (digest, 1, "evaluation") in outcome.state.closed
    code = outcome.missing(plan, 1, "evaluation").get(SITE) if closed else None
    theirs = {
        one: receipt.entry_digest for one, receipt in outcome.state.receipts.items() if one[0] == digest
    }
    unchanged = theirs.get((digest, 1, "training", SITE)) == before[digest, 1, "training", SITE].entry_digest
    silent = (digest, 1, "evaluation", SITE) not in theirs
    minutes.note("older-home-releases-nothing-again", unchanged and silent and code is not None, code=code)


async def _refusal(rehearsal: Rehearsal) -> str:
    """Why the coordinator's home does not open; "" if it does."""
    try:
        async with rehearsal.opened_coordinator():
            return ""
    except CodedError as error:
        return error.code
