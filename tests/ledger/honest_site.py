"""An honest witness of the agreement tests, and the disk under it, which fails and is restored from old backups."""

from __future__ import annotations

from dataclasses import dataclass, field

from ledger.checkpoint import Checkpoint
from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.storage import StorageFailedError
from ledger.witness import Witness
from ledger.witness_storage import MemoryWitnessStorage


class Disk(MemoryWitnessStorage):
    """Keeps every state it ever held, as backups do, and fails on request before or after it stored."""

    def __init__(self) -> None:
        super().__init__()
        self.backups = []
        self.fault = None

    def swap(self, expected, state) -> None:
        fault, self.fault = self.fault, None
        if fault == "before":
            raise StorageFailedError("the power went")
        self.backups.append((self._state, list(self._evidence)))
        super().swap(expected, state)
        if fault == "after":
            raise StorageFailedError("the power went, and nobody knows whether it was stored")

    def restore(self, copy) -> None:
        self._state, evidence = self.backups[copy % len(self.backups)]
        self._evidence = list(evidence)


@dataclass
class Site:
    """An honest witness: its key, disk and clock, the processes that run on them, and what they signed."""

    signer: MemorySigner
    skew_s: int = 0
    disk: Disk = field(default_factory=Disk)
    processes: list[Witness] = field(default_factory=list)
    signed: list[tuple[Checkpoint, Log]] = field(default_factory=list)
    log_time_s: int = 0
    rolled_back: bool = False
    knows: bool = False

    def process(self, number) -> Witness:
        return self.processes[-1 - number % len(self.processes)]
