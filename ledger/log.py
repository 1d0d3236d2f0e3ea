"""The log: appends entries durably, keeps the tree, signs checkpoints, proves. The sequencer's side.

One process at a time appends (a compare-and-swap on the state row decides); any number may read. The new
checkpoint is signed before the commit and shown to nobody until the commit returned, so no two checkpoints
of one size ever leave. What entries mean is not looked at here, only their size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

from ledger import checkpoint, encoding, note, tiles, tree
from ledger.checkpoint import Checkpoint
from ledger.cosignature import HEADER
from ledger.errors import InputError, VerificationError
from ledger.event import check_entry_size
from ledger.keys import Signer
from ledger.note import VerifierKey
from ledger.storage import Batch, LogState, Storage, StorageCorruptError, StorageMissingError
from ledger.tile_tree import TileTree
from ledger.tree import EMPTY_ROOT, Hash
from ledger.witness_request import encode_request

_READ_CHUNK = 4096


class OriginError(InputError):
    code = "ledger.log.origin"


class LogKeyError(InputError):
    code = "ledger.log.key"


class IndexRangeError(InputError):
    code = "ledger.log.range"


class RolledBackError(VerificationError):
    code = "ledger.log.rolled-back"


class Log:
    """A log in a store. Use `create` or `open`; not safe for several threads at once."""

    def __init__(self, storage: Storage, state: LogState, grown: TileTree, signer: Signer | None) -> None:
        self._storage = storage
        self._state = state
        self._tree = grown
        self._signer = signer

    @classmethod
    def create(cls, storage: Storage, *, origin: str, signer: Signer) -> Self:
        """Begin an empty log; the log key is named by the origin."""
        if origin.startswith((HEADER, "DSSEv1 ")):  # other things that keys sign begin so
            raise OriginError("this origin would look like another signed format")
        try:
            vkey = note.vkey_of(origin, signer)
        except InputError as error:
            raise OriginError(error.public_message) from None
        note_bytes = checkpoint.sign(Checkpoint(origin, 0, EMPTY_ROOT), signer)
        state = LogState(origin, str(vkey), 0, EMPTY_ROOT, note_bytes)
        storage.create(state)
        return cls(storage, state, TileTree(), signer)

    @classmethod
    def open(cls, storage: Storage, *, signer: Signer | None = None, published: bytes | None = None) -> Self:
        """Open an existing log, to read or (with the log key's signer) to append.

        `published` is a checkpoint of this log known from outside: a store that does not contain it was
        rolled back, and is refused.
        """
        state = storage.load()
        if state is None:
            raise StorageMissingError("there is no log in this store")
        # 1. The state is what the log key signed.
        vkey = _checked_state(state)
        # 2. The signer is the log key's.
        if signer is not None and signer.public != vkey.key:
            raise LogKeyError("the signer is not this log's key")
        # 3. The stored tiles lead to the signed root.
        opened = cls(storage, state, _restored(storage, state), signer)
        # 4. Nothing that is published is missing.
        if published is not None:
            seen = checkpoint.verify(published, vkey)
            if seen.size > state.size or opened.root_at(seen.size) != seen.root:
                raise RolledBackError(
                    f"the store of size {state.size} lacks the published checkpoint of size {seen.size}",
                    remedy="Restore a backup that has it. To append to this one would fork the log.",
                )
        return opened

    @property
    def origin(self) -> str:
        return self._state.origin

    @property
    def vkey(self) -> str:
        """The log key as vkey text."""
        return self._state.vkey

    @property
    def size(self) -> int:
        return self._state.size

    @property
    def root(self) -> Hash:
        return self._state.root

    def checkpoint(self) -> bytes:
        """The checkpoint of the current size, a note signed by the log key alone."""
        return self._state.checkpoint

    def refresh(self) -> None:
        """Load what another process appended since."""
        state = self._storage.load()
        if state is None:
            raise StorageMissingError("there is no log in this store")
        if state != self._state:
            _checked_state(state)
            if state.vkey != self._state.vkey or state.size < self._state.size:
                raise RolledBackError("the store went back behind what this process has seen")
            self._tree, self._state = _restored(self._storage, state), state

    def append(self, entries: Sequence[bytes]) -> range:
        """Store a batch; its indices, once it is durable.

        Raises StateConflictError, with nothing stored, if another process appended first: call `refresh`,
        look at what is there, and decide again.
        """
        if self._signer is None:
            raise LogKeyError("this log is open for reading only")
        # 1. Refuse before anything is written.
        for entry in entries:
            check_entry_size(entry)
        if not entries:
            return range(self.size, self.size)
        # 2. Grow a copy of the tree, and sign its head.
        grown = self._tree.fork()
        changed = grown.extend(tree.leaf_hashes(entries))
        head = Checkpoint(self.origin, grown.size, grown.root())
        signed = checkpoint.sign(head, self._signer)
        state = LogState(self.origin, self.vkey, head.size, head.root, signed)
        # 3. Swap the state and store the batch in one durable transaction.
        self._storage.commit(Batch(self._state, state, entries, changed))
        # 4. Only now is it the log.
        first, self._tree, self._state = self.size, grown, state
        return range(first, self.size)

    def entry(self, index: int) -> bytes:
        return next(self.entries(index, index + 1))

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        """Entries [start, end) in order, read in chunks."""
        if not 0 <= start <= end <= self.size:
            raise IndexRangeError(f"no entries {start} to {end} in a log of size {self.size}")
        return self._read(start, end)

    def _read(self, start: int, end: int) -> Iterator[bytes]:
        for at in range(start, end, _READ_CHUNK):
            upto = min(at + _READ_CHUNK, end)
            chunk = self._storage.entries(at, upto)
            if len(chunk) != upto - at:
                raise StorageCorruptError(f"entries are missing from index {at} on")
            yield from chunk

    def tile(self, level: int, n: int, width: int) -> bytes:
        """The first `width` hashes of a tile."""
        return _tile(self._storage, level, n, width)

    def root_at(self, size: int) -> Hash:
        """The root that this log had at `size`."""
        self._check_size(size)
        return tree.range_root(0, size, tiles.node_reader(self.tile, size))

    def inclusion_proof(self, index: int, size: int) -> tuple[Hash, ...]:
        """RFC 6962 inclusion proof of entry `index` in the tree of `size`."""
        self._check_size(size)
        return tree.inclusion_proof(index, size, tiles.node_reader(self.tile, size))

    def consistency_proof(self, old: int, new: int) -> tuple[Hash, ...]:
        """RFC 6962 consistency proof between two sizes of this log."""
        self._check_size(new)
        return tree.consistency_proof(old, new, tiles.node_reader(self.tile, new))

    def witness_request(self, old_size: int) -> bytes:
        """The body of tlog-witness's add-checkpoint, from a witness's size to the current checkpoint."""
        return encode_request(old_size, self.consistency_proof(old_size, self.size), self.checkpoint())

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= self.size:
            raise IndexRangeError(f"the log has not reached size {size}")


def _checked_state(state: LogState) -> VerifierKey:
    vkey = note.parse_vkey(state.vkey)
    head = checkpoint.verify(state.checkpoint, vkey)
    if (head.origin, head.size, head.root) != (state.origin, state.size, state.root):
        raise StorageCorruptError("the stored state is not what the log key signed")
    return vkey


def _restored(storage: Storage, state: LogState) -> TileTree:
    grown = TileTree.restore(state.size, lambda level, n, width: _tile(storage, level, n, width))
    if grown.root() != state.root:
        raise StorageCorruptError("the stored tiles do not lead to the signed root")
    return grown


def _tile(storage: Storage, level: int, n: int, width: int) -> bytes:
    data = storage.tile(level, n)
    if len(data) < width * encoding.HASH_BYTES:
        raise StorageCorruptError(f"tile {n} of level {level} is missing or too short")
    return data[: width * encoding.HASH_BYTES]
