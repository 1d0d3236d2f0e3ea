"""`wardround ledger verify`: the report of every ledger that lies at a path, as a table or as JSON."""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from ledger.errors import CodedError, VerificationError
from ledger.report import Report, VerificationFailedError
from wardround.ledger.entries_progress import EntriesProgress
from wardround.ledger.sources import Serving, find, open_files, printable, verify_database

if TYPE_CHECKING:
    from ledger.policy import Policy

_WORD = 40  # longer ones would be folded in a terminal of 80 columns
_STYLES = {
    "passed": "[green]ok[/green]",
    "failed": "[bold red]FAILED[/bold red]",
    "skipped": "[dim]skipped[/dim]",
}


class TwoLedgersError(VerificationError):
    code = "ledger.verify.two-ledgers"


def verify(
    path: str,
    /,
    *,
    vkey: Annotated[
        str | None, Parameter(help="The log's verifier key. Else the one found is trusted.")
    ] = None,
    policy: Annotated[
        Path | None,
        Parameter(help="A tlog-policy file: whose cosignatures count, instead of the export's own."),
    ] = None,
    json: Annotated[bool, Parameter(help="Print one JSON object a ledger instead of tables.")] = False,
    serving: Serving | None = None,
) -> None:
    """Check every signature, hash and event. Exit 3 if anything does not hold.

    Parameters
    ----------
    path
        A demo's folder, an exchange, a static export or an archive of one, the URL that serves one, a database
        (a .sqlite file or postgresql://...), or a witness's evidence (with --vkey).
    """
    from ledger.commands import evidence_key, read_policy
    from ledger.source import verify_evidence

    places = find(path)
    if places.evidence is not None:
        proven = verify_evidence(places.evidence, evidence_key(vkey))
        found = {"ok": True, "path": path, "proven": proven}
        sys.stdout.write(f"{json_text.dumps(found) if json else proven}\n")
        return
    trusted = read_policy(policy)
    reports: list[Report] = []
    failure: VerificationFailedError | None = None
    for place in (places.export, places.database):
        if place is None:
            continue
        try:
            if place == places.export:
                report = _verify_files(place, serving, vkey, trusted)
            else:
                report = verify_database(place, vkey)
        except VerificationFailedError as error:
            report, failure = error.report, failure or error
        except CodedError as error:
            if failure is None:
                raise
            sys.stderr.write(f"{error}\n")  # what cannot be looked at hides no failure that was found
            continue
        reports.append(report)
        if json:
            sys.stdout.write(json_text.dumps({"path": place, **report.to_json()}) + "\n")
        else:
            _show_report(place, report)
    if failure is not None:
        raise failure
    if len(reports) == 2:
        _agree(reports[0], reports[1])


def _verify_files(place: str, serving: Serving | None, vkey: str | None, trusted: Policy | None) -> Report:
    from ledger.verify import verify_static

    with open_files(place, serving) as files, EntriesProgress() as progress:
        return verify_static(files, log_vkey=vkey, policy=trusted, progress=progress.update)


def _show_report(place: str, report: Report) -> None:
    from ledger.commands import verdict

    console = Console(highlight=False)
    table, below = Table(title=printable(place), title_justify="left"), list[str]()
    for heading in ("", "check", "", "detail"):
        table.add_column(heading, overflow="fold")
    for check in report.checks:
        at = "" if check.index is None else f" (at index {check.index})"
        detail = printable(f"{check.detail}{at}")
        if any(len(word) > _WORD for word in detail.split()):  # a key or a root is copied whole or not at all
            below.append(f"{check.number}: {detail}")
            detail = "see below"
        table.add_row(str(check.number), check.title, _STYLES[check.outcome], detail)
    console.print(table)
    for line in below:
        console.print(line, soft_wrap=True)
    for notice in report.notices:
        console.print(f"note: {printable(notice)}", soft_wrap=True)
    console.print(f"{printable(verdict(report, place))}\n", soft_wrap=True)


def _agree(export: Report, database: Report) -> None:
    """The export may lag behind the database, never lead it or be another log's."""
    if export.origin != database.origin or export.size > database.size:
        raise TwoLedgersError("the static export and the database are not of one ledger")
    if export.size == database.size and export.root != database.root:
        raise TwoLedgersError("the static export and the database have one size and two roots")
