"""What a hostile site can do to a model, on small synthetic images. X-rays: tests/benchmarks/test_poisoning.py."""

from __future__ import annotations

from functools import lru_cache

import pytest

from tests.poisoning import Attack, Defence, Outcome, Setting, simulate, synthetic

TRAIN, TEST = synthetic(1200, 1), synthetic(400, 2)
SIZES = {1: 12, 2: 20}


@lru_cache
def outcome(hostile: int, attack: Attack, defence: Defence, noise: float = 4.0) -> Outcome:
    setting = Setting(
        sites=SIZES[hostile],
        hostile=hostile,
        attack=attack,
        defence=defence,
        noise_multiplier=noise,
        rounds=6,
        local_steps=5,
        update_clip=0.5,
    )
    return simulate(setting, TRAIN, TEST)


@pytest.mark.parametrize("hostile", [1, 2])
def test_among_honest_sites_the_defence_costs_nothing_that_shows(hostile: int) -> None:
    plain, median = outcome(hostile, "none", "none"), outcome(hostile, "none", "median")
    assert plain.auc > 0.9 and median.auc > plain.auc - 0.02
    assert not any(median.proven) and not any(median.suspected)


@pytest.mark.parametrize("hostile", [1, 2])
def test_a_site_that_ignores_the_clip_ruins_the_plain_mean_and_is_found_and_left_out_by_cluster(
    hostile: int,
) -> None:
    assert outcome(hostile, "beyond", "none").auc < 0.5
    defended = outcome(hostile, "beyond", "median")
    assert defended.auc > outcome(hostile, "none", "none").auc - 0.03
    assert all(proven == defended.spoilt for proven in defended.proven)


@pytest.mark.parametrize("hostile", [1, 2])
def test_a_lie_four_clips_long_is_outvoted_and_its_cluster_is_found(
    hostile: int,
) -> None:
    plain, defended = outcome(hostile, "lying", "none"), outcome(hostile, "lying", "median")
    assert defended.auc > outcome(hostile, "none", "none").auc - 0.05
    assert defended.auc > plain.auc + 0.05
    found = [one | two for one, two in zip(defended.proven, defended.suspected, strict=True)]
    assert sum(bool(one) for one in found) >= 3
    assert all(one <= defended.spoilt for one in found)


@pytest.mark.parametrize("attack", ["label-flip", "sign-flip", "scaled"])
@pytest.mark.parametrize("hostile", [1, 2])
def test_what_stays_within_the_clip_does_little_with_or_without_the_defence(
    hostile: int, attack: Attack
) -> None:
    clean = outcome(hostile, "none", "none").auc
    assert outcome(hostile, attack, "none").auc > clean - 0.06
    assert outcome(hostile, attack, "median").auc > clean - 0.06


def test_a_backdoor_within_the_clip_gets_through_and_nobody_is_suspected() -> None:
    """A limit, told in docs/robustness.md: if this fails because the defence got better, tell that there."""
    median = outcome(1, "backdoor", "median")
    assert median.backdoor > 0.5 and outcome(1, "none", "median").backdoor < 0.1
    assert not any(median.proven) and not any(median.suspected)


def test_a_backdoor_that_is_four_clips_long_is_cut_down_by_the_median() -> None:
    plain, median = outcome(1, "lying-backdoor", "none"), outcome(1, "lying-backdoor", "median")
    clean = outcome(1, "none", "none").backdoor
    assert plain.backdoor > clean + 0.2
    assert median.backdoor < clean + 0.5 * (plain.backdoor - clean)


@pytest.mark.parametrize("attack", ["none", "beyond", "lying"])
def test_the_geometric_median_holds_where_the_coordinate_wise_one_does(attack: Attack) -> None:
    assert outcome(1, attack, "geometric").auc > outcome(1, "none", "none").auc - 0.1
