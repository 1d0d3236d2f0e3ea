"""What a masked sum costs a site, and what it costs to sum and unmask, beside what nobody can do without: AES in
counter mode over as many bytes as the masks have, and numpy's sum of the same lanes.

Lanes are of 32 bits, the widest. Aims: 20 sites of a million lanes 0.03 s a site and 0.05 s to sum and unmask, at
most twice the keystream; 125 million lanes 2 s a site. One core. Sums run where there is memory for all updates.
"""

from __future__ import annotations

import os
import statistics
import time
import tracemalloc
from dataclasses import replace
from typing import Final

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from privacy.masked_sum import MaskedSum
from privacy.masking.keystream import CHUNK_BYTES, Keystream
from privacy.packing import Lanes, Packing
from privacy.protected_sum import Report
from privacy.sum_context import SumContext
from tests.privacy.masking.rosters import Sites, sites

GIBIBYTE: Final = 1 << 30


def lanes_of(packing: Packing, count: int) -> Lanes:
    limit = packing.site_limit
    return np.random.default_rng(0).integers(-limit, limit + 1, count, dtype=np.int32)


def keystream_s(size: int, *, streams: int) -> float:
    """Seconds for AES-CTR alone over `size` bytes of each of so many streams."""
    buffer = np.empty(CHUNK_BYTES, dtype=np.uint8)
    begun = time.perf_counter()
    for number in range(streams):
        stream = Keystream(number.to_bytes(32, "big"))
        for start in range(0, size, CHUNK_BYTES):
            stream.fill(buffer[: min(CHUNK_BYTES, size - start)])
    return time.perf_counter() - begun


def plain_sum_s(lanes: Lanes, *, count: int) -> float:
    begun = time.perf_counter()
    total = np.zeros_like(lanes)
    for _ in range(count):
        total += lanes
    return time.perf_counter() - begun


def protected(
    told: Sites, context: SumContext, packing: Packing, lanes: Lanes
) -> tuple[MaskedSum, Report, float]:
    """The first site's end, its report and the seconds that it took."""
    secrets = told.secrets(told.names[0], context=context)
    end = MaskedSum(context, packing, len(lanes), secrets=secrets)
    begun = time.perf_counter()
    report = end.protect(lanes)
    return end, report, time.perf_counter() - begun


def peak_bytes(told: Sites, context: SumContext, packing: Packing, lanes: Lanes) -> int:
    """The most memory that protecting takes at a time, the update included."""
    tracemalloc.start()
    protected(told, context, packing, lanes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def memory_for(lanes: int, count: int) -> None:
    """Skip where the updates of all sites do not fit beside what is needed to make and add them."""
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    needed = 4 * lanes * (count + 4) + GIBIBYTE
    if available < needed:
        pytest.skip(f"takes {needed / GIBIBYTE:.0f} GiB of free memory")


CASES: Final = [(1_000_000, 5, 9), (1_000_000, 20, 9), (25_000_000, 20, 3), (125_000_000, 20, 1)]


@pytest.mark.benchmark(group="masked sum, a site")
@pytest.mark.parametrize(("lane_count", "count", "rounds"), CASES)
def test_protecting(benchmark: BenchmarkFixture, lane_count: int, count: int, rounds: int) -> None:
    memory_for(lane_count, 1)
    told, packing = sites(count), Packing(lane_bits=32, maximum_sites=count)
    lanes = lanes_of(packing, lane_count)
    took: list[float] = []
    ratios: list[float] = []
    sent: list[int] = []
    streams = count  # One self mask, and one for each other site.

    def once() -> None:
        context = replace(told.context, attempt=len(took))
        _, report, seconds = protected(told, context, packing, lanes)
        alone = keystream_s(4 * lane_count, streams=streams)
        took.append(seconds)
        ratios.append(seconds / alone)
        sent.append(len(report.update) + len(report.shares))

    benchmark.pedantic(once, rounds=rounds, warmup_rounds=1)
    peak = peak_bytes(told, replace(told.context, attempt=len(took)), packing, lanes)
    print(
        f"\n{lane_count:,} lanes, {count} sites: protect {statistics.median(took):.4f} s a site,"
        f" {statistics.median(ratios):.2f} of the keystream alone; {sent[0] / 1e6:.2f} MB sent,"
        f" {sent[0] / (4 * lane_count):.4f} of the lanes; peak memory beside the lanes {peak / 1e6:.0f} MB"
    )


@pytest.mark.benchmark(group="masked sum, opening")
@pytest.mark.parametrize("gone", [0, 2])
@pytest.mark.parametrize(("lane_count", "count", "rounds"), CASES)
def test_opening(benchmark: BenchmarkFixture, lane_count: int, count: int, rounds: int, gone: int) -> None:
    if count - gone < sites(count).context.least_present:
        pytest.skip("so many may not be gone")
    if gone and lane_count > 25_000_000:
        pytest.skip("the smaller ones show it")
    memory_for(lane_count, count)
    told, packing = sites(count), Packing(lane_bits=32, maximum_sites=count)
    lanes = lanes_of(packing, lane_count)
    ends, reports = {}, {}
    for name in told.names:
        ends[name] = MaskedSum(told.context, packing, lane_count, secrets=told.secrets(name))
        reports[name] = ends[name].protect(lanes)
    left = told.names[gone:]
    closed = {name: reports[name] for name in left}
    begun = time.perf_counter()
    answers = {name: ends[name].answer(closed) for name in left}
    answered_s = (time.perf_counter() - begun) / len(left)
    coordinator = MaskedSum(told.context, packing, lane_count)
    np.testing.assert_array_equal(coordinator.open(closed, answers), lanes * np.int32(len(left)))
    took: list[float] = []
    keystream: list[float] = []
    plain: list[float] = []
    streams = len(left) * (1 + gone)

    def once() -> None:
        begun = time.perf_counter()
        coordinator.open(closed, answers)
        took.append(time.perf_counter() - begun)
        keystream.append(took[-1] / keystream_s(4 * lane_count, streams=streams))
        plain.append(took[-1] / plain_sum_s(lanes, count=len(left)))

    benchmark.pedantic(once, rounds=rounds, warmup_rounds=1)
    print(
        f"\n{lane_count:,} lanes, {count} sites, {gone} gone: sum and unmask {statistics.median(took):.4f} s,"
        f" {statistics.median(keystream):.2f} of the keystream alone, {statistics.median(plain):.1f} of numpy's sum;"
        f" an answer {answered_s * 1e3:.1f} ms, {len(answers[left[0]].unmask):,} bytes"
    )
