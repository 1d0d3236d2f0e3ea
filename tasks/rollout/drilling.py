"""Keep the report of a drill, and say on the ledger that it was passed: if and only if it was.

    <coordinator's home>/reports/<drill>-<digest, 16>.json    (`DrillReport`), enclosed in the phase's evidence

Playing drills is `flows.rollout.drilling`'s; what the terms ask for is `policies.rollout.gate`'s.
"""

from __future__ import annotations

from pathlib import Path

from adapters.home import Home, write_atomically
from ledger.errors import PolicyViolation, Violation
from ledger.evidence_package import REPORTS
from policies.code import running_code_digest
from policies.rollout.drill_report import DrillReport
from policies.rollout.reached import reached
from policies.rollout.statements import Drill, DrillRecorded
from policies.state import FederationState
from tasks.coordinator.party import Coordinator
from tasks.step import step

FAILED = "drill.failed"


def drills_to_play(state: FederationState, *, again: bool = False) -> tuple[Drill, ...]:
    """Those that the terms in force ask for and that were not passed since; all of them with `again`.

    PolicyViolation if no terms are in force.
    """
    opened = state.rollout.opened
    if opened is None:
        raise PolicyViolation([Violation("phase.not-opened", f"no terms of {state.phase} are published")])
    missing = reached(state, opened).missing_drills
    return tuple(one for one in opened.terms.drills if again or one in missing)


def keep_report(home: Home, report: DrillReport) -> Path:
    """Passed or not, for whoever wants to know why; only one that the ledger names is enclosed in evidence."""
    data = report.canonical_bytes()
    path = home.root / REPORTS / f"{report.drill}-{report.content_digest()[:16]}.json"
    write_atomically(path, data)
    return path


@step
async def record_drill(coordinator: Coordinator, report: DrillReport) -> None:
    """Keep the report, and say that the drill was passed; nothing where this very report stands already.

    PolicyViolation with every step that was not met, and of a drill that was sabotaged or played with other code.
    """
    coordinator.tell(f"record the drill {report.drill}")
    keep_report(coordinator.home, report)
    violations = not_passed(report)
    if violations:
        raise PolicyViolation(violations)
    state = coordinator.state
    body = DrillRecorded(drill=report.drill, report_digest=report.content_digest())
    said, opened = state.rollout.drills.get(report.drill), state.rollout.opened
    begun = 0 if opened is None else opened.index
    if said is None or said.index < begun or said.report_digest != body.report_digest:
        await coordinator.say(body, final=False)


def not_passed(report: DrillReport) -> list[Violation]:
    """Why this report is none of a drill that was passed here."""
    found = [
        Violation(FAILED, f"{report.drill}: {one.name}{'' if one.code is None else f' ({one.code})'}")
        for one in report.unmet
    ]
    if report.sabotaged:
        found.append(Violation("drill.sabotaged", f"{report.drill}: its control was switched off on purpose"))
    if report.code_digest != running_code_digest():
        found.append(
            Violation("drill.other-code", f"{report.drill} was played with other code than runs here")
        )
    return found
