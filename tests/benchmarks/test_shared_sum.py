"""What a shared sum of 20 sites' updates costs each party, beside numpy's sum of the same arrays.

Figures of one process on one core, medians of alternating runs; the aim for the three aggregators together is 0.1 s.
"""

from __future__ import annotations

import statistics
import time
import tracemalloc
from typing import Final

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from privacy.packing import Packing
from tests.privacy.shared_scheme import SharedScheme, context, random_lanes

LANES: Final = 1_000_000
SITES: Final = 20
ROUNDS: Final = 5


@pytest.mark.benchmark(group="shared sum")
@pytest.mark.parametrize("aggregators", [2, 3])
@pytest.mark.parametrize("lane_bits", [16, 22])
def test_a_shared_sum_of_a_million_lanes(
    benchmark: BenchmarkFixture, aggregators: int, lane_bits: int
) -> None:
    packing = Packing(lane_bits=lane_bits, maximum_sites=SITES)
    times: dict[str, list[float]] = {"protect": [], "answer": [], "open": [], "numpy": []}
    scheme = SharedScheme.of(context(SITES), lane_count=LANES, aggregators=aggregators, packing=packing)
    lanes = random_lanes(scheme, count=LANES, limit=packing.site_limit)
    rows = list(lanes.values())
    for number in range(ROUNDS):
        scheme = SharedScheme.of(
            context(SITES, round_number=number + 1),
            lane_count=LANES,
            aggregators=aggregators,
            packing=packing,
        )
        start = time.perf_counter()
        reports = scheme.reports(lanes)
        protected = time.perf_counter()
        answers = scheme.answers(reports, of=scheme.aggregators)
        answered = time.perf_counter()
        opened = scheme.coordinator.open(reports, answers)
        done = time.perf_counter()
        exact = np.sum(rows, axis=0)
        times["numpy"].append(time.perf_counter() - done)
        times["protect"].append((protected - start) / SITES)
        times["answer"].append(answered - protected)
        times["open"].append(done - answered)
        assert (opened == exact).all()
    tracemalloc.start()
    one = SharedScheme.of(context(SITES), lane_count=LANES, aggregators=aggregators, packing=packing)
    report = one.sites["site-07"].protect(lanes["site-07"])
    extra = tracemalloc.get_traced_memory()[1] - len(report.update)
    tracemalloc.stop()
    benchmark.pedantic(lambda: scheme.coordinator.open(reports, answers), rounds=1)
    middle = {what: statistics.median(found) for what, found in times.items()}
    print(
        f"\nshared sum, {LANES:,} lanes of {lane_bits} bits x {SITES} sites, {aggregators} aggregators:"
        f" protect {middle['protect'] * 1e3:.1f} ms a site;"
        f" all aggregators together {middle['answer'] * 1e3:.0f} ms (aim 100 ms,"
        f" {middle['answer'] / middle['numpy']:.1f} of numpy's sum);"
        f" open {middle['open'] * 1e3:.0f} ms ({middle['open'] / middle['numpy']:.1f} of numpy's sum,"
        f" {middle['numpy'] * 1e3:.0f} ms); {len(report.update):,} bytes a report,"
        f" {extra / 1e6:.1f} MB of memory beyond it"
    )
    benchmark.extra_info["aggregators_ms"] = middle["answer"] * 1e3
    benchmark.extra_info["ratio_to_numpy"] = middle["answer"] / middle["numpy"]
