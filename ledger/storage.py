"""What a log needs from storage, and nothing of how it is done.

A store holds one log: its state (one row), its entries, and its tiles, which are derived from the entries
and kept so that proofs are fast. `commit` is all or nothing, and compares the stored state with the expected
one before it swaps, so that two sequencers can never fork a log. When it returns, the batch survives a
crash: it is on the disk, not on its way there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ledger.errors import CodedError, InputError
from ledger.tiles import TileName
from ledger.tree import Hash


class StorageMissingError(InputError):
    code = "ledger.storage.missing"


class StorageExistsError(InputError):
    code = "ledger.storage.exists"


class StorageCorruptError(CodedError):
    code = "ledger.storage.corrupt"
    kind = "policy"


class StorageFailedError(CodedError):
    """Nothing was stored, unless it is an OutcomeUnknownError."""

    code = "ledger.storage.failed"


class OutcomeUnknownError(StorageFailedError):
    """The batch was sent to be committed, whole, and no answer came: it is stored, will be, or never will.

    The expected state of the next commit decides: it is refused if this batch made it.
    """

    code = "ledger.storage.outcome-unknown"


class StateConflictError(CodedError):
    code = "ledger.storage.conflict"


@dataclass(frozen=True, slots=True)
class LogState:
    """The head of a log. `checkpoint` is the note that the log key signed over origin, size and root."""

    origin: str
    vkey: str
    size: int
    root: Hash
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries [expected.size, state.size) and every tile that they change."""

    expected: LogState
    state: LogState
    entries: Sequence[bytes]
    tiles: Mapping[TileName, bytes]


class Storage(Protocol):
    def load(self) -> LogState | None:
        """The state, or None if no log was created here."""

    def create(self, state: LogState) -> None:
        """Begin a log; StorageExistsError if there is one."""

    def commit(self, batch: Batch) -> None:
        """Store a batch durably; StateConflictError, and nothing stored, if the state is not `expected`.

        StorageFailedError if it could not be stored, OutcomeUnknownError if nobody can say.
        """

    def entries(self, start: int, end: int) -> list[bytes]:
        """Entries [start, end), fewer if they are not there."""

    def tile(self, level: int, n: int) -> bytes:
        """The hashes of a tile as far as it has grown, empty if it does not exist."""

    def close(self) -> None: ...
