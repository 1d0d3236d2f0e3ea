"""`wardround federation quarantine` and `wardround site vote-release`: who is in quarantine, and taking them back.

A vote is a site's own, and goes the way of whatever its people want said: while the site serves, its running flow
says it; else the command does.
"""

from __future__ import annotations

import asyncio
import json as json_text
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from ledger.errors import PolicyViolation, Violation
from wardround.phase.app import ledger_state, opened_home, require_wait


def quarantine(
    *,
    home: Annotated[Path, Parameter(help="The institution's home, with its institution.yaml.")],
    json: Annotated[bool, Parameter(help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Show who is in quarantine, why, since which entry, and who voted to take them back."""
    from ledger.policy import quorum

    institution, config = opened_home(home)
    state = ledger_state(institution, config)
    needed = quorum(len(state.founded().sites()))
    found = {
        site: {
            "code": code,
            "entry": state.indices[state.quarantine_entries[site]],
            "votes": sorted(state.release_votes.get(site, ())),
        }
        for site, code in sorted(state.quarantined.items())
    }
    if json:
        sys.stdout.write(f"{json_text.dumps({'needed': needed, 'quarantined': found})}\n")
        return
    console = Console(highlight=False)
    if not found:
        console.print("Nobody is in quarantine.")
        return
    table = Table(
        title=f"In quarantine; {needed} votes take a site back", title_justify="left", show_edge=False
    )
    for heading in ("site", "code", "since entry", "votes to take it back"):
        table.add_column(heading, overflow="fold")
    for site, told in found.items():
        voters = state.release_votes.get(site, frozenset())
        table.add_row(site, str(told["code"]), str(told["entry"]), ", ".join(sorted(voters)) or "none")
    console.print(table)


def vote_release(
    name: str,
    /,
    *,
    home: Annotated[Path, Parameter(help="The home of the site that votes, with its institution.yaml.")],
    wait: Annotated[float, Parameter(help="Seconds to wait until it stands on the ledger.")] = 60.0,
) -> None:
    """Vote to take a site back out of quarantine. It is back once a quorum of the sites did; it has no vote itself.

    Parameters
    ----------
    name
        The site in quarantine.
    """
    from adapters.home import Home, SiteConfig
    from ledger.policy import quorum
    from policies.events import SiteReleased
    from tasks.site.statements import say_or_leave

    require_wait(wait)
    institution = Home(home)
    config = institution.read(SiteConfig)
    state = ledger_state(institution, config)
    entry = state.quarantine_entries.get(name)
    if entry is None:
        raise PolicyViolation([Violation("quarantine.none", f"{name} is not in quarantine")])
    console = Console(highlight=False)
    if config.name not in state.release_votes.get(name, frozenset()):
        asyncio.run(say_or_leave(home, SiteReleased(site=name, quarantine=entry), wait_s=wait))
        state = ledger_state(institution, config)
    if state.quarantine_entries.get(name) != entry:
        console.print(f"{config.name} voted: {name} is back", soft_wrap=True)
        return
    votes, needed = len(state.release_votes.get(name, ())), quorum(len(state.founded().sites()))
    console.print(f"{config.name} voted to take {name} back: {votes} of {needed} votes", soft_wrap=True)
