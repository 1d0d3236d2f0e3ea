"""Homes that are backed up, destroyed and put back, while nobody runs them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from adapters.home import SiteConfig
from adapters.pool_journal import PoolJournal
from policies.state import FederationState
from tasks.found import COORDINATOR
from tasks.rehearsal.cast import Cast


def back_up(cast: Cast, name: str, to: Path, *, without: str | None = None) -> None:
    """A copy of this party's whole home; `without` a folder of it, as a careless backup would have it."""
    left_out = shutil.ignore_patterns(without) if without is not None else None
    shutil.copytree(cast.home(name).root, to, ignore=left_out)


def put_back(cast: Cast, name: str, copy: Path) -> None:
    """This party's home is what the copy has, on another disk: beside the old home, of which nothing is left.

    At the same place, a database that this process had open there would still be read from the disk that is gone.
    """
    home = cast.home(name).root
    if home.exists():
        shutil.rmtree(home)
    place = next(
        place for number in range(100) if not (place := home.with_name(f"{name}-disk-{number}")).exists()
    )
    shutil.copytree(copy, place)
    if name == COORDINATOR:
        cast.founded = replace(cast.founded, coordinator=place)
    else:
        cast.founded = replace(cast.founded, sites={**cast.founded.sites, name: place})


def drawn_twice(cast: Cast, state: FederationState, site: str) -> bool:
    """Whether the site's own journal and the ledger disagree on what was drawn on its register."""
    home = cast.home(site)
    config = home.read(SiteConfig)
    journal = PoolJournal(home.resolve(config.pool), config.policy.pool, owner=site)
    spent = config.policy.pool.epsilon_micro(state.spent_by(site))
    return journal.epsilon_spent_micro() != spent
