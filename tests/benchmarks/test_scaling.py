"""What a round costs as sites join: seconds, bytes, entries and memory of 3, 8 and 20 in a rehearsal, and 50 sites'
masked sum alone; with a straggler, with dropouts, with uneven data. Ratios are to the three sites of the same run.

Prints the table of docs/benchmarks.md and draws it as `.benchmarks/scaling.svg`. No Prefect, no training to speak of.
"""

from __future__ import annotations

import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import pytest
from matplotlib.figure import Figure
from pytest_benchmark.fixture import BenchmarkFixture

from privacy.packing import Packing
from tests.benchmarks.scaling import Measured, Scenario, measure
from tests.benchmarks.test_masked_sum import lanes_of, protected
from tests.privacy.masking.rosters import Sites, sites

SCENARIOS: Final = (
    Scenario(name="3 sites", sites=3),
    Scenario(name="8 sites", sites=8),
    Scenario(name="20 sites", sites=20),
    Scenario(name="8 sites, one 3 s slower", sites=8, straggler=True),
    Scenario(name="8 sites, two gone", sites=8, absent=2),
    Scenario(name="8 sites, 40 to 400 patients", sites=8, uneven=True),
)
LANES: Final = 1_000_000


@pytest.mark.benchmark(group="scaling")
def test_a_round_as_sites_join(benchmark: BenchmarkFixture) -> None:
    found: dict[str, Measured] = {}

    def play() -> None:
        for scenario in SCENARIOS:
            # One after the other, each in a new process: its peak memory is its own.
            with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
                one = found[scenario.name] = pool.submit(measure, scenario).result()
            print(f"{scenario.name}: {one.wall_s:.2f} s, {one.cpu_s:.2f} s of processors a round", flush=True)

    benchmark.pedantic(play, rounds=1, iterations=1)
    least = found["3 sites"]
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    print(
        f"\na round in a rehearsal, {os.cpu_count()} cores, load {load}; in brackets: times that of three sites"
    )
    print("| | wall, s | processor, s | sent by a site, kB | ledger, kB | memory / sites, MiB | reported |")
    print("|---|---|---|---|---|---|---|")
    for name, one in found.items():
        print(
            f"| {name} | {one.wall_s:.2f} ({one.wall_s / least.wall_s:.1f}) "
            f"| {one.cpu_s:.2f} ({one.cpu_s / least.cpu_s:.1f}) "
            f"| {one.site_bytes / 1e3:.1f} ({one.site_bytes / least.site_bytes:.1f}) "
            f"| {one.ledger_bytes / 1e3:.1f} ({one.ledger_bytes / least.ledger_bytes:.1f}) "
            f"| {one.site_mib:.0f} | {one.reported} |"
        )
    path = Path(".benchmarks") / "scaling.svg"
    path.parent.mkdir(exist_ok=True)
    draw(path, found)
    print(f"plots: {path}")
    assert found["8 sites, two gone"].reported == 6


@pytest.mark.benchmark(group="scaling, sum alone")
@pytest.mark.parametrize("count", [3, 8, 20, 50])
def test_the_masked_sum_alone(benchmark: BenchmarkFixture, count: int) -> None:
    packing, took, sent = Packing(lane_bits=32, maximum_sites=count), list[float](), 0
    lanes = lanes_of(packing, LANES)

    def anew() -> tuple[tuple[Sites], dict[str, object]]:
        return (sites(count),), {}  # the keys of a step protect one report

    def once(told: Sites) -> None:
        nonlocal sent
        _, report, seconds = protected(told, told.context, packing, lanes)
        took.append(seconds)
        sent = len(report.update) + len(report.shares)

    benchmark.pedantic(once, setup=anew, rounds=3, warmup_rounds=1)
    print(f"\n{count} sites, {LANES:,} lanes: {statistics.median(took):.3f} s and {sent / 1e6:.2f} MB a site")


def draw(path: Path, found: dict[str, Measured]) -> None:
    """Wall and processor seconds, bytes and memory against the number of sites."""
    even = {scenario.sites: found[scenario.name] for scenario in SCENARIOS[:3]}
    figure = Figure(figsize=(9.0, 6.0), layout="constrained")
    for axes, (label, values) in zip(
        figure.subplots(2, 2).flat,
        {
            "seconds a round": [(one.wall_s, one.cpu_s) for one in even.values()],
            "kB sent by a site, a round": [(one.site_bytes / 1e3,) for one in even.values()],
            "kB of ledger a round": [(one.ledger_bytes / 1e3,) for one in even.values()],
            "MiB of memory / sites": [(one.site_mib,) for one in even.values()],
        }.items(),
        strict=True,
    ):
        axes.plot(list(even), values, marker="o")
        axes.set_xlabel("sites")
        axes.set_xticks(list(even))
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        if len(values[0]) == 2:
            axes.legend(["wall", "processor"])
    figure.savefig(path, format="svg", metadata={"Date": None})
