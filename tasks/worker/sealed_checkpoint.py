"""Where a site keeps the checkpoint of a training: one encrypted file, replaced whole."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.sealed_files import SealedFiles


@dataclass(frozen=True, slots=True)
class SealedCheckpoint:
    """`tasks.train.checkpoint.Checkpoints` over one sealed file."""

    files: SealedFiles
    name: str

    def read(self) -> bytes | None:
        return self.files.read(self.name)

    def write(self, data: bytes) -> None:
        self.files.write(self.name, data)
