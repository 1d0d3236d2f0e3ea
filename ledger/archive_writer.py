"""Writes a static export as one .tar.gz, the same bytes for the same checkpoint wherever and whenever it is made.

Holds what the checkpoint needs and nothing else, in a fixed order, with no owner and no time. How archives are
read lives in `ledger.archive`.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ledger import checkpoint, tiles
from ledger.errors import InputError
from ledger.export import CHECKPOINT, POLICY, VKEY
from ledger.reader import MissingFileError
from ledger.static_files import StaticFiles


class ArchiveTargetError(InputError):
    code = "ledger.archive.target"


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
    except OSError:
        raise ArchiveTargetError(
            "the archive cannot be written", remedy="Choose another --archive."
        ) from None


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
