"""Where a log lies, on every kind of store that outlives a process: to be opened, and judged, by any process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import pytest

from ledger.postgresql import PostgresqlStorage
from ledger.report import Report
from ledger.sql_storage import SqlStorage
from ledger.sqlite import SqliteStorage
from ledger.verify_database import verify_database, verify_url

POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.xdist_group("postgresql"))
KINDS = ["sqlite", POSTGRESQL]


@dataclass(frozen=True)
class Place:
    """A file, or a database by its address."""

    path: object = None
    url: str = ""

    def open(self) -> SqlStorage:
        return PostgresqlStorage(self.url) if self.url else SqliteStorage(self.path)

    def verify(self, events: str = "skip") -> Report:
        return verify_url(self.url, events=events) if self.url else verify_database(self.path, events=events)


def maker(kind: str, request: pytest.FixtureRequest) -> Callable[[], Place]:
    """A function that gives an empty place each time, on PostgreSQL one that ends the place before."""
    if kind == "postgresql":
        server = request.getfixturevalue("postgresql_server")
        database = server.database()
        request.addfinalizer(lambda: server.drop(database))

        def emptied() -> Place:
            server.empty(database)
            return Place(url=server.url(database))

        return emptied
    folder, numbers = request.getfixturevalue("tmp_path"), count()
    return lambda: Place(path=folder / f"ledger-{next(numbers)}.db")
