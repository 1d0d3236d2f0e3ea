"""What a witness remembers, and where: in memory for tests, in its own SQLite file otherwise.

    state     (id=1, log_vkey TEXT, witness_vkey TEXT, size INTEGER, root BLOB, frontier BLOB,
               log_time_s INTEGER, cosigned_at_s INTEGER, checkpoint BLOB)                      one row
    evidence  (id INTEGER PRIMARY KEY, data BLOB)       `ledger.equivocation`, `ledger.rollback`; never removed

`swap` compares before it sets, and has reached the disk when it returns: a signature may leave only then.
When to sign is decided in `ledger.witness`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from ledger.sql_failure import translated
from ledger.sql_storage import writing
from ledger.sqlite import open_engine
from ledger.storage import StateConflictError, StorageCorruptError, StorageExistsError, StorageMissingError
from ledger.tree import Hash

metadata = sa.MetaData()
state_table = sa.Table(
    "state",
    metadata,
    sa.Column("id", sa.Integer, sa.CheckConstraint("id = 1"), primary_key=True),
    sa.Column("log_vkey", sa.Text, nullable=False),
    sa.Column("witness_vkey", sa.Text, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("root", sa.LargeBinary, nullable=False),
    sa.Column("frontier", sa.LargeBinary, nullable=False),
    sa.Column("log_time_s", sa.Integer, nullable=False),
    sa.Column("cosigned_at_s", sa.Integer, nullable=False),
    sa.Column("checkpoint", sa.LargeBinary, nullable=False),
)
evidence_table = sa.Table(
    "evidence",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)


@dataclass(frozen=True, slots=True)
class WitnessState:
    """The last checkpoint that was, or was about to be, cosigned. `checkpoint` is empty at size 0."""

    log_vkey: str
    witness_vkey: str
    size: int
    root: Hash
    frontier: bytes
    log_time_s: int
    cosigned_at_s: int
    checkpoint: bytes


class WitnessStorage(Protocol):
    def load(self) -> WitnessState | None: ...

    def create(self, state: WitnessState) -> None:
        """Begin; StorageExistsError if there is a state."""

    def swap(self, expected: WitnessState, state: WitnessState) -> None:
        """Replace the state durably; StateConflictError if it is not `expected`."""

    def evidence(self) -> tuple[bytes, ...]: ...

    def keep_evidence(self, data: bytes) -> None:
        """Store durably why nothing may be cosigned any more."""

    def close(self) -> None: ...


class MemoryWitnessStorage:
    """The in-memory twin."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: WitnessState | None = None
        self._evidence: list[bytes] = []

    def load(self) -> WitnessState | None:
        return self._state

    def create(self, state: WitnessState) -> None:
        with self._lock:
            if self._state is not None:
                raise StorageExistsError("this witness has a state already")
            self._state = state

    def swap(self, expected: WitnessState, state: WitnessState) -> None:
        with self._lock:
            if self._state != expected:
                raise StateConflictError("the witness's state moved on elsewhere")
            self._state = state

    def evidence(self) -> tuple[bytes, ...]:
        return tuple(self._evidence)

    def keep_evidence(self, data: bytes) -> None:
        self._evidence.append(data)

    def close(self) -> None:
        """Nothing to release."""


class SqliteWitnessStorage:
    """One witness in one SQLite file."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise StorageMissingError("the witness's folder does not exist")
        self._engine = open_engine(self.path)

    def load(self) -> WitnessState | None:
        if not self.path.exists():
            return None
        with self._reading() as connection:
            if not sa.inspect(connection).has_table("state"):
                return None
            row = connection.execute(sa.select(state_table)).mappings().one_or_none()
        if row is None:
            return None
        columns = {name: value for name, value in row.items() if name != "id"}
        for name, value in columns.items():
            if not isinstance(value, state_table.c[name].type.python_type):
                raise StorageCorruptError(f"the witness's {name} has the wrong type")
        return WitnessState(**columns)

    def create(self, state: WitnessState) -> None:
        with translated(), writing(self._engine) as connection:
            metadata.create_all(connection)
            try:
                connection.execute(sa.insert(state_table).values(id=1, **asdict(state)))
            except IntegrityError:
                raise StorageExistsError("this witness has a state already") from None

    def swap(self, expected: WitnessState, state: WitnessState) -> None:
        unchanged = [state_table.c[name] == value for name, value in asdict(expected).items()]
        update = sa.update(state_table).where(*unchanged).values(**asdict(state))
        with translated(), writing(self._engine) as connection:
            if connection.execute(update).rowcount != 1:
                raise StateConflictError("the witness's state moved on elsewhere")

    def evidence(self) -> tuple[bytes, ...]:
        with self._reading() as connection:
            return tuple(connection.scalars(sa.select(evidence_table.c.data).order_by(evidence_table.c.id)))

    def keep_evidence(self, data: bytes) -> None:
        with translated(), writing(self._engine) as connection:
            connection.execute(sa.insert(evidence_table).values(data=data))

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translated(), self._engine.connect() as connection:
            yield connection
