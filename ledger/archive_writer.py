"""Writes a static export as one .tar.gz, the same bytes for the same checkpoint wherever and whenever it is made.

Holds what the checkpoint needs and nothing else, in a fixed order, with no owner and no time. How archives are
read lives in `ledger.archive`.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ledger import checkpoint, note, tiles
from ledger.archive import Archive
from ledger.errors import CodedError, InputError
from ledger.export import CHECKPOINT, POLICY, VKEY
from ledger.log import Log
from ledger.reader import MissingFileError
from ledger.static_files import StaticFiles


class ArchiveTargetError(InputError):
    code = "ledger.archive.target"


def require_target(target: Path, log: Log) -> None:
    """Raise if a file is there that is anything else than an earlier archive of the same log."""
    try:
        if not os.path.lexists(target):
            return
        if target.is_file() and _is_gzip(target):
            with Archive(target) as files:
                data = files.read(CHECKPOINT)
                if data is not None:
                    head = checkpoint.verify(data, note.parse_vkey(log.vkey))
                    if head.size <= log.size and log.root_at(head.size) == head.root:
                        return
    except (OSError, CodedError):
        pass  # whatever it is, it is not for us to replace
    raise ArchiveTargetError(
        f"{target} exists and is no archive of this ledger", remedy="Choose another --archive."
    )


def write_archive(files: StaticFiles, target: Path) -> None:
    """Write the archive, whole or not at all."""
    data = files.read(CHECKPOINT)
    if data is None:
        raise MissingFileError(f"{CHECKPOINT} is missing")
    try:
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".", delete=False) as beside:
            try:
                with (
                    gzip.GzipFile(filename="", mode="wb", fileobj=beside, mtime=0) as packed,
                    tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
                ):
                    for name, content in _needed(files, data):
                        member = tarfile.TarInfo(name)
                        member.size, member.mode = len(content), 0o644
                        tar.addfile(member, io.BytesIO(content))
                Path(beside.name).chmod(0o644)
                Path(beside.name).replace(target)
            except BaseException:
                Path(beside.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ArchiveTargetError(
            f"cannot write {target}: {os.strerror(error.errno or 0)}", remedy="Choose another --archive."
        ) from None


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _needed(files: StaticFiles, data: bytes) -> Iterator[tuple[str, bytes]]:
    yield CHECKPOINT, data
    for name in (VKEY, POLICY):
        content = files.read(name)
        if content is not None:
            yield name, content
    size = checkpoint.parse(data)[0].size
    for level in (*range(tiles.levels(size)), None):
        for tile in tiles.names(size, level):
            content = files.read(tile.path)
            if content is None:
                raise MissingFileError(f"{tile.path} is missing")
            yield tile.path, content
