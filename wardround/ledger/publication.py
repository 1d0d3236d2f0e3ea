"""`wardround ledger export`: from a coordinator's database to static files, under the checkpoint that is final."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from wardround.ledger.sources import LedgerOptionError, coordinator_home, open_log

if TYPE_CHECKING:
    from ledger.policy import Policy


def export(
    path: str,
    directory: Path,
    /,
    *,
    checkpoint: Annotated[
        Path | None, Parameter(help="The cosigned checkpoint to publish, instead of the one that is final.")
    ] = None,
    policy: Annotated[Path | None, Parameter(help="A tlog-policy file to publish beside it.")] = None,
    archive: Annotated[Path | None, Parameter(help="Pack the export as this .tar.gz too.")] = None,
) -> None:
    """Bring a static export up to date. A folder that holds another ledger is refused.

    Parameters
    ----------
    path
        A demo's or a federation's folder, a coordinator's home, or a database (a .sqlite file or
        postgresql://..., then under the log's own checkpoint, unless one is given).
    directory
        An earlier export of it, or a new folder.
    """
    from ledger.commands import export_log, read_policy
    from ledger.source import read_file

    trusted = read_policy(policy)
    data = None if checkpoint is None else read_file(checkpoint)
    home = coordinator_home(path)
    if home is not None and data is None:
        data, own = _final(home)
        trusted = trusted or own
    with open_log(path) as log:
        said = export_log(log, directory, data, policy=trusted, archive=archive)
    sys.stdout.write(f"{said}\n")


def _final(path: Path) -> tuple[bytes, Policy]:
    """The checkpoint on the exchange that a quorum of this coordinator's own federation cosigned."""
    from adapters import mail
    from adapters.home import CoordinatorConfig, Home
    from adapters.institution_log import policy_of
    from ledger.finality import finalized
    from ledger.static_files import Folder

    home = Home(path)
    policy = policy_of(home.federation)
    with Folder(home.resolve(home.read(CoordinatorConfig).exchange)) as exchange:
        data = exchange.read(mail.FINAL_CHECKPOINT)
    if data is None:
        raise LedgerOptionError(
            "no checkpoint of this ledger is final yet",
            remedy="Wait for the witnesses, or give --checkpoint.",
        )
    finalized(data, log_vkey=home.federation.log_vkey, policy=policy)
    return data, policy
