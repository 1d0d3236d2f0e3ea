"""A log of a million entries: proofs from cold tiles, full verification, memory; and a witness's thousand entries.

Verification is set against a bare hashlib loop over the same leaves and nodes in the same run. Entries are 96 bytes,
so that hashing does not hide everything else; they are no events, whose signatures would.
"""

from __future__ import annotations

import hashlib
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from ledger import checkpoint, note, tiles, tree
from ledger.checkpoint import Checkpoint
from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.memory import MemoryStorage
from ledger.reader import TileReader
from ledger.tile_tree import TileTree
from ledger.verify import verify_directory
from ledger.witness import Witness
from ledger.witness_storage import SqliteWitnessStorage
from policies.state import FederationState
from tests.policies import assembly, founding

ORIGIN = "ledger.example/benchmark"
SIGNER = MemorySigner(ORIGIN, seed=b"benchmark")
MILLION = 1_000_000
COLD_READS = 200


def entries_of(size: int) -> list[bytes]:
    return [hashlib.sha256(b"%d" % number).digest() * 3 for number in range(size)]


def write_log(folder: Path, entries: list[bytes]) -> Checkpoint:
    """The files of a log over these entries, without a database on the way."""
    grown = TileTree()
    for start in range(0, len(entries), 1 << 16):
        for name, data in grown.extend(tree.leaf_hashes(entries[start : start + (1 << 16)])).items():
            if (
                name.start + name.width == tiles.level_size(len(entries), name.level or 0)
                or name.width == 256
            ):
                _write(folder / name.path, data)
    for name in tiles.names(len(entries), None):
        _write(folder / name.path, tiles.encode_bundle(entries[name.start : name.start + name.width]))
    head = Checkpoint(ORIGIN, grown.size, grown.root())
    _write(folder / "checkpoint", checkpoint.sign(head, SIGNER))
    _write(folder / "log.vkey", f"{note.vkey_of(ORIGIN, SIGNER)}\n".encode())
    return head


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes], Checkpoint]:
    folder, entries = tmp_path_factory.mktemp("million"), entries_of(MILLION)
    return folder, entries, write_log(folder, entries)


def hash_bare(entries: list[bytes]) -> bytes:
    """The root of a tree, by a loop that does nothing else."""
    sha256 = hashlib.sha256
    row = [sha256(b"\x00" + entry).digest() for entry in entries]
    while len(row) > 1:
        above = [sha256(b"\x01" + one + two).digest() for one, two in zip(row[::2], row[1::2], strict=False)]
        row = above + row[len(above) * 2 :]
    return row[0]


def timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


@pytest.mark.benchmark(group="ledger")
def test_full_verification_of_a_million_entries(
    benchmark: BenchmarkFixture, million: tuple[Path, list[bytes], Checkpoint]
) -> None:
    folder, entries, head = million
    assert hash_bare(entries) == head.root
    pairs = [
        (timed(lambda: hash_bare(entries)), timed(lambda: verify_directory(folder, events="skip")))
        for _ in range(5)
    ]
    bare, full = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(one / two for one, two in pairs)
    print(f"\nverification of {MILLION:,} entries: {MILLION / full:,.0f} entries/s")
    print(f"  bare hashlib loop {MILLION / bare:,.0f} entries/s; ratio {ratio:.2f} (aim 0.6)")
    benchmark.extra_info["ratio_to_hashlib"] = ratio
    benchmark.pedantic(lambda: verify_directory(folder, events="skip"), rounds=1)


@pytest.mark.benchmark(group="ledger")
def test_memory_of_verification_stays_flat(
    benchmark: BenchmarkFixture, million: tuple[Path, list[bytes], Checkpoint], tmp_path: Path
) -> None:
    small = tmp_path / "small"
    write_log(small, entries_of(MILLION // 20))
    peaks = [peak_mib(small), benchmark.pedantic(peak_mib, args=(million[0],), rounds=1)]
    print(f"\npeak memory of verification: {peaks[0]:.0f} MiB for 50,000 entries, {peaks[1]:.0f} MiB for 1M")


def peak_mib(folder: Path) -> float:
    """Peak resident memory of `python -m ledger verify` on a folder."""
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['ledger', 'verify', {str(folder)!r}, '--events', 'skip']\n"
        "try:\n    runpy.run_module('ledger', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        # Not getrusage: a child begins with its parent's peak.
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    return int(done.stdout.split()[-2]) / 1024


@pytest.mark.benchmark(group="ledger")
def test_inclusion_proof_from_cold_tiles(
    benchmark: BenchmarkFixture, million: tuple[Path, list[bytes], Checkpoint]
) -> None:
    folder, entries, head = million
    indices = random.Random(7).sample(range(MILLION), COLD_READS)

    def fetch(name: str) -> bytes | None:
        try:
            with (folder / name).open("rb", buffering=0) as file:
                return file.read()
        except FileNotFoundError:
            return None

    def forget(index: int) -> None:
        """Put the tiles of one proof out of the page cache as well."""
        for level in range(tiles.levels(MILLION)):
            n = index >> 8 * (level + 1)
            width = min(256, tiles.level_size(MILLION, level) - n * 256)
            handle = os.open(folder / tiles.TileName(level, n, width).path, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)

    def prove(index: int) -> tuple[bytes, ...]:
        return TileReader(fetch).at_checkpoint(head).inclusion_proof(index)

    print(f"\ninclusion proof from cold tiles, of {MILLION:,} entries, checked against the root (aim 1 ms):")
    for place in ("the page cache", "the disk"):
        seconds = []
        for index in indices:
            if place == "the disk":
                forget(index)
            seconds.append(timed(lambda index=index: prove(index)))  # type: ignore[misc]
            tree.verify_inclusion(tree.leaf_hash(entries[index]), index, MILLION, prove(index), head.root)
        print(
            f"  files from {place}: median {statistics.median(seconds) * 1e3:.2f} ms, "
            f"90% {sorted(seconds)[len(seconds) * 9 // 10] * 1e3:.2f} ms"
        )
    benchmark.pedantic(prove, args=(indices[0],), rounds=20)


@pytest.mark.benchmark(group="ledger")
def test_witness_of_a_thousand_entries(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Reservations, the dearest entries: signature, chain, budget; then the state on disk and the cosignature."""
    said: list[bytes] = []

    class Recorded(FederationState):
        def advance(self, index: int, entry: bytes) -> None:
            super().advance(index, entry)
            said.append(entry)

    told = assembly.Assembly(cap=1e6, state=Recorded(founding.ORIGIN)).reach("consented")
    first = len(said)
    for number in range(1000):
        site = founding.SITES[number % len(founding.SITES)]
        told.say(site, told.reservation(site))
    log = Log.create(MemoryStorage(), origin=founding.ORIGIN, signer=SIGNER)
    log.append(said[:first])
    witness = Witness.create(
        SqliteWitnessStorage(tmp_path / "witness.sqlite"),
        log_vkey=log.vkey,
        signer=MemorySigner("witness", seed=b"witness"),
        gate=FederationState(founding.ORIGIN),
        clock=lambda: 1_700_000_000,
    )
    witness.add_checkpoint(log.witness_request(0), said[:first])
    log.append(said[first:])
    request = log.witness_request(first)
    seconds = benchmark.pedantic(
        lambda: timed(lambda: witness.add_checkpoint(request, said[first:])), rounds=1
    )
    print(f"\na witness checks and cosigns 1,000 budget reservations in {seconds:.2f} s (aim 0.5 s)")
