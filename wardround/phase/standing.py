"""`wardround phase status` and `incident`: what every institution may see, and may say, of the rollout."""

from __future__ import annotations

import asyncio
import json as json_text
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from policies.rollout.statements import IncidentKind, Severity
from wardround.phase.app import HomeOption, announce_wait, ledger_state, opened_home, require_wait
from wardround.stopping import at_once

if TYPE_CHECKING:
    from adapters.home import CoordinatorConfig, Home, SiteConfig
    from policies.rollout.standing import Standing

_STYLES = {"ok": "[green]ok[/green]", "missing": "[bold red]missing[/bold red]"}


def status(
    *,
    home: HomeOption,
    json: Annotated[bool, Parameter(help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Show where the federation stands, and at a hospital what it gains itself: that is its own alone.

    Signatures are shown where they are collected: at the coordinator.
    """
    institution, config = opened_home(home)
    found = standing_of(institution, config)
    if json:
        value = {"federation": institution.federation.name, **found.to_json(), "own": own_gain(institution)}
        sys.stdout.write(f"{json_text.dumps(value)}\n")
        return
    show(institution, found)
    own = own_gain(institution)
    if own is not None:
        told = f"AUC {own['auc_federated']:.3f}, a model of {config.name} alone {own['auc_local_only']:.3f}"
        said = f"On your own held-out patients: the federation's model {told}. Nobody else is told."
        Console(highlight=False).print(said, soft_wrap=True)


def incident(
    *,
    home: HomeOption,
    severity: Annotated[
        Severity,
        Parameter(
            help="minor: on record, and evidence is measured anew. major: back one phase. critical: back to the "
            "beginning."
        ),
    ],
    kind: Annotated[IncidentKind, Parameter(help="What went wrong. Nothing else is told.")],
    wait: Annotated[float, Parameter(help="Seconds to wait until it stands on the ledger.")] = 60.0,
) -> None:
    """Report an incident, as any member may. It closes the gates above it at once, whoever disagrees."""
    from adapters.home import SiteConfig
    from policies.rollout.statements import IncidentReported
    from tasks.coordinator.party import opened_coordinator
    from tasks.site.statements import say_or_leave

    require_wait(wait)
    institution, config = opened_home(home)
    body = IncidentReported(severity=severity, kind=kind)

    async def say() -> None:
        if isinstance(config, SiteConfig):
            announce_wait(wait)
            await say_or_leave(institution.root, body, wait_s=wait)
            return
        async with opened_coordinator(institution.root) as coordinator:
            await coordinator.say(body, final=False)

    with at_once():
        asyncio.run(say())
    Console(highlight=False).print(f"{config.name} reported an incident: {severity}, {kind}", soft_wrap=True)


def own_gain(home: Home) -> dict[str, float] | None:
    """AUC of the federation's model and of the hospital's own, off the report in its home; None before they were
    compared, and at the coordinator."""
    from wardround.summary import read_report

    kept = read_report(home)
    federated, alone = kept.get("auc_federated"), kept.get("auc_local_only")
    if not isinstance(federated, float) or not isinstance(alone, float):
        return None
    return {"auc_federated": federated, "auc_local_only": alone}


def standing_of(home: Home, config: SiteConfig | CoordinatorConfig) -> Standing:
    from adapters.home import CoordinatorConfig
    from policies.rollout.standing import standing
    from tasks.rollout.status import coordinator_standing

    state = ledger_state(home, config)
    return (
        coordinator_standing(home.root, state) if isinstance(config, CoordinatorConfig) else standing(state)
    )


def show_next(home: Home, found: Standing) -> None:
    """Once a phase is measured: the evidence, and what its officers do with it."""
    from tasks.rollout.measurement import evidence_path

    if found.measured is None or not any(one.signed < one.needed for one in found.signatures):
        return
    package, console = (
        evidence_path(home.root, found.phase, found.measured.entry_digest),
        Console(highlight=False),
    )
    console.print("Next, every officer, and then whoever has the coordinator's home:")
    for command in (
        f"sign {package} --officer FOLDER --federation federation.json",
        f"advance {package} SIGNATURE... --home {home.root}",
    ):
        console.print(f"  wardround phase {command}", soft_wrap=True)


def show(home: Home, found: Standing) -> None:
    from tasks.rollout.status import rows

    console = Console(highlight=False)
    table = Table(title=f"{home.federation.name}: phase {found.phase}", title_justify="left", show_edge=False)
    for heading in ("asked", "there", ""):
        table.add_column(heading, overflow="fold")
    for asked, there, word in rows(found):
        table.add_row(asked, there, _STYLES[word])
    console.print(table)
    for one in found.champions:
        console.print(one.described(), soft_wrap=True)
    if found.through:
        console.print("Every phase is over. The next model's clinical phase begins with its terms.")
        return
    missing = found.missing
    said = f"The next gate waits for: {'; '.join(missing)}." if missing else "The phase can end."
    console.print(said, soft_wrap=True)
