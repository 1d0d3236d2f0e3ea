"""`wardround ledger witness status`: what each site's witness cosigned last, and whether the export agrees."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ledger.errors import CodedError
from ledger.export import CHECKPOINT
from ledger.listing import plain
from ledger.source import unreadable
from wardround.ledger.sources import NoLedgerError, Serving, open_files

if TYPE_CHECKING:
    from ledger.witness_status import WitnessStatus

_DATABASE = "witness.sqlite"
_SITES = "sites"


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
    from ledger.witness_status import WitnessAlarmError

    statuses, unread = [], []
    try:
        databases = _databases(path)
    except OSError as error:
        raise unreadable(path, error) from None
    if export is not None:
        _require_checkpoint(export, serving)
    for database in databases:
        try:
            found = _status(database, export, serving)
        except (CodedError, OSError) as error:
            if database.parent.parent != path / _SITES:
                raise  # asked for by name
            unread.append(database.parent.name)
            _say_unread(database, error, json=json)
            continue
        statuses.append(found)
        for line in [json_text.dumps(found.to_json())] if json else found.lines():
            sys.stdout.write(line + "\n")
    if evidence is not None:
        for written in write_evidence(statuses, evidence):
            sys.stderr.write(f"wrote {written}\n")
    require_calm(statuses)
    if unread:
        raise WitnessAlarmError(
            f"{', '.join(unread)}: no state can be read",
            remedy="Restore witness.sqlite there; a hospital without it remembers nothing that it cosigned.",
        )


def _status(database: Path, export: str | None, serving: Serving | None) -> WitnessStatus:
    from ledger.commands import witness_state

    export = export or _beside(database)
    if export is None:
        return witness_state(database, None)
    with open_files(export, serving) as files:
        return witness_state(database, files)


def _require_checkpoint(export: str, serving: Serving | None) -> None:
    """An export that was named and is none is a mistake, where one that is not there yet would be none."""
    with open_files(export, serving) as files:
        if files.read(CHECKPOINT) is None:
            raise NoLedgerError(f"{export} holds no checkpoint", remedy="Name a static export of a ledger.")


def _say_unread(database: Path, error: CodedError | OSError, *, json: bool) -> None:
    site = database.parent.name
    if isinstance(error, OSError):
        error = unreadable(database, error)
    missing = error.public_message
    if str(database) not in missing:
        missing = f"{database}: {missing}"
    if json:
        found = {"name": site, "path": str(database), "error": error.code, "message": missing}
        sys.stdout.write(json_text.dumps(found) + "\n")
    else:
        sys.stdout.write(f"{plain(site)}\n  no state   {plain(missing)}\n")


def _databases(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if (path / _DATABASE).is_file():
        return [path / _DATABASE]
    sites = path / _SITES
    found = [site / _DATABASE for site in sorted(sites.iterdir()) if site.is_dir()] if sites.is_dir() else []
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
