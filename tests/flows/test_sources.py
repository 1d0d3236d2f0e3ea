"""Hospitals with data of several studies: each plan learns from the source of its study, or the site declines it."""

from __future__ import annotations

from pathlib import Path

from adapters.home import Home, SiteConfig, SourceConfig
from tests.consortium import SITES, Consortium, tiny_plan
from tests.flows.test_tables import FAMILIES, table_plan, write_tables

A, B = SITES[:2]


def several(root: Path, stays: dict[str, SourceConfig], sites: tuple[str, ...]) -> Consortium:
    """Shards of images for every study, and these sites' tables for the study `stays`; B has nothing else."""
    consortium = Consortium.found(root, families=(*FAMILIES, "Classifier"))
    for name in sites:
        home = Home(consortium.founded.sites[name])
        config = home.read(SiteConfig)
        changed = {"sources": {"stays": stays[name]}, "source": None if name == B else config.source}
        home.write(config.model_copy(update=changed), home.federation)
    return consortium


async def test_each_plan_learns_from_the_source_of_its_study(tmp_path: Path) -> None:
    consortium = several(tmp_path, write_tables(tmp_path), SITES)
    stays = table_plan(study="stays")
    outcome = await consortium.run(stays)
    assert not outcome.errors and not outcome.missing(stays, 1)
    images = tiny_plan()
    outcome = await consortium.run(images, leave=True)
    # B has stays alone: it says so, and reserves nothing for the plan.
    assert outcome.code(B) == "site.no-source"
    assert outcome.missing(images, 1) == {B: "site.no-source"}
    assert (images.content_digest(), 1) in outcome.state.registered
    drawn = {site for digest, _, site in outcome.state.reserved_under if digest == images.content_digest()}
    assert drawn == set(SITES) - {B}
