"""Static export: the log as the files of tlog-tiles, for archives and for serving from any object store.

    <directory>/checkpoint          the signed note, replaced last
    <directory>/log.vkey            the log key, one line
    <directory>/policy              tlog-policy: whose cosignatures make a checkpoint final
    <directory>/tile/...            see `ledger.tiles`

Incremental: only files that changed since the checkpoint that lies there are written, each whole or not at
all, and every tile before the checkpoint that needs it. An export never follows a log that was rewritten.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ledger import checkpoint, note, tiles
from ledger.checkpoint import Checkpoint
from ledger.errors import InputError, VerificationError
from ledger.log import Log
from ledger.policy import Policy
from ledger.tiles import WIDTH, TileName

CHECKPOINT = "checkpoint"
VKEY = "log.vkey"
POLICY = "policy"
_SYNC_FROM = 64  # from so many files on, one sync of everything is cheaper than one of each


class ExportError(InputError):
    code = "ledger.export.directory"


class ExportDivergedError(VerificationError):
    code = "ledger.export.diverged"


@dataclass(frozen=True, slots=True)
class Exported:
    """What one export did: the sizes that it led from and to, and how many tiles and bundles it wrote."""

    old_size: int
    new_size: int
    files: int


def static_files(log: Log, old_size: int, new_size: int) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) of every tile and bundle that a tree of `new_size` needs and one of `old_size` had not.

    Without the checkpoint, which must be published after all of them.
    """
    if not 0 <= old_size <= new_size <= log.size:
        raise ExportError(f"no files from size {old_size} to {new_size}", code="ledger.export.range")
    if old_size == new_size:
        return
    for name in tiles.names(new_size, None, start=old_size):
        entries = list(log.entries(name.start, name.start + name.width))
        yield name.path, tiles.encode_bundle(entries)
    for level in range(tiles.levels(new_size)):
        before = tiles.level_size(old_size, level)
        if tiles.level_size(new_size, level) == before:
            continue
        for name in tiles.names(new_size, level, start=before):
            yield name.path, log.tile(level, name.n, name.width)


def export(
    log: Log, directory: Path, checkpoint_note: bytes | None = None, *, policy: Policy | None = None
) -> Exported:
    """Bring `directory` up to `checkpoint_note` (by default the log's own, without cosignatures)."""
    # 1. The checkpoint is this log's.
    vkey = note.parse_vkey(log.vkey)
    data = log.checkpoint() if checkpoint_note is None else checkpoint_note
    head = checkpoint.verify(data, vkey)
    if head.size > log.size or log.root_at(head.size) != head.root:
        raise ExportDivergedError("the checkpoint is not one of this log")
    try:
        return _brought_up(log, directory, data, head, policy)
    except OSError as error:
        raise ExportError(
            f"cannot export to {directory}: {os.strerror(error.errno or 0)}",
            remedy="Choose a folder that this user may write.",
        ) from None


def _brought_up(log: Log, directory: Path, data: bytes, head: Checkpoint, policy: Policy | None) -> Exported:
    # 2. So is what lies in the directory.
    old_size = _exported_size(log, directory)
    if old_size > head.size:
        raise ExportDivergedError(f"the directory is at size {old_size} already")
    # 3. The tiles, then what names them.
    count = 0
    for count, (path, content) in enumerate(static_files(log, old_size, head.size), 1):
        _write(directory / path, content, durable=count <= _SYNC_FROM)
    if count > _SYNC_FROM:
        os.sync()
    _write(directory / VKEY, f"{log.vkey}\n".encode())
    if policy is not None:
        _write(directory / POLICY, policy.serialise())
    _write(directory / CHECKPOINT, data)
    # 4. Partial tiles that a full one replaced are no longer needed.
    _prune(directory, old_size, head.size)
    return Exported(old_size, head.size, count)


def _exported_size(log: Log, directory: Path) -> int:
    path = directory / CHECKPOINT
    if not path.exists():
        if directory.is_dir() and any(directory.iterdir()):
            raise ExportError(
                f"{directory} holds something else than an export", remedy="Choose an empty folder."
            )
        return 0
    found = checkpoint.verify(path.read_bytes(), note.parse_vkey(log.vkey))
    if found.size > log.size or log.root_at(found.size) != found.root:
        raise ExportDivergedError("the directory holds a checkpoint that this log does not contain")
    return found.size


def _prune(directory: Path, old_size: int, new_size: int) -> None:
    for level in (None, *range(tiles.levels(new_size))):
        total = tiles.level_size(old_size, level or 0)
        if total % WIDTH and tiles.level_size(new_size, level or 0) // WIDTH > total // WIDTH:
            full = directory / TileName(level, total // WIDTH).path
            partial = full.with_name(f"{full.name}.p")
            for item in partial.iterdir() if partial.is_dir() else ():
                item.unlink()
            if partial.is_dir():
                partial.rmdir()


def _write(target: Path, data: bytes, *, durable: bool = True) -> None:
    """Write beside, fsync, rename: a reader sees the old bytes or the new ones."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=target.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        Path(beside).chmod(0o644)
        Path(beside).replace(target)
    except OSError:
        Path(beside).unlink(missing_ok=True)
        raise
