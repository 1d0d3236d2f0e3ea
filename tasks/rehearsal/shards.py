"""The invented patients of a site, written anew: the same ones, under another scanner or with more told of them."""

from __future__ import annotations

from adapters.home import SiteConfig
from adapters.sources.invented import write_shard
from tasks.rehearsal.cast import Cast


def rewrite_shard(
    cast: Cast,
    site: str,
    *,
    study: str,
    patients: int,
    width_px: int,
    inverted: bool = False,
    sexes: bool = False,
) -> None:
    """`patients` and `width_px` as the site was founded with; `inverted` and `sexes` as of `write_shard`."""
    home = cast.home(site)
    path = home.resolve(home.read(SiteConfig).source_of(study).path)
    number = sorted(cast.founded.sites).index(site)
    write_shard(path, patients=patients, seed=number, width_px=width_px, inverted=inverted, sexes=sexes)
