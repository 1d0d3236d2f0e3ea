"""Tiles and entry bundles (c2sp.org/tlog-tiles): how a tree and its entries are laid out in files.

    tile/<L>/<N>[.p/<W>]         hashes, 32 bytes each, of width W = 1..255 when partial, else 256
    tile/entries/<N>[.p/<W>]     the same entries: ( u16 big-endian length || entry ) * W

    <N>  1234067 is written x001/x234/067
    the n-th tile at level l holds MTH(D[(n*256+i) * 256^l : (n*256+i+1) * 256^l]) for i = 0..255

The width of the rightmost tile at level l of a tree of size s is floor(s / 256^l) mod 256; empty tiles do
not exist. What verifies tiles against a root lives in `reader` and `verify`, not here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ledger import tree
from ledger.encoding import HASH_BYTES
from ledger.errors import InputError
from ledger.event import check_entry_size
from ledger.tree import Hash

HEIGHT = 8
WIDTH = 1 << HEIGHT
TileReader: TypeAlias = Callable[[int, int, int], bytes]  # (level, n, width) -> that many hashes

_LENGTH = struct.Struct(">H").unpack_from
_PATH = re.compile(r"tile/(0|[1-9]\d?|entries)/((?:x\d{3}/)*\d{3})(?:\.p/([1-9]\d{0,2}))?", re.ASCII)


class TilePathError(InputError):
    code = "ledger.tile.path"


class MalformedTileError(InputError):
    code = "ledger.tile.malformed"


class MalformedBundleError(InputError):
    code = "ledger.bundle.malformed"


@dataclass(frozen=True, slots=True, order=True)
class TileName:
    """Which tile. `level` is None for an entry bundle."""

    level: int | None
    n: int
    width: int = WIDTH

    @property
    def start(self) -> int:
        """Index of its first hash, within its level."""
        return self.n * WIDTH

    @property
    def path(self) -> str:
        groups = [f"{self.n % 1000:03d}"]
        rest = self.n // 1000
        while rest:
            groups.append(f"x{rest % 1000:03d}")
            rest //= 1000
        level = "entries" if self.level is None else str(self.level)
        suffix = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{level}/{'/'.join(reversed(groups))}{suffix}"


def parse_path(path: str) -> TileName:
    """The tile that a path names; every other spelling of it is refused."""
    found = _PATH.fullmatch(path)
    if found is None:
        raise TilePathError("not a tile path")
    level = None if found[1] == "entries" else int(found[1])
    name = TileName(level, int(found[2].replace("/", "").replace("x", "")), int(found[3] or WIDTH))
    if name.path != path or (level or 0) > 63 or (found[3] and name.width >= WIDTH):
        raise TilePathError("not a canonical tile path")
    return name


def level_size(size: int, level: int) -> int:
    """How many hashes level `level` has in a tree of `size` leaves."""
    return size >> HEIGHT * level


def names(size: int, level: int | None, *, start: int = 0) -> Iterator[TileName]:
    """The tiles of one level of a tree of `size`, from the one that holds hash `start` on."""
    total = level_size(size, level or 0)
    for n in range(start // WIDTH, -(-total // WIDTH)):
        yield TileName(level, n, min(WIDTH, total - n * WIDTH))


def levels(size: int) -> int:
    """How many levels of tiles a tree of `size` has."""
    return 0 if size == 0 else (size.bit_length() - 1) // HEIGHT + 1


def split(data: bytes, width: int) -> list[Hash]:
    """The hashes of a tile, whose width must be exactly `width`."""
    if len(data) != width * HASH_BYTES:
        raise MalformedTileError(f"a tile of width {width} has {width * HASH_BYTES} bytes, not {len(data)}")
    return [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)]


def node_reader(read: TileReader, size: int) -> tree.NodeReader:
    """Read any perfect subtree of a tree of `size` out of its tiles, each of which is read once."""
    known: dict[tuple[int, int], list[Hash]] = {}

    def node(height: int, index: int) -> Hash:
        level, inner = divmod(height, HEIGHT)
        first, count = index << inner, 1 << inner
        n, offset = divmod(first, WIDTH)
        width = min(WIDTH, level_size(size, level) - n * WIDTH)
        if offset + count > width:
            raise tree.ProofRangeError(f"the tree of size {size} has no node {index} at height {height}")
        hashes = known.get((level, n))
        if hashes is None:
            hashes = known[level, n] = split(read(level, n, width), width)
        return tree.perfect_root(hashes[offset : offset + count])

    return node


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    parts = []
    for entry in entries:
        check_entry_size(entry)
        parts += [struct.pack(">H", len(entry)), entry]
    return b"".join(parts)


def parse_bundle(data: bytes, width: int) -> list[bytes]:
    """Exactly `width` entries and not a byte more."""
    entries, at, size = [], 0, len(data)
    try:
        for _ in range(width):
            start = at + 2
            at = start + _LENGTH(data, at)[0]
            entries.append(data[start:at])
    except struct.error:
        at = size + 1
    if at > size:
        raise MalformedBundleError("the entry bundle ends early", code="ledger.bundle.truncated")
    if at != size:
        raise MalformedBundleError("bytes follow the last entry", code="ledger.bundle.trailing")
    return entries
