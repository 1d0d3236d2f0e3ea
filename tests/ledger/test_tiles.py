"""Tiles, their paths and entry bundles (c2sp.org/tlog-tiles)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import tiles, tree
from ledger.errors import InputError
from ledger.event import EntryTooLargeError
from ledger.tile_tree import TileTree
from ledger.tiles import MalformedBundleError, MalformedTileError, TileName, TilePathError


def test_the_paths_of_the_specification():
    assert TileName(0, 1234067).path == "tile/0/x001/x234/067"
    assert TileName(None, 273, 112).path == "tile/entries/273.p/112"


def test_the_tree_of_the_specification():
    def widths(level):
        return [name.width for name in tiles.names(70_000, level)]

    assert widths(0) == [256] * 273 + [112]
    assert widths(None) == [256] * 273 + [112]
    assert widths(1) == [256, 17]
    assert widths(2) == [1]
    assert tiles.levels(70_000) == 3
    assert [[name.width for name in tiles.names(256, level)] for level in (0, 1)] == [[256], [1]]
    assert tiles.levels(256) == 2 and tiles.levels(255) == 1 and tiles.levels(0) == 0


@given(st.one_of(st.none(), st.integers(0, 63)), st.integers(0, 10**12), st.integers(1, 256))
def test_a_path_names_its_tile(level, n, width):
    name = TileName(level, n, width)
    assert tiles.parse_path(name.path) == name


@pytest.mark.parametrize(
    "path",
    ["", "tile", "tile/0", "tile/00/000", "tile/64/000", "tile/0/0", "tile/0/000/000", "tile/0/x000/000",
     "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/", "tile/entry/000",
     "tile/0/x001/x234/067/", "/tile/0/000", "tile/0/٠٠٠", "tile/0/001\n"],
)  # fmt: skip
def test_other_spellings_are_refused(path):
    with pytest.raises(TilePathError):
        tiles.parse_path(path)


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_a_bundle_holds_its_entries(entries):
    data = tiles.encode_bundle(entries)
    assert tiles.parse_bundle(data, len(entries)) == entries
    with pytest.raises(MalformedBundleError):
        tiles.parse_bundle(data + b"\0", len(entries))
    with pytest.raises(MalformedBundleError):
        tiles.parse_bundle(data, len(entries) + 1)
    for cut in range(len(data)):
        with pytest.raises(MalformedBundleError) as caught:
            tiles.parse_bundle(data[:cut], len(entries))
        assert caught.value.code == "ledger.bundle.truncated"


def test_an_entry_over_the_prefix_is_refused():
    assert len(tiles.encode_bundle([b"x" * 65535])) == 65537
    with pytest.raises(EntryTooLargeError):
        tiles.encode_bundle([b"x" * 65536])


def test_a_tile_has_exactly_its_width():
    assert tiles.split(bytes(64), 2) == [bytes(32), bytes(32)]
    for data in (bytes(63), bytes(65), b""):
        with pytest.raises(MalformedTileError):
            tiles.split(data, 2)


@given(st.lists(st.integers(1, 600), min_size=1, max_size=5))
def test_a_tile_tree_gives_every_tile_of_the_specification(batches):
    stored: dict[tuple[int, int], bytes] = {}
    leaves: list[bytes] = []
    grown = TileTree()
    for count in batches:
        batch = [tree.leaf_hash(b"%d" % (len(leaves) + number)) for number in range(count)]
        leaves += batch
        for name, data in grown.extend(batch).items():
            assert len(data) == name.width * 32
            stored[name.level, name.n] = data
        size = len(leaves)
        assert grown.size == size and grown.root() == tree.root_of(leaves)
        wanted = {}
        for level in range(tiles.levels(size)):
            span = 256**level
            for name in tiles.names(size, level):
                starts = range(name.start, name.start + name.width)
                wanted[level, name.n] = b"".join(
                    tree.root_of(leaves[at * span : (at + 1) * span]) for at in starts
                )
        assert stored == wanted
    restored = TileTree.restore(size, lambda level, n, width: stored[level, n][: width * 32])
    assert restored.root() == grown.root()
    restored.extend([bytes(32)])
    assert restored.root() == tree.root_of([*leaves, bytes(32)])


def test_nodes_outside_the_tree_are_refused():
    grown = TileTree()
    stored = grown.extend([bytes(32)] * 3)
    read = tiles.node_reader(lambda level, n, width: stored[TileName(level, n, width)], 3)
    assert read(0, 2) == bytes(32)
    for height, index in ((0, 3), (1, 1), (2, 0)):
        with pytest.raises(InputError):
            read(height, index)
