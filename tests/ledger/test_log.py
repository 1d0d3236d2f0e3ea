"""The log over every store: appends, proofs, two sequencers, rollback."""

from __future__ import annotations

import shutil

import pytest

from ledger import checkpoint, note, tree
from ledger.encoding import HASH_BYTES
from ledger.event import EntryTooLargeError
from ledger.keys import MemorySigner
from ledger.log import IndexRangeError, Log, LogKeyError, OriginError, RolledBackError
from ledger.memory import MemoryStorage
from ledger.sqlite import SqliteStorage
from ledger.storage import StateConflictError, StorageCorruptError, StorageExistsError, StorageMissingError
from tests.ledger.places import KINDS, maker

SIGNER = MemorySigner("log", seed=b"log")
ORIGIN = "ledger.example/plain"


@pytest.fixture(params=["memory", *KINDS])
def storage(request):
    made = MemoryStorage() if request.param == "memory" else maker(request.param, request)().open()
    yield made
    made.close()


def entries(count, start=0):
    return [b"entry %d" % number for number in range(start, start + count)]


@pytest.mark.parametrize("batches", [[1], [255, 1], [256], [257, 1, 600], [3] * 90])
def test_every_batch_gives_the_root_and_proofs_of_the_plain_tree(storage, batches):
    log = Log.create(storage, origin=ORIGIN, signer=SIGNER)
    everything = []
    for count in batches:
        batch = entries(count, len(everything))
        assert log.append(batch) == range(len(everything), len(everything) + count)
        everything += batch
        leaves = [tree.leaf_hash(entry) for entry in everything]
        assert log.root == tree.root_of(leaves)
        head = checkpoint.verify(log.checkpoint(), note.parse_vkey(log.vkey))
        assert (head.origin, head.size, head.root) == (ORIGIN, len(everything), log.root)
    reopened = Log.open(storage, signer=SIGNER)
    assert list(reopened.entries(0, reopened.size)) == everything
    size = log.size
    for index in {0, size // 2, size - 1}:
        tree.verify_inclusion(leaves[index], index, size, reopened.inclusion_proof(index, size), log.root)
        assert reopened.entry(index) == everything[index]
    for old in {0, 1, size // 2, size}:
        old_root = reopened.root_at(old)
        assert old_root == tree.root_of(leaves[:old])
        tree.verify_consistency(old, old_root, size, log.root, reopened.consistency_proof(old, size))
    assert reopened.append([b"more"]) == range(size, size + 1)


def test_an_empty_batch_is_no_append(storage):
    log = Log.create(storage, origin=ORIGIN, signer=SIGNER)
    before = log.checkpoint()
    assert log.append([]) == range(0)
    assert log.checkpoint() == before


def test_an_entry_too_large_is_refused_before_anything_is_written(storage):
    log = Log.create(storage, origin=ORIGIN, signer=SIGNER)
    with pytest.raises(EntryTooLargeError):
        log.append([b"fits", b"x" * 65536])
    assert Log.open(storage).size == 0
    log.append([b"x" * 65535])
    assert log.size == 1


def test_the_second_of_two_sequencers_is_refused(storage):
    first = Log.create(storage, origin=ORIGIN, signer=SIGNER)
    second = Log.open(storage, signer=SIGNER)
    first.append([b"mine"])
    with pytest.raises(StateConflictError):
        second.append([b"theirs"])
    second.refresh()
    second.append([b"theirs"])
    assert list(second.entries(0, 2)) == [b"mine", b"theirs"]


def test_a_log_is_created_once_and_opened_only_if_created(storage):
    with pytest.raises(StorageMissingError):
        Log.open(storage)
    Log.create(storage, origin=ORIGIN, signer=SIGNER)
    with pytest.raises(StorageExistsError):
        Log.create(storage, origin=ORIGIN, signer=SIGNER)


def test_appending_needs_the_log_key(storage):
    Log.create(storage, origin=ORIGIN, signer=SIGNER)
    with pytest.raises(LogKeyError):
        Log.open(storage).append([b"x"])
    with pytest.raises(LogKeyError):
        Log.open(storage, signer=MemorySigner("other"))


@pytest.mark.parametrize("origin", ["", "cosignature/v1", "DSSEv1 4 x", "a b", "a+b", "a\nb"])
def test_origins_that_could_be_mistaken_are_refused(origin):
    with pytest.raises(OriginError):
        Log.create(MemoryStorage(), origin=origin, signer=SIGNER)


def test_ranges_outside_the_log_are_refused(storage):
    log = Log.create(storage, origin=ORIGIN, signer=SIGNER)
    log.append(entries(3))
    for call in (
        lambda: log.entry(3),
        lambda: log.entries(2, 1),
        lambda: log.root_at(4),
        lambda: log.inclusion_proof(0, 4),
        lambda: log.consistency_proof(1, 4),
    ):
        with pytest.raises(IndexRangeError):
            call()


def test_a_rolled_back_store_is_refused(tmp_path):
    storage = SqliteStorage(tmp_path / "ledger.db")
    log = Log.create(storage, origin=ORIGIN, signer=SIGNER)
    log.append(entries(3))
    storage.close()
    shutil.copy(tmp_path / "ledger.db", tmp_path / "old.db")
    log.append(entries(3, 3))
    published = log.checkpoint()
    Log.open(storage, published=published)
    rolled_back = SqliteStorage(tmp_path / "old.db")
    assert Log.open(rolled_back).size == 3  # by itself it is a valid, older log
    with pytest.raises(RolledBackError):
        Log.open(rolled_back, published=published)
    forked = Log.open(rolled_back, signer=SIGNER)
    forked.append([b"another"] * 4)
    with pytest.raises(RolledBackError):
        Log.open(rolled_back, published=published)


def test_stored_tiles_and_state_are_not_believed():
    storage = MemoryStorage()
    log = Log.create(storage, origin=ORIGIN, signer=SIGNER)
    log.append(entries(5))
    tile = storage._tiles[0, 0]
    storage._tiles[0, 0] = tile[:-1] + bytes([tile[-1] ^ 1])
    with pytest.raises(StorageCorruptError):
        Log.open(storage)
    storage._tiles[0, 0] = tile[:-HASH_BYTES]
    with pytest.raises(StorageCorruptError):
        Log.open(storage)


def test_a_commit_reaches_the_disk_before_it_returns(tmp_path):
    storage = SqliteStorage(tmp_path / "ledger.db")
    with storage._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL: fsync at every commit
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    storage.close()


def test_a_store_in_no_folder_is_bad_input(tmp_path):
    with pytest.raises(StorageMissingError):
        SqliteStorage(tmp_path / "nowhere" / "ledger.db")
