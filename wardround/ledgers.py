"""`wardround ledger`: verify, read and prove what is on a ledger; `python -m ledger` with tables.

PATH may be the folder of a demo or of a federation (its static export and its database are both verified), an
exchange, a ledger's static export, or a database file. An auditor who trusts nothing of ours but `ledger` uses
`python -m ledger`, which prints the same verdicts.
"""

from __future__ import annotations

import json as json_text
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from ledger.errors import InputError, VerificationError
from ledger.export import CHECKPOINT, VKEY
from ledger.report import Report, VerificationFailedError

if TYPE_CHECKING:
    from ledger.reader import VerifiedTree

app = App(name="ledger", help="Verify, read and prove what is on the ledger.")

_STYLES = {
    "passed": "[green]ok[/green]",
    "failed": "[bold red]FAILED[/bold red]",
    "skipped": "[dim]skipped[/dim]",
}


class NoLedgerError(InputError):
    code = "ledger.not-found"


class LedgerOptionError(InputError):
    code = "usage.option"


@dataclass(frozen=True, slots=True)
class Places:
    """What of a ledger lies at a path."""

    export: Path | None
    database: Path | None


@app.command
def verify(
    path: Path,
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
) -> None:
    """Check every signature, hash and event. Exit 3 if anything does not hold.

    Parameters
    ----------
    path
        A demo's folder, an exchange, a static export, or a .sqlite file.
    """
    from ledger.policy import parse_policy
    from ledger.verify import verify_database, verify_directory

    places = _places(path)
    try:
        trusted = None if policy is None else parse_policy(policy.read_bytes())
    except OSError:
        raise LedgerOptionError(f"the policy file {policy} cannot be read") from None
    reports: list[Report] = []
    failure: VerificationFailedError | None = None
    for place in (places.export, places.database):
        if place is None:
            continue
        try:
            if place == places.export:
                report = verify_directory(place, log_vkey=vkey, policy=trusted)
            else:
                report = verify_database(place, log_vkey=vkey)
        except VerificationFailedError as error:
            report, failure = error.report, failure or error
        reports.append(report)
        if json:
            sys.stdout.write(json_text.dumps({"path": str(place), **report.to_json()}) + "\n")
        else:
            _show_report(place, report)
    if failure is not None:
        raise failure
    if len(reports) == 2:
        _agree(reports[0], reports[1])


def _show_report(place: Path, report: Report) -> None:
    console = Console(highlight=False)
    table = Table(title=str(place), title_justify="left")
    for heading in ("", "check", "", "detail"):
        table.add_column(heading, overflow="fold")
    for check in report.checks:
        table.add_row(str(check.number), check.title, _STYLES[check.outcome], _plain(check.detail))
    console.print(table)
    for notice in report.notices:
        console.print(f"note: {_plain(notice)}", soft_wrap=True, markup=False)
    verdict = "verified" if report.ok else "NOT verified"
    console.print(f"{verdict}: {_plain(report.origin)} at size {report.size}\n", soft_wrap=True, markup=False)


def _agree(export: Report, database: Report) -> None:
    """The export may lag behind the database, never lead it or be another log's."""
    if export.origin != database.origin or export.size > database.size:
        raise TwoLedgersError("the static export and the database are not of one ledger")
    if export.size == database.size and export.root != database.root:
        raise TwoLedgersError("the static export and the database have one size and two roots")


class TwoLedgersError(VerificationError):
    code = "ledger.verify.two-ledgers"


@app.command
def show(
    path: Path,
    /,
    *,
    kind: Annotated[
        str | None,
        Parameter(name="--type", help="Only this event type, or those that begin so before a dot."),
    ] = None,
    institution: Annotated[str | None, Parameter(help="Only this institution's events.")] = None,
    study: Annotated[str | None, Parameter(help="Only events whose body names this study.")] = None,
    json: Annotated[bool, Parameter(help="One JSON object a line, with the bodies.")] = False,
) -> None:
    """List the events. Signatures are `verify`'s affair.

    Parameters
    ----------
    path
        A demo's folder, an exchange, or a static export.
    """
    from ledger.event import parse_entry

    opened = _open(_export(path))
    table = Table()
    for heading in ("index", "time (claimed)", "institution", "seq", "type"):
        table.add_column(heading, justify="right" if heading in ("index", "seq") else "left", overflow="fold")
    for index, entry in enumerate(opened.entries(0, opened.size)):
        event = parse_entry(entry).event
        if kind is not None and event.type != kind and not event.type.startswith(f"{kind}."):
            continue
        if institution not in (None, event.institution) or (
            study is not None and event.body.get("study") != study
        ):
            continue
        if json:
            sys.stdout.write(json_text.dumps({"index": index, **event.to_json()}) + "\n")
            continue
        when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(event.time_s))
        table.add_row(str(index), when, _plain(event.institution), str(event.sequence), event.type)
    if not json:
        Console(highlight=False).print(table)


@app.command
def prove(
    path: Path,
    index: int,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Write the proof to this new file instead of stdout.")] = None,
    entry: Annotated[
        Path | None,
        Parameter(help="Write the entry itself to this new file; `python -m ledger check` needs both."),
    ] = None,
) -> None:
    """Write an offline proof that an entry is on the ledger (tlog-proof), for whoever has the log's key.

    Parameters
    ----------
    path
        A demo's folder, an exchange, or a static export.
    index
        Number of the entry, as `show` lists it.
    """
    from ledger import proof

    export = _export(path)
    opened = _open(export)
    if not 0 <= index < opened.size:
        raise LedgerOptionError(f"there is no entry {index}: the ledger has {opened.size}, from 0")
    made = proof.TlogProof(index, opened.inclusion_proof(index), (export / CHECKPOINT).read_bytes()).encode()
    if entry is not None:
        _write(entry, opened.entry(index), option="--entry")
    if out is None:
        sys.stdout.write(made.decode())
    else:
        _write(out, made, option="--out")


def _write(path: Path, data: bytes, *, option: str) -> None:
    try:
        with path.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise LedgerOptionError(
            f"cannot write {path}: {os.strerror(error.errno or 0)}", remedy=f"Choose another {option}."
        ) from None


def _places(path: Path) -> Places:
    if path.is_file():
        return Places(None, path)
    for folder in (path, path / "ledger", path / "exchange" / "ledger"):
        if (folder / CHECKPOINT).is_file():
            database = path / "coordinator" / "ledger.sqlite"
            return Places(folder, database if database.is_file() else None)
    for database in (path / "coordinator" / "ledger.sqlite", path / "ledger.sqlite"):
        if database.is_file():
            return Places(None, database)
    why = "holds no ledger" if path.is_dir() else "does not exist"
    raise NoLedgerError(
        f"{path} {why}", remedy="Give a demo's folder, an exchange, a static export or a ledger.sqlite."
    )


def _export(path: Path) -> Path:
    export = _places(path).export
    if export is None:
        raise NoLedgerError(
            f"{path} holds no static export yet",
            remedy="Give a demo's folder, an exchange or a static export.",
        )
    return export


def _open(export: Path) -> VerifiedTree:
    """The tree of an export, under its own checkpoint and the key that lies beside it."""
    from ledger import checkpoint, note
    from ledger.reader import TileReader

    data = (export / CHECKPOINT).read_bytes()
    if (export / VKEY).is_file():
        head = checkpoint.verify(data, note.parse_vkey((export / VKEY).read_text().removesuffix("\n")))
    else:
        head, _ = checkpoint.parse(data)

    def fetch(name: str) -> bytes | None:
        file = export / name
        return file.read_bytes() if file.is_file() else None

    return TileReader(fetch).at_checkpoint(head)


def _plain(text: str) -> str:
    """Neither control characters nor markup on the reader's terminal."""
    from rich.markup import escape

    return escape("".join(character if character.isprintable() else "?" for character in text))
