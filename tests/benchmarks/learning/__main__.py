"""`make bench-learning`: train every case of every task anew, and write the tables into docs/benchmarks.md.

    python -m tests.benchmarks.learning [--only TASK …] [--seeds N] [--processes N] [--no-write]

One line a finished run, with what is left. A task whose data are not beside this checkout is left out by name.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Final

from tests.benchmarks.learning.registry import NEEDED, TASKS, run
from tests.benchmarks.learning.study import Figures, Task
from tests.benchmarks.learning.table import table, written

DOCUMENT: Final = Path(__file__).parents[3] / "docs" / "benchmarks.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.learning")
    parser.add_argument("--only", nargs="*", choices=sorted(TASKS), default=sorted(TASKS))
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--no-write", action="store_true")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before the processes import torch
    chosen: list[tuple[Task, int]] = []
    for name in asked.only:
        if name in NEEDED and not NEEDED[name].exists():
            print(f"{name}: its data are not beside this checkout; left out")
            continue
        task, seeds = TASKS[name]
        chosen.append((task, asked.seeds or seeds))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        found = _all(chosen, Path(scratch), asked.processes)
    for task, seeds in chosen:
        text = table(task, found[task.name], seeds=seeds)
        print(f"\n{text}")
        if not asked.no_write:
            DOCUMENT.write_text(written(DOCUMENT.read_text(), task.name, text))
    print(f"{time.monotonic() - began:.0f} s on {asked.processes} processes")
    return 0


Found = dict[str, dict[str, list[tuple[Figures, float]]]]


def _all(chosen: list[tuple[Task, int]], scratch: Path, processes: int) -> Found:
    """Figures by task, case and seed; data are prepared first, here, as every case of a seed shares them."""
    waiting: dict[Future[tuple[Figures, float]], tuple[str, str, int]] = {}
    found: Found = {}
    began = time.monotonic()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        for task, seeds in chosen:
            cases = task.cases()
            found[task.name] = {case.label: [] for case in cases}
            for seed in range(seeds):
                folder = scratch / task.name / str(seed)
                task.data(folder, cases[0].plan, seed)
                for case in cases:
                    job = pool.submit(run, task.name, case, seed, str(folder))
                    waiting[job] = (task.name, case.label, seed)
        for count, job in enumerate(as_completed(waiting), start=1):
            name, label, seed = waiting[job]
            figures, seconds = job.result()
            found[name][label].append((figures, seconds))
            shown = ", ".join(f"{key} {value:.3f}" for key, value in figures.items())
            print(
                f"[{count}/{len(waiting)}, {time.monotonic() - began:.0f} s] {name}, {label}, seed {seed}: "
                f"{shown} in {seconds:.0f} s",
                flush=True,
            )
    return found


if __name__ == "__main__":
    sys.exit(main())
