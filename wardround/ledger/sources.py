"""Where a ledger lies: in a folder of ours, in a file, at a URL. Finds and opens; verifies nothing.

a demo's or a federation's folder     exchange/ledger and coordinator/ledger.sqlite
an exchange                           ledger
a coordinator's home                  ledger.sqlite
anything else                         see `ledger.source` and `adapters.served_log`
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.markup import escape

from ledger.errors import InputError
from ledger.export import CHECKPOINT
from ledger.listing import plain

if TYPE_CHECKING:
    from ledger.static_files import StaticFiles

_REMEDY = (
    "Give a demo's folder, an exchange, a static export, an archive of one, its URL, or a ledger.sqlite."
)


class NoLedgerError(InputError):
    code = "ledger.not-found"


class LedgerOptionError(InputError):
    code = "usage.option"


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Serving:
    """How to read a URL."""

    ca: Annotated[
        Path | None,
        Parameter(help="A URL's certificate authority, a PEM file; else SSL_CERT_FILE or the usual."),
    ] = None
    insecure_http: Annotated[bool, Parameter(help="Allow plain http to other machines.", negative="")] = False


@dataclass(frozen=True, slots=True)
class Places:
    """What of a ledger lies somewhere: static files (a path or a URL), a database, or a witness's evidence."""

    export: str | None = None
    database: Path | None = None
    evidence: Path | None = None


def find(where: str) -> Places:
    from adapters.served_log import is_url
    from ledger.source import kind_of

    if is_url(where):
        return Places(export=where)
    path = Path(where)
    if path.is_file():
        kind = kind_of(path)
        if kind == "archive":
            return Places(export=where)
        return Places(evidence=path) if kind == "evidence" else Places(database=path)
    for folder in (path, path / "ledger", path / "exchange" / "ledger"):
        if (folder / CHECKPOINT).is_file():
            database = path / "coordinator" / "ledger.sqlite"
            return Places(export=str(folder), database=database if database.is_file() else None)
    for database in (path / "coordinator" / "ledger.sqlite", path / "ledger.sqlite"):
        if database.is_file():
            return Places(database=database)
    why = "holds no ledger" if path.is_dir() else "does not exist"
    raise NoLedgerError(f"{where} {why}", remedy=_REMEDY)


def open_export(where: str, serving: Serving | None) -> StaticFiles:
    """The static files that lie somewhere; NoLedgerError if there are none."""
    export = find(where).export
    if export is None:
        raise NoLedgerError(f"{where} holds no static export yet", remedy=_REMEDY)
    return open_files(export, serving)


def open_files(export: str, serving: Serving | None) -> StaticFiles:
    from adapters.served_log import ServedLog, is_url
    from ledger.source import static_files

    if not is_url(export):
        return static_files(Path(export))
    serving = serving or Serving()
    return ServedLog(export, ca=serving.ca, insecure_http=serving.insecure_http)


def printable(text: str) -> str:
    """Neither control characters nor markup on the reader's terminal."""
    return escape(plain(text))
