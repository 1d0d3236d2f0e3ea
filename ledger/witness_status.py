"""What a witness's database says, read without changing it, and whether an export agrees with it.

    agrees          the export's tree contains what was cosigned, or what was cosigned contains the export
    disagrees       it does not: two histories under one log key, or another log altogether
    unknown         the export ends before what was cosigned, and its files do not reach so far

Only the owner of the witness changes its database (`ledger.witness`); `wardround` knows where witnesses lie.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ledger import checkpoint, equivocation, note, rollback
from ledger.canonical import JsonValue
from ledger.checkpoint import Checkpoint
from ledger.encoding import HASH_BYTES
from ledger.errors import InputError, VerificationError
from ledger.export import CHECKPOINT
from ledger.reader import MissingFileError, TileReader
from ledger.sqlite import open_readonly_engine
from ledger.static_files import StaticFiles
from ledger.storage import StorageCorruptError, StorageMissingError
from ledger.witness_storage import SqliteWitnessStorage, WitnessState

Verdict = Literal["agrees", "disagrees", "unknown"]


class WitnessAlarmError(VerificationError):
    """A witness holds evidence against the log, or does not stand on the same history as the export."""

    code = "ledger.witness.alarm"


@dataclass(frozen=True, slots=True)
class Agreement:
    """How an export of `size` stands to what was cosigned; `evidence` proves a disagreement if it can be proven."""

    verdict: Verdict
    size: int | None
    reason: str
    evidence: bytes | None = None


@dataclass(frozen=True, slots=True)
class WitnessStatus:
    """The state of one witness. Log time and the time of cosigning are 0 before the first cosignature."""

    name: str
    vkey: str
    log_vkey: str
    size: int
    root: bytes
    log_time_s: int
    cosigned_at_s: int
    checkpoint: bytes
    evidence: tuple[bytes, ...]
    agreement: Agreement | None = None
    rolled_back: bool = False

    @property
    def origin(self) -> str:
        return note.parse_vkey(self.log_vkey).name

    @property
    def evidences(self) -> tuple[bytes, ...]:
        """What it holds, and what the comparison proved."""
        found = (
            () if self.agreement is None or self.agreement.evidence is None else (self.agreement.evidence,)
        )
        return tuple(dict.fromkeys((*self.evidence, *found)))

    @property
    def alarming(self) -> bool:
        disagrees = self.agreement is not None and self.agreement.verdict == "disagrees"
        return bool(self.evidence) or self.rolled_back or disagrees

    def lines(self) -> list[str]:
        """For people."""
        out = [
            f"{self.name}",
            f"  key        {self.vkey}",
            f"  log        {self.log_vkey}",
            f"  cosigned   size {self.size}, root {self.root.hex()}, at {_when(self.cosigned_at_s)}",
            f"  log time   {_when(self.log_time_s)}",
            f"  evidence   {len(self.evidence) or 'none'}",
        ]
        if self.rolled_back:
            out.append("  memory     went back behind what it cosigned; it signs nothing more")
        if self.agreement is not None:
            out.append(f"  export     {self.agreement.verdict}: {self.agreement.reason}")
        return out

    def to_json(self) -> dict[str, JsonValue]:
        found = self.agreement
        return {
            "name": self.name,
            "vkey": self.vkey,
            "origin": self.origin,
            "log_vkey": self.log_vkey,
            "size": self.size,
            "root": self.root.hex(),
            "log_time_s": self.log_time_s,
            "cosigned_at_s": self.cosigned_at_s,
            "evidence": len(self.evidence),
            "rolled_back": self.rolled_back,
            "export": None
            if found is None
            else {"verdict": found.verdict, "size": found.size, "reason": found.reason},
        }


def read_status(path: Path, export: StaticFiles | None = None) -> WitnessStatus:
    """The stored state, checked against the checkpoint that it rests on, and against the export if there is one."""
    if not path.is_file():
        raise StorageMissingError("there is no witness database of this name")
    with _readonly(path) as storage:
        state = storage.load()
        if state is None:
            raise StorageMissingError(
                "this database holds no witness's state", code="ledger.witness.no-state"
            )
        kept = storage.evidence()
    log_vkey = note.parse_vkey(state.log_vkey)
    if state.size:
        signed = checkpoint.verify(state.checkpoint, log_vkey)
        if (signed.size, signed.root) != (state.size, state.root):
            raise StorageCorruptError("the witness's state is not the checkpoint that it rests on")
    evidence = tuple(data for data in kept if not rollback.is_rollback(data))
    for data in kept:
        if rollback.is_rollback(data):
            rollback.verify(data, note.parse_vkey(state.witness_vkey), state.size)
        else:
            equivocation.parse(data).verify(log_vkey)
    return WitnessStatus(
        name=note.parse_vkey(state.witness_vkey).name,
        vkey=state.witness_vkey,
        log_vkey=state.log_vkey,
        size=state.size,
        root=state.root,
        log_time_s=state.log_time_s,
        cosigned_at_s=state.cosigned_at_s,
        checkpoint=state.checkpoint,
        evidence=evidence,
        agreement=None if export is None else compare(state, export),
        rolled_back=len(kept) > len(evidence),
    )


def compare(state: WitnessState, export: StaticFiles) -> Agreement:
    """Whether one history holds both what was cosigned and what was exported, shown through the tiles."""
    data = export.read(CHECKPOINT)
    if data is None:
        return Agreement("unknown", None, "nothing was exported yet")
    try:
        head = checkpoint.verify(data, state.log_vkey)
    except VerificationError:
        return Agreement(
            "disagrees", None, "the export's checkpoint is not signed by the log that is witnessed"
        )
    reader = TileReader(export.read)
    try:
        if state.size <= head.size:
            behind = head.size - state.size
            if reader.at_checkpoint(head).root_at(state.size) == state.root:
                return Agreement(
                    "agrees", head.size, f"{behind} entries behind it" if behind else "of one size"
                )
            return _contradiction(state, data, head, reader)
        if reader.at(state.size, state.root).root_at(head.size) == head.root:
            return Agreement("agrees", head.size, f"{state.size - head.size} entries ahead of it")
    except MissingFileError as error:
        if not _begins_alike(state, head, reader):
            return Agreement("disagrees", head.size, "the export does not begin with what was cosigned")
        reason = f"the export of size {head.size} ends before what was cosigned: {error.public_message}"
        return Agreement("unknown", head.size, reason)
    except (InputError, VerificationError) as error:
        return Agreement("disagrees", head.size, error.public_message)
    return Agreement("disagrees", head.size, "what was cosigned does not begin with what was exported")


def _begins_alike(state: WitnessState, head: Checkpoint, reader: TileReader) -> bool:
    """Whether the largest perfect tree that the witness remembers is the export's too, where that reaches so far."""
    first = 1 << (state.size.bit_length() - 1)
    return first > head.size or reader.at_checkpoint(head).root_at(first) == state.frontier[:HASH_BYTES]


def _contradiction(state: WitnessState, data: bytes, head: Checkpoint, reader: TileReader) -> Agreement:
    nodes = equivocation.nodes_within(reader.at_checkpoint(head), state.size)
    found = equivocation.find(state.checkpoint, data, nodes, note.parse_vkey(state.log_vkey))
    reason = "the export does not begin with what was cosigned: the log key signed two histories"
    return Agreement("disagrees", head.size, reason, None if found is None else found.encode())


class _ReadonlyStorage(SqliteWitnessStorage):
    """The same rows through an engine that changes nothing, not even beside the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = open_readonly_engine(path)


@contextmanager
def _readonly(path: Path) -> Iterator[_ReadonlyStorage]:
    """Where a journal was left and nobody has the database open, SQLite would write beside it: then a copy."""
    journal, shared = (path.with_name(f"{path.name}-{part}") for part in ("wal", "shm"))
    with tempfile.TemporaryDirectory() as folder:
        if journal.exists() and not shared.exists():
            for source in (path, journal):
                shutil.copyfile(source, Path(folder) / source.name)
            path = Path(folder) / path.name
        storage = _ReadonlyStorage(path)
        try:
            yield storage
        finally:
            storage.close()


def _when(time_s: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(time_s)) if time_s else "never"
