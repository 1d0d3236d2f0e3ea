"""Where a ledger lies: in a folder of ours, in a file, at a URL. Finds and opens; verifies nothing.

a demo's or a federation's folder     exchange/ledger and coordinator/ledger.sqlite
an exchange                           ledger
a coordinator's home                  ledger.sqlite
anything else                         see `ledger.source` and `adapters.served_log`
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.markup import escape

from ledger.errors import CodedError, InputError
from ledger.export import CHECKPOINT
from ledger.listing import plain

if TYPE_CHECKING:
    from ledger.log import Log
    from ledger.report import Report
    from ledger.static_files import StaticFiles

_REMEDY = (
    "Give a demo's folder, an exchange, a static export, an archive of one, its URL, or a ledger.sqlite."
)

_DATABASE = "ledger.sqlite"


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
    """What of a ledger lies somewhere: static files, a database (each a path or a URL), or evidence."""

    export: str | None = None
    database: str | None = None
    evidence: Path | None = None


def find(where: str) -> Places:
    from adapters.served_log import is_url
    from ledger.source import unreadable

    if is_url(where):
        return Places(export=where)
    if _is_database_url(where):
        return Places(database=where)
    path = Path(where)
    try:
        return _places(path)
    except OSError as error:
        raise unreadable(path, error) from None


def _places(path: Path) -> Places:
    from ledger.source import kind_of

    if path.is_file():
        kind = kind_of(path)
        if kind == "archive":
            return Places(export=str(path))
        return Places(evidence=path) if kind == "evidence" else Places(database=str(path))
    for folder in (path, path / "ledger", path / "exchange" / "ledger"):
        if (folder / CHECKPOINT).is_file():
            return Places(export=str(folder), database=_database(path / "coordinator"))
    database = _database(path / "coordinator") or _database(path)
    if database is not None:
        return Places(database=database)
    why = "holds no ledger" if path.is_dir() else "does not exist"
    raise NoLedgerError(f"{path} {why}", remedy=_REMEDY)


def coordinator_home(where: str) -> Path | None:
    """The coordinator's home at or in a folder, None if this is no such folder."""
    from ledger.source import unreadable

    path = Path(where)
    try:
        return next((home for home in (path / "coordinator", path) if _database(home) is not None), None)
    except OSError as error:
        raise unreadable(path, error) from None


@contextmanager
def open_log(where: str) -> Iterator[Log]:
    """The log in a database, to read."""
    from ledger.log import Log
    from ledger.postgresql import PostgresqlStorage
    from ledger.source import readonly_log

    database = find(where).database
    if database is None:
        raise NoLedgerError(
            f"{where} holds no ledger database",
            remedy="Give a demo's folder, a coordinator's home or a database.",
        )
    if not _is_database_url(database):
        with readonly_log(Path(database)) as log:
            yield log
        return
    storage = PostgresqlStorage(database)
    try:
        yield Log.open(storage)
    finally:
        storage.close()


def verify_database(database: str, vkey: str | None) -> Report:
    from ledger import verify_database as verification
    from ledger.source import require_database

    if _is_database_url(database):
        return verification.verify_url(database, log_vkey=vkey)
    require_database(Path(database))
    return verification.verify_database(Path(database), log_vkey=vkey)


def _database(home: Path) -> str | None:
    """The database of a coordinator's home, None if this is none."""
    if (home / "institution.yaml").is_file():
        from adapters.home import CoordinatorConfig, Home

        try:
            named = Home(home).read(CoordinatorConfig).ledger
        except CodedError:
            named = None  # a site's home; or one whose log can be checked though its configuration is broken
        if named is not None:
            return named
    return str(home / _DATABASE) if (home / _DATABASE).is_file() else None


def _is_database_url(text: str) -> bool:
    return text.startswith(("postgresql://", "postgresql+psycopg://"))


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
