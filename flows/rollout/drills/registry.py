"""Which drills there are, and playing one: whatever happens in it, there is a report.

A drill whose name is not here is none yet; `policies.rollout.drill_report.STEPS` has the steps of each.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from flows.rollout.drills.consent_withdrawal import consent_withdrawal
from flows.rollout.drills.drift import drift
from flows.rollout.drills.key_rotation import key_rotation
from flows.rollout.drills.minutes import Minutes
from flows.rollout.drills.poisoning import poisoning
from flows.rollout.drills.quarantine import quarantine
from flows.rollout.drills.restore import restore
from flows.rollout.drills.rollback import rollback
from ledger.errors import CodedError, InputError
from policies.rollout.drill_report import DrillReport
from policies.rollout.statements import Drill

Play = Callable[[Minutes], Awaitable[None]]
DRILLS: Final[Mapping[Drill, Play]] = {
    "poisoning": poisoning,
    "quarantine": quarantine,
    "key-rotation": key_rotation,
    "consent-withdrawal": consent_withdrawal,
    "restore": restore,
    "rollback": rollback,
    "drift": drift,
}
BROKE_OFF = "drill.broke-off"


class UnknownDrillError(InputError):
    code = "drill.unknown"


def require_known(drill: Drill) -> None:
    if drill not in DRILLS:
        raise UnknownDrillError(
            f"there is no drill {drill} in this installation", remedy=f"There are: {', '.join(DRILLS)}."
        )


async def play(drill: Drill, *, sabotaged: bool = False) -> DrillReport:
    """One drill in a rehearsal of its own. What breaks it off is told on stderr, and in the report by code."""
    require_known(drill)
    minutes = Minutes(drill, sabotaged=sabotaged)
    try:
        await DRILLS[drill](minutes)
    except CodedError as error:
        traceback.print_exception(error, file=sys.stderr)
        minutes.broke_off(error.code)
    except Exception as error:  # a drill that fails in a way that nobody foresaw has not passed either
        traceback.print_exception(error, file=sys.stderr)
        minutes.broke_off(BROKE_OFF)
    return minutes.report()
