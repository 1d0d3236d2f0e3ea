"""Attacks on real X-rays with and without clusters, and what the medians cost beside numpy's way in the same run.

The table of docs/robustness.md. Data: PneumoniaMNIST, shuffled into equal shares; three seeds. Without the defence
all sites are averaged and no bound is checked.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Final, get_args

import numpy as np
import numpy.typing as npt
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from privacy.robust_aggregation import combined_mean, cosine_scores_micro, geometric_median, gram
from tests.poisoning import CHEST, Attack, Defence, Outcome, Setting, chest, simulate

SEEDS: Final = 3
LANES: Final = 1_000_000
NOISES: Final = (0.0, 8.0)
SITES: Final = {1: 12, 2: 20}


def outcomes(hostile: int, attack: Attack, defence: Defence, noise: float) -> list[Outcome]:
    train, test = chest()
    return [
        simulate(
            Setting(
                sites=SITES[hostile],
                hostile=hostile,
                attack=attack,
                defence=defence,
                noise_multiplier=noise,
                seed=seed,
            ),
            train,
            test,
        )
        for seed in range(SEEDS)
    ]


def share(found: list[set[int]], among: set[int]) -> float:
    """How many of the clusters of `among` were found in a round, on average."""
    return sum(len(one & among) for one in found) / (len(found) * max(1, len(among)))


@pytest.mark.benchmark(group="poisoning")
@pytest.mark.skipif(not CHEST.exists(), reason="the X-rays are not on this machine")
@pytest.mark.parametrize("hostile", [1, 2])
def test_attacks_with_and_without_clusters(benchmark: BenchmarkFixture, hostile: int) -> None:
    print(f"\n{hostile} hostile of {SITES[hostile]} sites; accuracy / AUC / backdoor, mean of {SEEDS} seeds")

    def table() -> None:
        for noise in NOISES:
            for attack in get_args(Attack):
                cells = []
                for defence in get_args(Defence):
                    made = outcomes(hostile, attack, defence, noise)
                    figures = [
                        statistics.mean(getattr(one, name) for one in made)
                        for name in ("accuracy", "auc", "backdoor")
                    ]
                    cells.append(" / ".join(f"{figure:.3f}" for figure in figures))
                    if defence == "median":
                        proven = statistics.mean(share(one.proven, one.spoilt) for one in made)
                        suspected = statistics.mean(share(one.suspected, one.spoilt) for one in made)
                        clean = sum(len(each - one.spoilt) for one in made for each in one.suspected)
                told = f"proven {proven:.0%}, suspected {suspected:.0%}, clean suspected {clean}"
                print(f"| {noise:g} | {attack} | {' | '.join(cells)} | {told} |")

    benchmark.pedantic(table, rounds=1)


@pytest.mark.benchmark(group="poisoning")
@pytest.mark.parametrize("count", [3, 5, 12])
def test_medians_and_scores_beside_numpy(benchmark: BenchmarkFixture, count: int) -> None:
    rng = np.random.default_rng(1)
    sums = [rng.integers(-(2**20), 2**20, LANES).astype(np.int32) for _ in range(count)]
    sizes, scale = [4] * count, 1234.5

    def seconds(call: Callable[[], object]) -> float:
        start = time.process_time()
        call()
        return time.process_time() - start

    def plain() -> npt.NDArray[np.float64]:
        return np.asarray(np.median(np.stack(sums) / scale / 4.0, axis=0))

    rounds = [
        (
            seconds(lambda: combined_mean(sums, sizes, scale)),
            seconds(plain),
            seconds(lambda: geometric_median(sums, sizes, scale)),
            seconds(lambda: cosine_scores_micro(gram(sums))),
        )
        for _ in range(5)
    ]
    benchmark.pedantic(lambda: combined_mean(sums, sizes, scale), rounds=3)
    median, beside, geometric, scores = (statistics.median(column) for column in zip(*rounds, strict=True))
    np.testing.assert_allclose(combined_mean(sums, sizes, scale), plain(), rtol=1e-12, atol=1e-9)
    print(
        f"\n{count} clusters of {LANES:,} lanes: median {median:.3f} s ({median / beside:.2f} of numpy's"
        f" {beside:.3f} s), geometric {geometric:.3f} s, scores {scores:.3f} s"
    )
    benchmark.extra_info["ratio_to_numpy"] = median / beside
