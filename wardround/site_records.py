"""`wardround site agreement` and `conform`: what a hospital puts on record for the rollout.

Papers and findings stay here; the ledger gets a digest, or that every check passed. While the site serves, its
running flow says it; else the command does.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from ledger.errors import InputError, PolicyViolation, Violation
from policies.rollout.statements import Agreement
from wardround.phase.app import announce_wait, require_wait

HomeOption = Annotated[Path, Parameter(help="The site's home, with its institution.yaml.")]
WaitOption = Annotated[float, Parameter(help="Seconds to wait until it stands on the ledger.")]


class PaperError(InputError):
    code = "agreement.file"


def agreement(
    file: Path,
    /,
    *,
    home: HomeOption,
    kind: Annotated[
        Agreement,
        Parameter(help="baa: business associate; dpa: data processing; irb: ethics board's approval."),
    ],
    wait: WaitOption = 60.0,
) -> None:
    """Record that this hospital has an agreement: its digest goes on the ledger, the paper stays.

    Parameters
    ----------
    file
        The signed paper, as a file.
    """
    from adapters.home import Home, SiteConfig
    from ledger import canonical
    from policies.rollout.statements import AgreementRecorded
    from tasks.site.statements import say_or_leave

    require_wait(wait)
    try:
        paper = file.read_bytes()
    except OSError:
        raise PaperError(f"{file} cannot be read", remedy="Give the signed paper as a file.") from None
    name = Home(home).read(SiteConfig).name
    digest = canonical.digest(paper)
    announce_wait(wait)
    asyncio.run(say_or_leave(home, AgreementRecorded(kind=kind, document_digest=digest), wait_s=wait))
    Console(highlight=False).print(f"{name} recorded {kind}: {digest}", soft_wrap=True)


def conform(
    *,
    home: HomeOption,
    plan: Annotated[
        Path, Parameter(help="A plan that the source is meant for; its data contract is checked.")
    ],
    record: Annotated[
        bool, Parameter(help="Only look; record nothing.", negative="--dry-run", show_default=False)
    ] = True,
    wait: WaitOption = 60.0,
) -> None:
    """Check the site's own source; if every check passed, record that on the ledger. Exit 3 if one failed.

    What was found stays here. With terms of a phase in force only.
    """
    from adapters.home import Home, SiteConfig
    from tasks.planning import read_plan
    from tasks.rollout.conformance import conform as checked
    from tasks.rollout.conformance import recorded
    from tasks.site.statements import say_or_leave

    require_wait(wait)
    institution = Home(home)
    config = institution.read(SiteConfig)
    wanted = read_plan(plan)
    checks = checked(institution, config, wanted)
    console = Console(highlight=False)
    table = Table(title=f"{config.name}: the source against {wanted.name}", title_justify="left")
    for heading in ("check", "", "found"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        table.add_row(
            check.name, "[green]ok[/green]" if check.passed else "[bold red]FAILED[/bold red]", check.found
        )
    console.print(table)
    failed = [check.name for check in checks if not check.passed]
    if failed:
        raise PolicyViolation(
            [Violation("conformance.failed", f"nothing is recorded: {', '.join(failed)} failed")]
        )
    if record:
        announce_wait(wait)
        asyncio.run(say_or_leave(home, recorded(wanted), wait_s=wait))
        console.print(f"{config.name} recorded that its source conforms", soft_wrap=True)
