"""A disk that fills up under the log: a small filesystem of its own, and a limit on the file's size."""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess

import pytest

from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.sqlite import SqliteStorage
from ledger.storage import StorageFailedError
from ledger.verify_database import verify_database

SIGNER = MemorySigner("log", seed=b"log")
BATCH = 100


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small filesystem cannot be mounted here (it takes root and CAP_SYS_ADMIN)")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def batch(log):
    return [b"entry %d " % number + b"x" * 500 for number in range(log.size, log.size + BATCH)]


def judge(path, acknowledged):
    assert verify_database(path, events="skip").size == acknowledged
    storage = SqliteStorage(path)
    log = Log.open(storage, signer=SIGNER)
    assert [int(entry.split()[1]) for entry in log.entries(0, log.size)] == list(range(acknowledged))
    storage.close()


def test_a_full_disk_refuses_the_batch_and_loses_nothing(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(600_000))
    path = small_disk / "ledger.db"
    storage = SqliteStorage(path)
    log = Log.create(storage, origin="ledger.example/full", signer=SIGNER)
    acknowledged = 0
    with pytest.raises(StorageFailedError) as caught:
        while True:
            log.append(batch(log))
            acknowledged = log.size
    assert caught.value.code == "ledger.storage.full"
    assert "Free space" in caught.value.remedy
    assert acknowledged >= 2 * BATCH and log.size == acknowledged
    # 1. While the disk is full: what was acknowledged is all there, and more is refused again.
    judge(path, acknowledged)
    with pytest.raises(StorageFailedError):
        log.append(batch(log))
    judge(path, acknowledged)
    # 2. With space again: the same log goes on.
    ballast.unlink()
    log.append(batch(log))
    assert log.size == acknowledged + BATCH
    storage.close()
    judge(path, acknowledged + BATCH)


def test_a_process_that_ends_on_a_full_disk_leaves_a_log_that_opens(small_disk):
    path = small_disk / "ledger.db"
    fork = multiprocessing.get_context("fork")
    acknowledged = fork.Value("i", 0, lock=False)
    child = fork.Process(target=_append_until_refused, args=(path, acknowledged))
    child.start()
    child.join(60)
    assert child.exitcode == 7 and acknowledged.value > 0
    judge(path, acknowledged.value)


def test_a_file_at_its_limit_refuses_the_batch_and_loses_nothing(tmp_path):
    """Where nothing can be mounted: the write itself fails."""
    path = tmp_path / "ledger.db"
    fork = multiprocessing.get_context("fork")
    acknowledged = fork.Value("i", 0, lock=False)
    child = fork.Process(target=_append_until_refused, args=(path, acknowledged, 400_000))
    child.start()
    child.join(60)
    assert child.exitcode == 7 and acknowledged.value > 0
    judge(path, acknowledged.value)


def _append_until_refused(path, acknowledged, limit=None):
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    log = Log.create(SqliteStorage(path), origin="ledger.example/full", signer=SIGNER)
    try:
        while True:
            log.append(batch(log))
            acknowledged.value = log.size
    except StorageFailedError as error:
        os._exit(7 if error.remedy and log.size == acknowledged.value else 8)
