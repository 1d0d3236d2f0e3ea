"""A log moved between stores: the same log there, whole, also after a transfer that was cut short."""

from __future__ import annotations

import pytest

from ledger import transfer as module
from ledger.errors import CodedError
from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.memory import MemoryStorage
from ledger.storage import StorageCorruptError, StorageExistsError, StorageFailedError, StorageMissingError
from ledger.transfer import transfer
from tests.ledger.places import KINDS, maker

SIGNER = MemorySigner("log", seed=b"log")
ORIGIN = "ledger.example/moved"


@pytest.fixture(params=KINDS)
def place(request):
    return maker(request.param, request)()


def source_of(count):
    storage = MemoryStorage()
    log = Log.create(storage, origin=ORIGIN, signer=SIGNER)
    log.append([b"entry %d" % number for number in range(count)])
    return storage, log


@pytest.mark.parametrize("count", [0, 1, 256, 700])
def test_the_copy_is_the_log(place, count, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 100)
    source, log = source_of(count)
    target = place.open()
    transfer(source, target)
    copy = Log.open(target, signer=SIGNER, published=log.checkpoint())
    assert copy.checkpoint() == log.checkpoint()
    assert place.verify().size == count
    copy.append([b"and on"])
    with pytest.raises(StorageExistsError):
        transfer(source, target)
    target.close()


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_transfer_that_was_cut_short_is_no_log_and_goes_on(place, at, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 100)
    source, log = source_of(300)
    target = place.open()
    commit, commits = target.commit, []

    def failing(batch):
        commits.append(batch)
        if len(commits) == at:
            raise StorageFailedError("cut short")
        commit(batch)

    monkeypatch.setattr(target, "commit", failing)
    with pytest.raises(StorageFailedError):
        transfer(source, target)
    with pytest.raises(CodedError):
        Log.open(target)
    with pytest.raises(StorageExistsError):
        transfer(another(), target)
    transfer(source, target)
    assert Log.open(target).checkpoint() == log.checkpoint()
    assert place.verify().size == 300
    target.close()


def another():
    storage = MemoryStorage()
    Log.create(storage, origin="ledger.example/another", signer=SIGNER).append([b"x"] * 300)
    return storage


def test_a_source_that_is_not_what_was_signed_is_not_copied(place, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 100)
    source, _ = source_of(300)
    source._entries[150] = b"another"
    target = place.open()
    with pytest.raises(StorageCorruptError):
        transfer(source, target)
    with pytest.raises(CodedError):
        Log.open(target)
    with pytest.raises(StorageMissingError):
        transfer(MemoryStorage(), target)
    target.close()
