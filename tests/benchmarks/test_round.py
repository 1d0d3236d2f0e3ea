"""A warm round of five sites and a model of a million parameters, without training, inside running flows.

Everything else is real: spawned processes, validation, reservations, masks, openings, finality at five witnesses,
MLflow, a private Prefect server. A round's seconds are from its start to the next one's; its registration and its
evidence are recorded beside the next. Prints what the round is made of, with Prefect's share apart. Peers, measured
on four cores: Flower FedAvg 0.24–0.32 s, Flower SecAgg+ 0.66–0.75 s, NVFlare 2.6 s, NVFlare HE 10.4–13.4 s.
"""

from __future__ import annotations

import asyncio
import logging
import os
import statistics
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, PREFECT_LOGGING_LEVEL, temporary_settings
from pytest_benchmark.fixture import BenchmarkFixture

from adapters.prefect_server import PrefectServer
from policies.plan import Plan
from tasks import timing
from tasks.timing import Timing
from tasks.train import networks, weights
from tests.benchmarks.untrained import run_untrained
from tests.consortium import Consortium, tiny_plan

SITES = ("site-a", "site-b", "site-c", "site-d", "site-e")
ROUNDS = 6
COLD = 2  # rounds that still warm caches


def million_parameters() -> Plan:
    """A plan whose Classifier has about a million parameters, and enough budget for its rounds."""
    return tiny_plan(
        rounds=ROUNDS,
        participation={"required": [], "minimum_sites": 3, "deadline_s": 120},
        network={"name": "Classifier", "channels": [112, 232, 368], "strides": [1, 2, 2], "norm_groups": 8},
        training={
            "sampling_rate": 0.01,
            "steps": 1,
            "noise_multiplier": 4.0,
            "clip_l2": 1.0,
            "learning_rate": 0.1,
            "nominal_batch_patients": 10.0,
        },
        evaluation={"bins": 8, "noise_std": 1.0},
        budget={"epsilon_cap": 1e5, "delta": 1e-5},
    )


@pytest.fixture
def prefect(tmp_path: Path) -> Iterator[PrefectServer]:
    os.environ.pop("PREFECT_API_URL", None)
    with PrefectServer(tmp_path / "prefect") as server:
        server.wait()
        for name in ("prefect", "prefect.flow_runs", "prefect.task_runs"):
            logging.getLogger(name).setLevel(logging.WARNING)  # as the command has it
        # Prefect was imported before the server had an address.
        with temporary_settings(
            {PREFECT_API_URL: server.url, PREFECT_HOME: server.home, PREFECT_LOGGING_LEVEL: "ERROR"}
        ):
            yield server


@pytest.mark.benchmark(group="round")
def test_warm_round_of_five_sites(
    benchmark: BenchmarkFixture, prefect: PrefectServer, tmp_path: Path
) -> None:
    plan = million_parameters()
    size = weights.flatten(networks.initial(plan.network, plan.data, 0)).size
    consortium = Consortium.found(
        tmp_path / "federation", sites=SITES, cap=1e5, patients=dict.fromkeys(SITES, 400)
    )
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(plan.to_json()))

    heard: list[Timing] = []
    end = timing.listen(heard.append)
    try:
        seconds = benchmark.pedantic(
            lambda: asyncio.run(run_untrained(consortium, path, plan)),
            rounds=1,
            iterations=1,
        )
    finally:
        end()
    warm = sorted(seconds[COLD:])
    print(f"\n{len(SITES)} sites, {size:,} parameters, {len(warm)} warm rounds, without training")
    print(f"  round: median {statistics.median(warm):.2f} s, best {warm[0]:.2f} s, worst {warm[-1]:.2f} s")
    print(f"  over Flower SecAgg+ (0.66 s): {statistics.median(warm) / 0.66:.1f}x")
    print(breakdown(heard))
    benchmark.extra_info["round_s"] = statistics.median(warm)


def breakdown(heard: list[Timing]) -> str:
    """Median seconds of each step over the warm rounds, and the orchestrator's share of all steps."""
    parts: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for item in heard:
        role = "coordinator" if item.party == "coordinator" else "site"
        parts[role, item.step, item.part].append(item.seconds)
    lines, overhead = [], defaultdict(float)
    for role, step, part in parts:
        if part != "inside":
            continue
        inside, outside = parts[role, step, "inside"], parts[role, step, "outside"]
        extra = statistics.median(outside) - statistics.median(inside)
        overhead[role] += extra * len(inside) / (ROUNDS * (len(SITES) if role == "site" else 1))
        lines.append(
            f"  {role:<12}{step:<20}{statistics.median(inside):8.3f} s  x{len(inside):<4}"
            f"Prefect {extra * 1000:5.1f} ms"
        )
    lines += [f"  Prefect's share of a round, {role}: {share:.3f} s" for role, share in overhead.items()]
    return "\n".join(lines)
