"""`wardround ledger witness status`: what each site's witness cosigned last, and whether the export agrees."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ledger.export import CHECKPOINT
from wardround.ledger.sources import NoLedgerError, Serving, open_files

if TYPE_CHECKING:
    from ledger.witness_status import WitnessStatus

_DATABASE = "witness.sqlite"


def status(
    path: Path,
    /,
    *,
    export: Annotated[
        str | None,
        Parameter(help="Compare with this export, archive or URL instead of the one on the exchange."),
    ] = None,
    evidence: Annotated[
        Path | None, Parameter(help="Write the evidence to this folder, for `verify EVIDENCE`.")
    ] = None,
    json: Annotated[bool, Parameter(help="One JSON object a line.")] = False,
    serving: Serving | None = None,
) -> None:
    """Show the witnesses; their databases are not changed. Exit 3 if one holds evidence or disagrees.

    Parameters
    ----------
    path
        A site's home, the folder of a demo or a federation (all its sites), or a witness.sqlite.
    """
    from ledger.commands import require_calm, write_evidence

    statuses = []
    for database in _databases(path):
        found = _status(database, export or _beside(database), serving)
        statuses.append(found)
        for line in [json_text.dumps(found.to_json())] if json else found.lines():
            sys.stdout.write(line + "\n")
    if evidence is not None:
        for written in write_evidence(statuses, evidence):
            sys.stderr.write(f"wrote {written}\n")
    require_calm(statuses)


def _status(database: Path, export: str | None, serving: Serving | None) -> WitnessStatus:
    from ledger.witness_status import read_status

    if export is None:
        return read_status(database)
    with open_files(export, serving) as files:
        return read_status(database, files)


def _databases(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if (path / _DATABASE).is_file():
        return [path / _DATABASE]
    found = sorted((path / "sites").glob(f"*/{_DATABASE}"))
    if not found:
        raise NoLedgerError(
            f"{path} holds no witness", remedy="Give a site's home, a demo's folder or a witness.sqlite."
        )
    return found


def _beside(database: Path) -> str | None:
    """The static export on the exchange that the site's home names, if there is one."""
    from adapters.home import CONFIG, Home, SiteConfig

    home = Home(database.parent)
    if not (home.root / CONFIG).is_file():
        return None
    export = home.resolve(home.read(SiteConfig).exchange) / "ledger"
    return str(export) if (export / CHECKPOINT).is_file() else None
