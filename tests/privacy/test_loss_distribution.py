"""The figure that people see beside ours."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
import time

import pytest

from privacy.accounting import DeltaInvalidError, epsilon_micro, total
from privacy.loss_distribution import pld_epsilon
from privacy.mechanisms import (
    DiscreteGaussian,
    Gaussian,
    Laplace,
    Mechanism,
    RandomisedResponse,
    SubsampledGaussian,
)

PLAN: tuple[Mechanism, ...] = (
    SubsampledGaussian(noise_multiplier=2.4, sampling_rate=0.15, steps=20),
    Gaussian(noise_multiplier=5.0, count=1),
) * 3


def test_a_plan_reads_tighter_than_renyi_and_in_thousandths() -> None:
    figure = pld_epsilon(PLAN, 1e-5)
    assert figure == 2.633
    assert figure < epsilon_micro(total(PLAN), 1e-5) / 1e6


def test_rounds_and_releases_are_the_same_however_they_are_written() -> None:
    together = (
        Gaussian(noise_multiplier=5.0, count=3),
        SubsampledGaussian(noise_multiplier=2.4, sampling_rate=0.15, steps=60),
    )
    assert pld_epsilon(together, 1e-5) == pld_epsilon(PLAN, 1e-5)


def test_a_figure_is_an_upper_bound_of_what_is_known_exactly() -> None:
    # One Laplace release of scale 1/2 is (2, 0)-DP and, at a delta d, exactly 2 + 2 ln(1 - d) (its profile).
    figure = pld_epsilon([Laplace(scale=0.5, count=1)], 1e-3)
    assert 2 + 2 * math.log1p(-1e-3) <= figure <= 2.0
    # Balle and Wang 2018: the exact delta of a Gaussian at the figure is no more than the delta asked for.
    figure = pld_epsilon([Gaussian(noise_multiplier=2.0, count=1)], 1e-5)
    exact = math.erfc((figure * 2 - 0.25) / math.sqrt(2)) / 2 - math.exp(figure) * (
        math.erfc((figure * 2 + 0.25) / math.sqrt(2)) / 2
    )
    assert 0 < exact <= 1e-5
    assert exact >= 0.98e-5


@pytest.mark.parametrize("epsilon", [0.5, 3.0, 8.0])
def test_one_answer_reads_as_its_epsilon_and_a_little_less_where_a_delta_is_allowed(epsilon: float) -> None:
    """The profile of a response is known: delta = (e^epsilon - e^at) / (1 + e^epsilon) at any `at` below."""
    delta = 1e-3
    exact = math.log(math.exp(epsilon) - delta * (1 + math.exp(epsilon)))
    figure = pld_epsilon([RandomisedResponse(epsilon=epsilon, count=1)], delta)
    assert exact <= figure <= min(epsilon, exact + 0.002) + 1e-9
    beside = pld_epsilon([*PLAN, RandomisedResponse(epsilon=epsilon, count=1)], 1e-5)
    assert pld_epsilon(PLAN, 1e-5) < beside <= pld_epsilon(PLAN, 1e-5) + epsilon + 0.002


def test_a_discrete_gaussian_reads_like_a_continuous_one_where_the_lattice_is_fine() -> None:
    discrete = pld_epsilon([DiscreteGaussian(noise_multiplier=50.0, count=100)], 1e-5)
    continuous = pld_epsilon([Gaussian(noise_multiplier=50.0, count=100)], 1e-5)
    assert abs(discrete - continuous) <= 0.002


@pytest.mark.parametrize(
    "mechanism",
    [
        SubsampledGaussian(noise_multiplier=1e6, sampling_rate=5e-324, steps=1),
        SubsampledGaussian(noise_multiplier=0.01, sampling_rate=0.5, steps=1_000),
        SubsampledGaussian(noise_multiplier=1e6, sampling_rate=0.5, steps=10**8),
        SubsampledGaussian(noise_multiplier=2.0, sampling_rate=1.0, steps=100),
        Gaussian(noise_multiplier=1e6, count=1),
        DiscreteGaussian(noise_multiplier=0.01, count=1),
        DiscreteGaussian(noise_multiplier=1_000.0, count=10**8),
        Laplace(scale=0.01, count=3),
        Laplace(scale=1e6, count=10**8),
    ],
)
def test_the_corners_of_every_mechanism_are_read_in_time(mechanism: Mechanism) -> None:
    began = time.process_time()
    figure = pld_epsilon([mechanism], 1e-5)
    assert 0 <= figure <= epsilon_micro(total([mechanism]), 1e-5) / 1e6 + 0.001
    assert time.process_time() - began < 5


def test_where_the_library_has_no_figure_the_renyi_figure_stands() -> None:
    assert pld_epsilon(PLAN, 1e-16) == pytest.approx(epsilon_micro(total(PLAN), 1e-16) / 1e6, abs=0.0011)


def test_nothing_costs_nothing_and_a_meaningless_delta_is_refused() -> None:
    assert pld_epsilon([], 1e-5) == 0.0
    for delta in (0.0, 1.0, math.nan):
        with pytest.raises(DeltaInvalidError):
            pld_epsilon(PLAN, delta)


def test_nothing_is_logged_and_the_levels_are_as_before(caplog: pytest.LogCaptureFixture) -> None:
    levels = [logging.getLogger(name).level for name in (None, "absl")]
    pld_epsilon(PLAN, 1e-5)
    assert caplog.records == []
    assert [logging.getLogger(name).level for name in (None, "absl")] == levels


def test_the_library_is_imported_only_for_a_figure() -> None:
    program = "import sys, privacy.loss_distribution; sys.exit('dp_accounting' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
