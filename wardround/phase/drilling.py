"""`wardround phase drill`: play the drills of the phase in rehearsals, and record what was passed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, get_args

from cyclopts import Parameter
from rich.console import Console

from ledger.errors import PolicyViolation, Violation
from policies.rollout.statements import Drill
from wardround.phase.app import CoordinatorOption, PhaseOptionError

if TYPE_CHECKING:
    from adapters.home import Home
    from policies.rollout.drill_report import DrillReport


def drill(
    *names: Drill,
    home: CoordinatorOption,
    every: Annotated[
        bool, Parameter(name="--all", help="Every drill that the terms in force ask for.", negative="")
    ] = False,
    again: Annotated[
        bool, Parameter(help="Play also what was passed since the terms were published.", negative="")
    ] = False,
    sabotage: Annotated[
        bool,
        Parameter(
            help="Switch off each drill's control, to see that it is not passed; nothing is recorded.",
            negative="",
        ),
    ] = False,
) -> None:
    """Play drills in throwaway federations of invented patients. Exit 3 names each step that was not met.

    Parameters
    ----------
    names
        The drills; those of the terms in force are shown by `wardround phase status`.
    """
    from adapters.home import CoordinatorConfig, Home
    from wardround.display import Display

    if bool(names) == every:
        raise PhaseOptionError(f"name drills, or give --all; there are: {', '.join(get_args(Drill))}")
    institution = Home(home)
    institution.read(CoordinatorConfig)
    _ = institution.federation
    chosen = _chosen(institution, names, again=again or sabotage)
    console = Console(highlight=False)
    with Display():
        reports = asyncio.run(_played(institution, chosen, sabotage=sabotage))
    for name in names:
        if name not in chosen:
            console.print(f"{name}: passed since the terms were published; --again plays it once more")
    for report in reports:
        word = "passed" if report.passed else "not passed"
        console.print(f"{report.drill}: {word}", soft_wrap=True)
        for step in report.steps:
            code = "" if step.code is None else f" ({step.code})"
            console.print(f"  {'ok     ' if step.met else 'missing'} {step.name}{code}", soft_wrap=True)
        for figure in report.figures:
            console.print(f"  {figure.name} {figure.micro / 1e6:.3f}", soft_wrap=True)
    _record(institution, reports)


def _chosen(home: Home, names: tuple[Drill, ...], *, again: bool) -> tuple[Drill, ...]:
    """What is to be played: refused before it is played if the terms do not ask for it."""
    from adapters.institution_log import read_state
    from tasks.rollout.drilling import drills_to_play

    state, _ = read_state(home)
    asked, waiting = drills_to_play(state, again=True), drills_to_play(state, again=again)
    strangers = [name for name in names if name not in asked]
    if strangers:
        said = f"the terms in force ask for no drill {', '.join(strangers)}"
        raise PolicyViolation([Violation("drill.not-asked", said)])
    return tuple(name for name in (names or asked) if name in waiting)


async def _played(home: Home, drills: tuple[Drill, ...], *, sabotage: bool) -> list[DrillReport]:
    from flows.rollout.drilling import played

    found = [report async for report in played(home.log, drills, sabotaged=drills if sabotage else ())]
    return sorted(found, key=lambda report: drills.index(report.drill))


def _record(home: Home, reports: list[DrillReport]) -> None:
    """What was passed, even if others were not; PolicyViolation with every step of those."""
    from tasks.coordinator.party import opened_coordinator
    from tasks.rollout.drilling import keep_report, not_passed, record_drill

    sound = [report for report in reports if not not_passed(report)]
    violations = [violation for report in reports for violation in not_passed(report)]

    async def record() -> None:
        async with opened_coordinator(home.root) as coordinator:
            for report in sound:
                await record_drill(coordinator, report)

    for report in reports:
        keep_report(home, report)
    if sound:
        asyncio.run(record())
    if violations:
        raise PolicyViolation(violations)
