"""`wardround model rollback`: take a champion out of the clinic at once, with one command and nobody's signature."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console

from ledger.errors import InputError, PolicyViolation, Violation
from policies.rollout.statements import IncidentKind
from wardround.stopping import at_once

if TYPE_CHECKING:
    from policies.rollout.record import Champion, RolledBack, Rollout

NONE = "none"
BEFORE = "before"


class RollbackError(InputError):
    code = "model.rollback"


def rollback(
    home: Annotated[Path, Parameter(help="The coordinator's home.")],
    *,
    kind: Annotated[IncidentKind, Parameter(help="Why. Nothing else is told.")],
    to: Annotated[
        str,
        Parameter(
            help="The model digest of an earlier champion or its beginning, or none. Else one step back from what "
            "was promoted last, however often the command is given."
        ),
    ] = BEFORE,
    study: Annotated[str | None, Parameter(help="Whose champion; needed where several have one.")] = None,
) -> None:
    """Go back to the champion before, or to none. MLflow's alias moves as soon as the coordinator's ledger has it;
    exit 1 and model.not-final until a quorum of witnesses has signed."""
    from adapters.home import CoordinatorConfig, Home
    from tasks.coordinator.party import opened_coordinator
    from tasks.rollout.promotion import roll_back

    Home(home).read(CoordinatorConfig)

    async def work() -> tuple[str, Champion | None, RolledBack | None]:
        async with opened_coordinator(home) as coordinator:
            told = coordinator.state.rollout
            of = _study(told, study)
            before = told.went_back(of) if to == BEFORE else None
            return of, await roll_back(coordinator, study=of, to=_target(told, of, to), kind=kind), before

    with at_once():
        of, found, before = asyncio.run(work())
    console = Console(highlight=False)
    there = "has no champion" if found is None else f"has its champion in model {found.body.model_digest}"
    console.print(f"{of} {there}", soft_wrap=True)
    if before is not None:
        said = f"Entry {before.index} went back to it, and nothing was promoted since: nothing more was said."
        console.print(f"{said} --to DIGEST or --to none goes further back.", soft_wrap=True)


def _study(told: Rollout, wanted: str | None) -> str:
    if not told.champions:
        raise PolicyViolation([Violation("model.no-champion", "no study of this federation has a champion")])
    named = sorted(told.champions) if wanted is None else [wanted]
    if len(named) != 1 or named[0] not in told.champions:
        had = ", ".join(sorted(told.champions)) or "none"
        raise RollbackError(f"which study? Of these there were champions: {had}", remedy="Give --study.")
    return named[0]


def _target(told: Rollout, study: str, wanted: str) -> str | None:
    """The model digest to go back to; None is none. A rollback is not repeated unless it is said how far."""
    digests = [one.body.model_digest for one in told.champions[study]]
    if wanted == BEFORE:
        if told.went_back(study) is not None:
            return digests[-1] if digests else None
        return digests[-2] if len(digests) > 1 else None
    if wanted == NONE:
        return None
    found = {digest for digest in digests if digest.startswith(wanted)}
    if not wanted or len(found) != 1:
        raise RollbackError(
            f"{len(found)} champions begin with {wanted[:64]!a}",
            remedy="Give a digest that `wardround phase status --json` or the ledger shows, or none.",
        )
    return found.pop()
