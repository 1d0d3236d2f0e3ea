"""What a database's failure means to a ledger: our errors instead of SQLAlchemy's, and what to do about each.

A database's own texts may hold paths, addresses and statements: they stay in the diagnostics. What is stored
lives in `ledger.sql_storage`, which database it is in `ledger.sqlite` and `ledger.postgresql`.

    damaged        SQLITE_CORRUPT, SQLITE_NOTADB; SQLSTATE XX001, XX002         StorageCorruptError
    full           SQLITE_FULL; 53100                                           ledger.storage.full
    not ours       42xxx: no right to a table, or other tables than ours        ledger.storage.tables
    moved on       40001, 40P01: another transaction won                        StateConflictError
    unreachable    no connection, or it broke before COMMIT was sent            ledger.storage.unreachable
    unknown        no clear answer to COMMIT                                    OutcomeUnknownError
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ledger.errors import CodedError
from ledger.storage import OutcomeUnknownError, StateConflictError, StorageCorruptError, StorageFailedError


@contextmanager
def translated() -> Iterator[None]:
    """Turn the database's errors into ours."""
    try:
        yield
    except DBAPIError as error:
        raise _meaning(error) from None
    except SQLAlchemyError as error:
        raise _failed(str(error)) from None


@contextmanager
def committing() -> Iterator[None]:
    """Around COMMIT alone: without the database's clear no, the outcome is unknown."""
    try:
        yield
    except DBAPIError as error:
        answered = _sqlstate(error) or _sqlite_name(error) in ("SQLITE_FULL", "SQLITE_BUSY")
        if answered and not error.connection_invalidated:
            raise
        raise OutcomeUnknownError(
            "the ledger database did not say whether it stored the last batch",
            remedy="Once it answers again, reload the log: the batch is there whole or not at all.",
            diagnostics=str(error),
        ) from None


def _meaning(error: DBAPIError) -> CodedError:
    text, state, name = str(error), _sqlstate(error), _sqlite_name(error)
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or state in ("XX001", "XX002"):
        return StorageCorruptError("the ledger database is damaged", diagnostics=text)
    if state in ("40001", "40P01"):
        return StateConflictError("the log moved on under another sequencer", diagnostics=text)
    if name == "SQLITE_FULL" or state == "53100":
        return StorageFailedError(
            "the disk of the ledger database is full",
            remedy="Free space, then try again: nothing was acknowledged.",
            diagnostics=text,
            code="ledger.storage.full",
        )
    if state.startswith("42"):
        return StorageFailedError(
            "the ledger database has other tables than a ledger's, or this user may not use them",
            remedy="Give the ledger a database and a user of its own.",
            diagnostics=text,
            code="ledger.storage.tables",
        )
    if not name and (error.connection_invalidated or not state):
        return StorageFailedError(
            "the ledger database cannot be reached",
            remedy="Check that its server runs, and the address, user and password: nothing was acknowledged.",
            diagnostics=text,
            code="ledger.storage.unreachable",
        )
    return _failed(text)


def _failed(text: str) -> StorageFailedError:
    return StorageFailedError(
        "the ledger database did not store or return the data",
        remedy="Check the disk and the database, then try again: nothing was acknowledged.",
        diagnostics=text,
    )


def _sqlstate(error: DBAPIError) -> str:
    """PostgreSQL's five characters; empty without a server's answer."""
    found: object = getattr(error.orig, "sqlstate", None)
    return found if isinstance(found, str) else ""


def _sqlite_name(error: DBAPIError) -> str:
    """SQLite's (extended) result code by name; empty for another database."""
    found: object = getattr(error.orig, "sqlite_errorname", None)
    return found if isinstance(found, str) else ""
