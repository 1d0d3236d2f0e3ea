"""Reads a log from its static files, believing none of them.

Everything is checked against a root that the caller trusts (a verified checkpoint's):

    the rightmost tile of every level    together they lead to the root
    any full tile                        its root is the hash that the tile above holds for it
    an entry                             its leaf hash is the one in its level-0 tile

Where the bytes come from is the caller's `fetch` (a folder, an exchange, HTTP): path -> bytes, or None.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TypeAlias

from ledger import tiles, tree
from ledger.checkpoint import Checkpoint
from ledger.encoding import HASH_BYTES
from ledger.errors import InputError, VerificationError
from ledger.tile_tree import TileTree
from ledger.tiles import WIDTH, TileName
from ledger.tree import Hash, leaf_hashes

Fetch: TypeAlias = Callable[[str], bytes | None]
_CACHED_TILES = 256


class MissingFileError(InputError):
    code = "ledger.reader.missing"


class TileMismatchError(VerificationError):
    code = "ledger.reader.tile"


class EntryMismatchError(VerificationError):
    code = "ledger.reader.entry"


class ReadRangeError(InputError):
    code = "ledger.reader.range"


class TileReader:
    """Static files of one log, read at any of its sizes."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._trees: OrderedDict[tuple[int, Hash], VerifiedTree] = OrderedDict()

    def at(self, size: int, root: Hash) -> VerifiedTree:
        """The tree of `size` leaves under `root`, its right edge verified."""
        known = self._trees.get((size, root))
        if known is None:
            known = self._trees[size, root] = VerifiedTree(self._fetch, size, root)
            if len(self._trees) > 4:
                self._trees.popitem(last=False)
        return known

    def at_checkpoint(self, checkpoint: Checkpoint) -> VerifiedTree:
        """The same, for a checkpoint whose signatures were verified."""
        return self.at(checkpoint.size, checkpoint.root)

    def entries(self, start: int, end: int, size: int, *, root: Hash) -> Iterator[bytes]:
        """Entries [start, end) of the tree of `size` under `root`, each verified."""
        return self.at(size, root).entries(start, end)

    def inclusion_proof(self, index: int, size: int, *, root: Hash) -> tuple[Hash, ...]:
        return self.at(size, root).inclusion_proof(index)

    def consistency_proof(self, old: int, size: int, *, root: Hash) -> tuple[Hash, ...]:
        return self.at(size, root).consistency_proof(old)


class VerifiedTree:
    """One tree head, through its tiles. Every method verifies what it returns, or raises."""

    def __init__(self, fetch: Fetch, size: int, root: Hash) -> None:
        self._fetch, self.size, self.root = fetch, size, root
        self._verified: OrderedDict[tuple[int, int], list[Hash]] = OrderedDict()
        self._edge = TileTree.restore(size, self._raw_tile).partial
        self._summits: dict[tuple[int, int], Hash] = {}
        """The perfect subtrees of [0, size), each within a partial tile: every proof needs some of them."""
        for height, index in tree.cover(0, size):
            level, inner = divmod(height, tiles.HEIGHT)
            first = (index << inner) % WIDTH
            self._summits[height, index] = tree.perfect_root(self._edge[level][first : first + (1 << inner)])
        if (tree.fold(list(self._summits.values())) if size else tree.EMPTY_ROOT) != root:
            raise TileMismatchError(f"the rightmost tiles do not lead to the root of size {size}")

    def tile(self, level: int, n: int) -> list[Hash]:
        """The hashes of a tile of this tree."""
        total = tiles.level_size(self.size, level)
        if not 0 <= n * WIDTH < total:
            raise ReadRangeError(f"a tree of size {self.size} has no tile {n} at level {level}")
        if (n + 1) * WIDTH > total:
            return self._edge[level]
        known = self._verified.get((level, n))
        if known is None:
            known = tiles.split(self._raw_tile(level, n, WIDTH), WIDTH)
            if tree.perfect_root(known) != self.tile(level + 1, n // WIDTH)[n % WIDTH]:
                raise TileMismatchError(f"tile {n} of level {level} is not the one under the root")
            self._verified[level, n] = known
            if len(self._verified) > _CACHED_TILES:
                self._verified.popitem(last=False)
        return known

    def entry(self, index: int) -> bytes:
        return next(self.entries(index, index + 1))

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        """Entries [start, end), a bundle in memory at a time."""
        if not 0 <= start <= end <= self.size:
            raise ReadRangeError(f"no entries {start} to {end} in a tree of size {self.size}")
        return self._entries(start, end)

    def _entries(self, start: int, end: int) -> Iterator[bytes]:
        for name in tiles.names(self.size, None, start=start):
            if name.start >= end:
                return
            bundle = read_bundle(self._fetch, name)
            leaves = zip(bundle, leaf_hashes(bundle), self.tile(0, name.n), strict=True)
            for index, (entry, found, expected) in enumerate(leaves, name.start):
                if found != expected:
                    raise EntryMismatchError(f"entry {index} is not the one under the root")
                if start <= index < end:
                    yield entry

    def root_at(self, size: int) -> Hash:
        """The root that this log had at a smaller size."""
        if not 0 <= size <= self.size:
            raise ReadRangeError(f"size {size} is not within the tree of size {self.size}")
        return tree.range_root(0, size, self._nodes())

    def inclusion_proof(self, index: int) -> tuple[Hash, ...]:
        """Made from tiles that nobody checked, then checked itself, which costs a hash a level, not a tile's."""
        within = tiles.node_reader(self._unchecked_tile, self.size)

        def nodes(height: int, index: int) -> Hash:
            known = self._summits.get((height, index))
            return within(height, index) if known is None else known

        proof = tree.inclusion_proof(index, self.size, nodes)
        tree.verify_inclusion(nodes(0, index), index, self.size, proof, self.root)
        return proof

    def consistency_proof(self, old: int) -> tuple[Hash, ...]:
        return tree.consistency_proof(old, self.size, self._nodes())

    def _nodes(self) -> tree.NodeReader:
        return tiles.node_reader(self._checked_tile, self.size)

    def _checked_tile(self, level: int, n: int, width: int) -> bytes:
        return b"".join(self.tile(level, n)[:width])

    def _unchecked_tile(self, level: int, n: int, width: int) -> bytes:
        """A tile that was checked already, else as it comes."""
        if n == tiles.level_size(self.size, level) // WIDTH:
            return b"".join(self._edge[level][:width])
        known = self._verified.get((level, n))
        return self._raw_tile(level, n, width) if known is None else b"".join(known[:width])

    def _raw_tile(self, level: int, n: int, width: int) -> bytes:
        return read_tile(self._fetch, TileName(level, n, width))


def read_tile(fetch: Fetch, name: TileName) -> bytes:
    """The bytes of a tile; for a partial one that is gone, the beginning of the full one."""
    data = fetch(name.path)
    if data is None and name.width < WIDTH:
        whole = fetch(TileName(name.level, name.n).path)
        data = None if whole is None else whole[: name.width * HASH_BYTES]
    if data is None:
        raise MissingFileError(f"{name.path} is missing")
    return data


def read_bundle(fetch: Fetch, name: TileName) -> list[bytes]:
    """The entries of a bundle; for a partial one that is gone, the first ones of the full one."""
    data = fetch(name.path)
    if data is not None:
        return tiles.parse_bundle(data, name.width)
    whole = fetch(TileName(None, name.n).path) if name.width < WIDTH else None
    if whole is None:
        raise MissingFileError(f"{name.path} is missing")
    return tiles.parse_bundle(whole, WIDTH)[: name.width]


def reading_order(size: int) -> Iterator[str]:
    """The files that reading every entry of a tree asks for, in order: each bundle, then its tile."""
    for name in tiles.names(size, None):
        yield name.path
        yield TileName(0, name.n, name.width).path
