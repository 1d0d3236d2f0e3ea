"""A tree that grows tile by tile: appends leaf hashes, gives the root and the tiles that changed.

Holds only the rightmost, unfinished tile of each level (at most 255 hashes a level), so memory stays flat
however large the log is. The log, the export and the verifier all build on it. No input or output here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from ledger import tiles, tree
from ledger.tiles import WIDTH, TileName
from ledger.tree import EMPTY_ROOT, Hash


class TileTree:
    """`size` leaves so far; `partial[l]` is the rightmost tile at level l, 0 to 255 hashes."""

    __slots__ = ("partial", "size")

    def __init__(self) -> None:
        self.size = 0
        self.partial: list[list[Hash]] = []

    @classmethod
    def restore(cls, size: int, read: tiles.TileReader) -> Self:
        """Continue from the stored partial tiles of `size`. Compare `root()` before trusting it."""
        grown = cls()
        grown.size = size
        for level in range(tiles.levels(size)):
            total = tiles.level_size(size, level)
            width = total % WIDTH
            grown.partial.append(tiles.split(read(level, total // WIDTH, width), width) if width else [])
        return grown

    def extend(self, leaves: Sequence[Hash]) -> dict[TileName, bytes]:
        """Append leaf hashes; return every tile that is new, grown or complete since before."""
        changed: dict[TileName, bytes] = {}
        self.size += len(leaves)
        level, row = 0, list(leaves)
        while row:
            if level == len(self.partial):
                self.partial.append([])
            hashes = self.partial[level] + row
            complete = len(hashes) // WIDTH
            last = tiles.level_size(self.size, level) // WIDTH
            for n in range(complete):
                data = b"".join(hashes[n * WIDTH : (n + 1) * WIDTH])
                changed[TileName(level, last - complete + n)] = data
            row = [tree.perfect_root(hashes[n * WIDTH : (n + 1) * WIDTH]) for n in range(complete)]
            rest = self.partial[level] = hashes[complete * WIDTH :]
            if rest:
                changed[TileName(level, last, len(rest))] = b"".join(rest)
            level += 1
        return changed

    def root(self) -> Hash:
        """Root over all leaves."""
        edge: list[Hash] = []
        for hashes in reversed(self.partial):
            for height, index in tree.cover(0, len(hashes)):
                edge.append(tree.perfect_root(hashes[index << height : (index + 1) << height]))
        return tree.fold(edge) if edge else EMPTY_ROOT

    def fork(self) -> TileTree:
        """An independent copy."""
        copy = TileTree()
        copy.size = self.size
        copy.partial = [list(hashes) for hashes in self.partial]
        return copy
