"""Where a site keeps what a training goes on from after a crash: encrypted files, each replaced whole.

    <name>             the checkpoint (`tasks.train.checkpoint`)
    <name>.patients    keys of the patients with whom the training began, 32 bytes each

Within a training patients only leave: who consents between a crash and the run that goes on is not taken in. The
second file is written before the first, so that no checkpoint is without its patients.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapters.sealed_files import SealedFiles

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class SealedCheckpoint:
    """`tasks.train.checkpoint.Checkpoints` over sealed files."""

    files: SealedFiles
    name: str

    def read(self) -> bytes | None:
        return self.files.read(self.name)

    def write(self, data: bytes) -> None:
        self.files.write(self.name, data)

    def began_with(self, patients: tuple[bytes, ...]) -> frozenset[bytes]:
        """The patients with whom this training began: these, if it begins now."""
        kept = self.files.read(f"{self.name}.patients")
        if kept is None:
            kept = b"".join(patients)
            self.files.write(f"{self.name}.patients", kept)
        return frozenset(kept[start : start + _KEY_BYTES] for start in range(0, len(kept), _KEY_BYTES))

    def has_begun(self) -> bool:
        """Whether this training began, and can go on: from its checkpoint or, if the crash came before the first,
        from its beginning."""
        return self.files.read(f"{self.name}.patients") is not None
