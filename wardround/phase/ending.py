"""`wardround phase measure`, `sign` and `advance`: evidence, the officers' word, and the end of a phase."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console

from ledger.errors import InputError
from wardround.phase.app import CoordinatorOption, PhaseOptionError

if TYPE_CHECKING:
    from policies.rollout.standing import Standing


class SignatureExistsError(InputError):
    code = "phase.signature-exists"


def measure(
    *,
    home: CoordinatorOption,
    again: Annotated[
        bool,
        Parameter(help="A new measurement although one stands: of the rounds that came since.", negative=""),
    ] = False,
) -> None:
    """Measure the phase and write its evidence. Exit 3 names everything that its terms still lack."""
    from adapters.home import CoordinatorConfig, Home
    from tasks.coordinator.party import opened_coordinator
    from tasks.rollout.measurement import measure as measured
    from tasks.rollout.measurement import record_phase_evidence
    from tasks.rollout.signatures import statement_to_sign

    institution = Home(home)
    institution.read(CoordinatorConfig)

    async def work() -> tuple[Path, str]:
        async with opened_coordinator(home) as coordinator:
            path = await record_phase_evidence(coordinator, await measured(coordinator, again=again))
            statement = statement_to_sign(coordinator.home.root, coordinator.state)
            return path, "" if statement is None else statement.evidence_digest

    path, digest = asyncio.run(work())
    sys.stdout.write(f"{path}\n{digest}\n")


def sign(
    package: Path,
    /,
    *,
    officer: Annotated[Path, Parameter(help="The officer's folder, with officer.yaml and its key.")],
    federation: Annotated[
        Path, Parameter(help="The founding document as the officer holds it: federation.json of a home.")
    ],
    out: Annotated[Path | None, Parameter(help="The file to write; else NAME-ENTRY.json here.")] = None,
) -> None:
    """Verify a phase's evidence whole, offline, under the founding document given; then sign that the phase may end.

    Parameters
    ----------
    package
        The evidence that `wardround phase measure` wrote.
    """
    from adapters.home import write_atomically
    from ledger.evidence_package import is_package
    from policies.federation import Federation
    from tasks.rollout.signatures import sign_evidence

    if not is_package(package):
        raise PhaseOptionError(f"{package} is no evidence package")
    try:
        founded = Federation.from_canonical(federation.read_bytes(), what="federation.json")
    except OSError:
        raise PhaseOptionError("--federation: the file cannot be read") from None
    if out is not None:
        _require_new(out)
    signed = sign_evidence(package, officer, founded)
    path = out or Path(f"{signed.sign_off.officer}-{signed.statement.measured[:16]}.json")
    _require_new(path)
    write_atomically(path.resolve(), signed.canonical_bytes())
    console = Console(highlight=False)
    console.print(
        f"{signed.sign_off.officer} signed that {signed.statement.phase} may end, on evidence "
        f"{signed.statement.evidence_digest}",
        soft_wrap=True,
    )
    sys.stdout.write(f"{path}\n")


def _require_new(path: Path) -> None:
    """A signature is an officer's word: none is written over, and none into a folder that was mistyped."""
    if path.exists():
        raise SignatureExistsError(f"{path} exists and is left as it is", remedy="Choose another --out.")
    if not path.absolute().parent.is_dir():
        raise PhaseOptionError(f"--out: there is no folder {path.parent}")


def advance(package: Path, /, *signatures: Path, home: CoordinatorOption) -> None:
    """End the phase, the clinical one by promoting its model: signatures given now and before are counted. Exit 3
    names the roles of which too few signed.

    Parameters
    ----------
    package
        The evidence that they signed.
    signatures
        Files of `wardround phase sign`. Sound ones are kept in the home, also if others are missing yet.
    """
    from adapters.home import CoordinatorConfig, Home
    from ledger.evidence_package import is_package
    from tasks.coordinator.party import opened_coordinator
    from tasks.rollout.promotion import end_phase
    from tasks.rollout.signatures import keep, read_signature, verified_statement
    from tasks.rollout.status import coordinator_standing

    institution = Home(home)
    institution.read(CoordinatorConfig)
    if not is_package(package):
        raise PhaseOptionError(f"{package} is no evidence package")
    given = [read_signature(path) for path in signatures]
    statement = verified_statement(package, institution.federation)
    keep(institution, given, statement)

    async def work() -> Standing:
        async with opened_coordinator(home) as coordinator:
            await end_phase(coordinator, statement)
            return coordinator_standing(coordinator.home.root, coordinator.state)

    found, console = asyncio.run(work()), Console(highlight=False)
    console.print(f"{statement.phase} is over: the federation is in its phase {found.phase}")
    for one in found.champions:
        console.print(one.described(), soft_wrap=True)
    if found.phase != statement.phase:
        command = f"wardround phase open TERMS.yaml --home {home}"
        console.print(f"Next: {command}, with terms of its own", soft_wrap=True)
