"""A private training step beside the same step without privacy, and beside Opacus' two ways: time and peak memory.

Steps of the four ways take turns in one process, medians: by the wall clock on four threads, and by processor time on
one, which others on the machine hardly touch. Memory is each way's own in a fresh process (`private_step`). Aims: at
most 1.3 times the time and 1.5 times the memory of the step that is not private.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from tests.benchmarks import private_step
from tests.benchmarks.private_step import NETWORKS, WAYS, Step

AIM_TIME, AIM_MEMORY = 1.3, 1.5
CLOCKS = {4: time.perf_counter, 1: time.thread_time}
TURNS = {4: 9, 1: 5}


def seconds(run: Step, clock: Callable[[], float]) -> float:
    begun = clock()
    run()
    return clock() - begun


def peak_mib(name: str, way: str) -> float:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.private_step", name, way],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return float(done.stdout.split()[-1]) if done.returncode == 0 else float("nan")


@pytest.mark.benchmark(group="private step")
@pytest.mark.parametrize("threads", [4, 1])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_private_step(benchmark: BenchmarkFixture, name: str, threads: int) -> None:
    torch.set_num_threads(threads)
    runs: dict[str, Step] = {}
    failed: dict[str, str] = {}
    for way in WAYS:
        run = private_step.step(name, way)
        try:
            run()
            runs[way] = run
        except Exception as error:
            if way in ("not private", "ours"):
                raise
            failed[way] = type(error).__name__
    taken: dict[str, list[float]] = {way: [] for way in runs}
    began = os.getloadavg()[0]
    for _ in range(TURNS[threads]):
        for way, run in runs.items():
            taken[way].append(seconds(run, CLOCKS[threads]))
    benchmark.pedantic(runs["ours"], rounds=1)
    memory = {way: peak_mib(name, way) for way in runs}
    plain = statistics.median(taken["not private"])
    print(f"\n{name}, threads {threads}, load {began:.1f} to {os.getloadavg()[0]:.1f}")
    for way in WAYS:
        if way in failed:
            print(f"  {way:<12} fails: {failed[way]}")
            continue
        median = statistics.median(taken[way])
        ratios = [one / other for one, other in zip(taken[way], taken["not private"], strict=True)]
        print(
            f"  {way:<12} {median * 1e3:8.0f} ms {median / plain:5.2f}x (pairs {statistics.median(ratios):.2f}x)"
            f" {memory[way]:8.0f} MiB {memory[way] / memory['not private']:5.2f}x"
        )
    print(f"  aims {AIM_TIME}x time, {AIM_MEMORY}x memory")
