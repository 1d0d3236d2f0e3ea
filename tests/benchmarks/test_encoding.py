"""Clipping, encoding and decoding an update of 1, 25 and 125 million float32, and choosing what is sent of it.

Beside a numpy copy of the same array in the same run. Aims: at a million, clip and encode together leave room in
0.03 s a site; at 125 million at most 1.5 GB beside the update, which the last column shows (numpy's own memory as
tracemalloc counts it, in a run of its own).
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from privacy.encoding import Encoding, clip_l2
from privacy.noise import NoiseStream
from privacy.support import gather, scatter, support, support_seed

AIM_MS = 8.0
AIM_BYTES = 1.5e9
KEEP = 0.01


def _seconds(work: Callable[[], object], turns: int) -> float:
    taken = []
    for _ in range(turns):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


@pytest.mark.benchmark(group="encoding")
@pytest.mark.parametrize("millions", [1, 25, 125])
def test_an_update_to_lanes_and_back(benchmark: BenchmarkFixture, millions: int) -> None:
    count, turns = millions * 1_000_000, 21 if millions == 1 else 3
    update = np.random.default_rng(0).standard_normal(count, dtype=np.float32)
    encoding = Encoding(lane_bits=22, bound=8.0, maximum_sites=20)
    clipped, lanes = np.empty_like(update), np.empty(count, dtype=np.int32)
    with NoiseStream() as stream:
        copying = _seconds(lambda: np.copyto(clipped, update), turns)
        words = np.empty(count, dtype=np.uint32)
        drawing = _seconds(lambda: stream.fill(words), turns)
        clipping = _seconds(lambda: clip_l2(update, 8.0, out=clipped), turns)
        encoding_s = _seconds(lambda: encoding.encode(clipped, stream, out=lanes), turns)
        decoded = np.empty_like(update)
        decoding = _seconds(lambda: encoding.decode_sum_into(decoded, lanes, sites=1), turns)
        fresh = _seconds(lambda: encoding.encode(clip_l2(update, 8.0), stream), turns)
        benchmark.pedantic(lambda: encoding.encode(clip_l2(update, 8.0), stream), rounds=1)
        tracemalloc.start()
        encoding.encode(clip_l2(update, 8.0), stream)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    print(f"\n{millions}M float32, one core; a copy takes {copying * 1e3:.2f} ms")
    for what, taken in (
        ("keystream alone, 4 bytes a value", drawing),
        ("clip", clipping),
        ("encode, stochastic rounding", encoding_s),
        ("clip and encode into fresh memory", fresh),
        ("decode a sum", decoding),
    ):
        print(f"  {what:<34} {taken * 1e3:9.2f} ms  {taken / copying:6.1f} copies")
    aim = f" (aim {AIM_MS} ms)" if millions == 1 else ""
    print(
        f"  together {(clipping + encoding_s) * 1e3:.2f} ms{aim}; peak beside the update {peak_bytes / 1e9:.3f} GB"
    )
    if millions == 125:
        print(f"  aim at most {AIM_BYTES / 1e9} GB")
    benchmark.extra_info["encode_s"] = encoding_s
    benchmark.extra_info["peak_bytes"] = peak_bytes


@pytest.mark.benchmark(group="encoding")
@pytest.mark.parametrize("millions", [1, 25, 125])
def test_the_support_of_a_round(benchmark: BenchmarkFixture, millions: int) -> None:
    count, turns = millions * 1_000_000, 9 if millions == 1 else 3
    first = support(count, KEEP, seed=support_seed("00" * 32, 1), previous=None)
    sums = np.random.default_rng(0).integers(-(2**20), 2**20, len(first)).astype(np.int32)
    previous = scatter(sums, first, count)
    seed = support_seed("00" * 32, 2)
    copying = _seconds(lambda: previous.copy(), turns)
    choosing = _seconds(lambda: support(count, KEEP, seed=seed, previous=previous), turns)
    chosen = benchmark.pedantic(lambda: support(count, KEEP, seed=seed, previous=previous), rounds=1)
    gathering = _seconds(lambda: gather(previous, chosen), turns)
    print(
        f"\n{millions}M, keep {KEEP}: choose {choosing * 1e3:.1f} ms ({choosing / copying:.1f} copies),"
        f" gather {gathering * 1e3:.2f} ms"
    )
    benchmark.extra_info["choose_s"] = choosing
