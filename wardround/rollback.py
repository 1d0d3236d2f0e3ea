"""`wardround model rollback`: take a champion out of the clinic at once, with one command and nobody's signature."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console

from ledger.errors import InputError, PolicyViolation, Violation
from policies.rollout.statements import IncidentKind

if TYPE_CHECKING:
    from policies.rollout.record import Champion, Rollout

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
        Parameter(help="The model digest of an earlier champion or its beginning, none, or the one before."),
    ] = BEFORE,
    study: Annotated[str | None, Parameter(help="Whose champion; needed where several have one.")] = None,
) -> None:
    """Go back to the champion before, or to none. It is on the ledger, and MLflow's alias moves with it."""
    from adapters.home import CoordinatorConfig, Home
    from tasks.coordinator.party import opened_coordinator
    from tasks.rollout.promotion import roll_back

    Home(home).read(CoordinatorConfig)

    async def work() -> tuple[str, Champion | None]:
        async with opened_coordinator(home) as coordinator:
            told = coordinator.state.rollout
            of = _study(told, study)
            return of, await roll_back(coordinator, study=of, to=_target(told, of, to), kind=kind)

    of, found = asyncio.run(work())
    there = "has no champion" if found is None else f"has its champion in model {found.body.model_digest}"
    Console(highlight=False).print(f"{of} {there}", soft_wrap=True)


def _study(told: Rollout, wanted: str | None) -> str:
    if not told.champions:
        raise PolicyViolation([Violation("model.no-champion", "no study of this federation has a champion")])
    named = sorted(told.champions) if wanted is None else [wanted]
    if len(named) != 1 or named[0] not in told.champions:
        had = ", ".join(sorted(told.champions)) or "none"
        raise RollbackError(f"which study? Of these there were champions: {had}", remedy="Give --study.")
    return named[0]


def _target(told: Rollout, study: str, wanted: str) -> str | None:
    """The model digest to go back to; None is none."""
    digests = [one.body.model_digest for one in told.champions[study]]
    if wanted == BEFORE:
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
