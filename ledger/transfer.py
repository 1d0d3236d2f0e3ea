"""A whole log copied from one store into another: from a file into a database that it outgrew, or back.

The copy grows in chunks under states that no key signed, which no log opens; the source's signed state comes
with the last chunk. A transfer that was cut short goes on where it stopped. Whoever calls sees to it that
nobody appends to the source from then on: two stores that both grow are a fork.
"""

from __future__ import annotations

from ledger import tree
from ledger.encoding import HASH_BYTES
from ledger.log import Log
from ledger.storage import (
    Batch,
    LogState,
    Storage,
    StorageCorruptError,
    StorageExistsError,
    StorageMissingError,
)
from ledger.tile_tree import TileTree
from ledger.tree import EMPTY_ROOT

_CHUNK = 4096
_UNSIGNED = b""


def transfer(source: Storage, target: Storage) -> None:
    """Copy; StorageExistsError if the target holds anything but the beginning of this very transfer."""
    # 1. The source is a log.
    Log.open(source)
    state = source.load()
    if state is None:
        raise StorageMissingError("there is no log in this store")
    # 2. The target is empty, or was left half way.
    begun = target.load()
    if begun is None:
        empty = LogState(state.origin, state.vkey, 0, EMPTY_ROOT, _UNSIGNED)
        begun = empty if state.size else state
        target.create(begun)
    elif (begun.origin, begun.vkey, begun.checkpoint) != (state.origin, state.vkey, _UNSIGNED):
        raise StorageExistsError("the other store holds a log already")
    # 3. What is there already is the beginning of the source.
    grown = TileTree.restore(begun.size, lambda level, n, width: source.tile(level, n)[: width * HASH_BYTES])
    if grown.root() != begun.root or begun.size > state.size:
        raise StorageExistsError("the other store holds the beginning of another log")
    # 4. The rest, and with the last of it the signed state, whose root the entries must lead to.
    while begun.checkpoint == _UNSIGNED:
        entries = source.entries(begun.size, min(begun.size + _CHUNK, state.size))
        changed = grown.extend(tree.leaf_hashes(entries))
        if not entries or (grown.size == state.size and grown.root() != state.root):
            raise StorageCorruptError("the stored entries do not lead to the signed root")
        reached = LogState(state.origin, state.vkey, grown.size, grown.root(), _UNSIGNED)
        reached = state if grown.size == state.size else reached
        target.commit(Batch(begun, reached, entries, changed))
        begun = reached
