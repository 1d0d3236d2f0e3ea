"""`wardround phase open` and `run`: publish terms, and do a phase's work. The flows are `flows.rollout`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import yaml
from cyclopts import Parameter
from rich.console import Console

from wardround.examples import EXAMPLES
from wardround.phase.app import CoordinatorOption, PhaseOptionError

if TYPE_CHECKING:
    from adapters.home import Home

LONGEST_WAIT_S = 86_400.0


def open_terms(terms: Path, /, *, home: CoordinatorOption) -> None:
    """Publish terms; they can be corrected until the first plan of their study is published, and stand from then on.

    Parameters
    ----------
    terms
        The terms, as YAML; `deployments/examples/rollout` has some to begin with.
    """
    from adapters.home import CoordinatorConfig, Home
    from tasks.coordinator.party import opened_coordinator
    from tasks.rollout.terms import enter, read_terms

    wanted = read_terms(terms)
    institution = Home(home)
    institution.read(CoordinatorConfig)

    async def publish() -> str | None:
        async with opened_coordinator(home) as coordinator:
            opened = await enter(coordinator, wanted)
            return None if opened is None else opened.entry_digest

    entry = asyncio.run(publish())
    said = f"{wanted.phase} lies behind" if entry is None else f"terms of {wanted.phase}: entry {entry}"
    Console(highlight=False).print(said, soft_wrap=True)


def run(
    phase: Literal["foundation"],
    /,
    *,
    home: CoordinatorOption,
    terms: Annotated[
        Path | None, Parameter(help="Terms as YAML. Else those in force, or the example's with every site.")
    ] = None,
    plan: Annotated[Path | None, Parameter(help="The plan of the dry round. Else the example's.")] = None,
    wait: Annotated[float, Parameter(help="Seconds to wait for what the sites record.")] = 600.0,
) -> None:
    """Run a phase as far as it comes. Cut off or waiting for signatures, run it again: nothing is done twice.

    Parameters
    ----------
    phase
        The phase.
    """
    if not 0 <= wait <= LONGEST_WAIT_S:
        raise PhaseOptionError("--wait must be 0 to 86400 seconds")
    from adapters.home import CoordinatorConfig, Home
    from tasks.planning import read_plan
    from tasks.rollout.terms import read_terms
    from wardround.coordinator import prefect_api
    from wardround.display import Display
    from wardround.phase.standing import show, standing_of

    institution = Home(home)
    config = institution.read(CoordinatorConfig)
    _ = institution.federation, institution.passphrase
    wanted = _terms(institution, phase) if terms is None else terms.resolve()
    dry = _dry_round(institution) if plan is None else plan.resolve()
    # What is wrong with a file is said before anything starts.
    read_terms(wanted)
    read_plan(dry)
    with Display(), prefect_api(home):
        from flows.rollout.foundation import foundation

        asyncio.run(foundation(home=str(institution.root), terms=str(wanted), plan=str(dry), wait_s=wait))
    show(institution, standing_of(institution, config))


def _terms(home: Home, phase: str) -> Path:
    """Those in force, else the example's with every site of the federation; kept in the home."""
    from adapters.home import write_atomically
    from adapters.institution_log import read_state
    from tasks.rollout.terms import read_terms

    state, _ = read_state(home)
    opened = state.rollout.opened
    if opened is None or opened.terms.phase != phase:
        example = read_terms(EXAMPLES / "rollout" / f"{phase}.yaml")
        found = example.with_fields({"minimum_sites": len(state.founded().sites())})
    else:
        found = opened.terms
    path = home.root / "rollout" / f"{phase}.yaml"
    write_atomically(path, yaml.safe_dump(found.to_json(), sort_keys=False).encode())
    return path


def _dry_round(home: Home) -> Path:
    """The example, for the code that runs here: the same plan as long as that is the same."""
    from adapters.home import write_atomically
    from tasks.planning import approved, read_plan

    path = home.root / "rollout" / "dry-round.yaml"
    found = approved(read_plan(EXAMPLES / "dry-round.yaml"))
    write_atomically(path, yaml.safe_dump(found.to_json(), sort_keys=False).encode())
    return path
