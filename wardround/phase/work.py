"""`wardround phase open` and `run`: publish terms, and do a phase's work. The flows are `flows.rollout`."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import yaml
from cyclopts import Parameter
from rich.console import Console

from ledger.errors import PolicyViolation
from policies.federation import PHASES, Phase
from wardround.examples import EXAMPLES
from wardround.phase.app import CoordinatorOption, PhaseOptionError, require_wait

if TYPE_CHECKING:
    from adapters.home import Home
    from policies.rollout.statements import PhaseTerms


def open_terms(
    terms: Path,
    /,
    *,
    home: CoordinatorOption,
    change_plan: Annotated[
        Path | None, Parameter(help="Of the clinic: the change plan as YAML, which the terms then name.")
    ] = None,
    again: Annotated[
        bool, Parameter(help="Begin the clinical phase anew although it led to a champion.", negative="")
    ] = False,
    check: Annotated[
        bool, Parameter(help="Say what the gate would say to these terms, and publish nothing.", negative="")
    ] = False,
) -> None:
    """Publish terms; they can be corrected until the first plan of their study is published, and stand from then on.

    Parameters
    ----------
    terms
        The terms, as YAML; `deployments/examples/rollout` has some to begin with.
    """
    from adapters.home import CoordinatorConfig, Home
    from tasks.coordinator.party import opened_coordinator
    from tasks.rollout.terms import enter, read_terms, with_change_plan

    wanted = read_terms(terms)
    institution = Home(home)
    institution.read(CoordinatorConfig)
    if change_plan is not None:
        wanted = with_change_plan(wanted, change_plan, institution)
    if check:
        _check(institution, wanted, again=again)
        return

    async def publish() -> str | None:
        async with opened_coordinator(home) as coordinator:
            opened = await enter(coordinator, wanted, again=again)
            return None if opened is None else opened.entry_digest

    entry, console = asyncio.run(publish()), Console(highlight=False)
    if entry is None:
        console.print(f"{wanted.phase} lies behind")
        return
    console.print(f"terms of {wanted.phase}: entry {entry}", soft_wrap=True)
    plan = "" if wanted.phase == PHASES[0] else " --plan PLAN"
    console.print("Next: every site says anew that its source conforms (wardround site conform), and")
    console.print(f"  wardround phase run {wanted.phase}{plan} --home {home}", soft_wrap=True)


def _check(home: Home, wanted: PhaseTerms, *, again: bool) -> None:
    """PolicyViolation with everything that the gate has against these terms."""
    from adapters.institution_log import read_state
    from policies.rollout.gate import opening
    from policies.rollout.statements import PhaseOpened
    from tasks.rollout.terms import lie_behind

    state, _ = read_state(home)
    opened = state.rollout.opened
    if lie_behind(state, wanted, again=again):
        said = "lie behind: nothing would be published"
    elif opened is not None and opened.terms == wanted:
        said = "are in force"
    else:
        refused = opening(state, PhaseOpened(terms=wanted))
        if refused:
            raise PolicyViolation(refused)
        said = "may be published"
    Console(highlight=False).print(f"these terms of {wanted.phase} {said}", soft_wrap=True)


def run(
    phase: Phase,
    /,
    *,
    home: CoordinatorOption,
    terms: Annotated[
        Path | None,
        Parameter(
            help="Terms as YAML. Else those in force, or the example's with every site that the plan takes."
        ),
    ] = None,
    plan: Annotated[
        Path | None, Parameter(help="The plan of the phase's rounds. For the foundation else the example's.")
    ] = None,
    edition: Annotated[
        str | None, Parameter(help="Edition of this night instead of the plan's; `date` is the night's date.")
    ] = None,
    wait: Annotated[
        float, Parameter(help="Seconds to wait for what the sites of a foundation record.")
    ] = 600.0,
) -> None:
    """Run a phase as far as it comes: of a foundation all of it, of the others one night.

    Cut off or waiting for signatures, run it again: nothing is done twice.

    Parameters
    ----------
    phase
        The phase.
    """
    require_wait(wait)
    if phase != "foundation" and plan is None:
        raise PhaseOptionError(f"--plan is needed: what is trained in the {phase} phase is yours to say")
    if phase == "foundation" and edition is not None:
        raise PhaseOptionError("--edition: a foundation has no nights")
    from adapters.home import CoordinatorConfig, Home
    from adapters.institution_log import read_state
    from tasks.planning import read_plan
    from tasks.rollout.terms import comes_later, read_terms
    from wardround.coordinator import prefect_api
    from wardround.display import Display
    from wardround.phase.standing import show, show_next, standing_of

    institution = Home(home)
    config = institution.read(CoordinatorConfig)
    _ = institution.federation, institution.passphrase
    now = read_state(institution)[0].phase
    if PHASES.index(phase) < PHASES.index(now):
        said = f"{phase} is over: the federation is in its phase {now}; nothing was done"
        Console(highlight=False).print(said, soft_wrap=True)
        return
    if phase != now:  # before anything is started for it
        raise PolicyViolation([comes_later(phase, now)])
    trained = _dry_round(institution) if plan is None else plan.resolve()
    # What is wrong with a file is said before anything starts.
    selected = read_plan(trained).participation.select
    wanted = _terms(institution, phase, selected=selected) if terms is None else terms.resolve()
    read_terms(wanted)
    with Display(), prefect_api(home):
        asyncio.run(_flow(phase, institution.root, wanted, trained, edition=edition, wait_s=wait))
    found = standing_of(institution, config)
    show(institution, found)
    show_next(institution, found)


async def _flow(
    phase: Phase, home: Path, terms: Path, plan: Path, *, edition: str | None, wait_s: float
) -> None:
    if phase == "foundation":
        from flows.rollout.foundation import foundation

        await foundation(home=str(home), terms=str(terms), plan=str(plan), wait_s=wait_s)
    elif phase == "pilot":
        from flows.rollout.pilot import pilot

        await pilot(home=str(home), terms=str(terms), plan=str(plan), edition=edition)
    elif phase == "expansion":
        from flows.rollout.expansion import expansion

        await expansion(home=str(home), terms=str(terms), plan=str(plan), edition=edition)
    else:
        from flows.rollout.clinical import clinical

        await clinical(home=str(home), terms=str(terms), plan=str(plan), edition=edition)


def _terms(home: Home, phase: str, *, selected: int | None) -> Path:
    """Those in force, else the example's with every site of the federation, or as many as the plan selects; kept in
    the home."""
    from adapters.home import write_atomically
    from adapters.institution_log import read_state
    from tasks.rollout.terms import read_terms

    state, _ = read_state(home)
    opened = state.rollout.opened
    if opened is None or opened.terms.phase != phase:
        example = read_terms(EXAMPLES / "rollout" / f"{phase}.yaml")
        sites = len(state.founded().sites())
        found = example.with_fields({"minimum_sites": min(sites, selected or sites)})
    else:
        found = opened.terms
    path = home.root / "rollout" / f"{phase}.yaml"
    write_atomically(path, yaml.safe_dump(found.to_json(), sort_keys=False).encode())
    return path


def _dry_round(home: Home) -> Path:
    """The example, for the code that runs here: the same plan as long as that is the same, and another edition of it
    once one was refused."""
    from adapters.home import write_atomically
    from adapters.institution_log import read_state
    from tasks.planning import approved, read_plan

    path = home.root / "rollout" / "dry-round.yaml"
    state, example = read_state(home)[0], approved(read_plan(EXAMPLES / "dry-round.yaml"))
    refused = {digest for (digest, _), verdict in state.verdicts.items() if not verdict.passed}
    editions = (example.with_fields({"edition": str(number)}) for number in itertools.count(1))
    found = next(plan for plan in editions if plan.content_digest() not in refused)
    write_atomically(path, yaml.safe_dump(found.to_json(), sort_keys=False).encode())
    return path
