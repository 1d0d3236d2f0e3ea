"""Our figures against accountants that other people wrote: Opacus and Google's dp-accounting, RDP, PRV and PLD.

The curves are compared over hundreds of settings, the numerical accountants, which take longer, over dozens.
"""

from __future__ import annotations

import itertools
import math
import warnings
from itertools import product

import numpy as np
import pytest
from dp_accounting import (
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from opacus.accountants import PRVAccountant
from opacus.accountants import RDPAccountant as OpacusRDPAccountant

from privacy.accounting import ORDERS, best_order, curve, epsilon_micro, total
from privacy.mechanisms import Gaussian, Laplace, Mechanism, SubsampledGaussian

DELTA = 1e-5
# The binomials of order 1024 do not fit the floats of either library.
FLOAT_ORDERS = ORDERS[:-1]

SAMPLED = [
    SubsampledGaussian(noise_multiplier=sigma, sampling_rate=rate, steps=steps)
    for sigma, rate, steps in product(
        (0.5, 0.8, 1.3, 2.4, 6.0, 30.0), (1e-3, 0.02, 0.15, 0.6), (1, 60, 3_000)
    )
]
GAUSSIANS = [
    Gaussian(noise_multiplier=sigma, count=count)
    for sigma, count in product((0.3, 0.7, 1.0, 2.0, 5.0, 20.0, 99.5, 1e4), (1, 3, 10, 100, 5_000))
]
LAPLACES = [
    Laplace(scale=scale, count=count)
    for scale, count in product((0.05, 0.3, 1.0, 2.5, 10.0, 77.7, 1e3, 1e5), (1, 3, 10, 100, 5_000))
]
GRID: list[Mechanism] = [*SAMPLED, *GAUSSIANS, *LAPLACES]


def _event(mechanism: Mechanism) -> DpEvent:
    match mechanism:
        case SubsampledGaussian(noise_multiplier=sigma, sampling_rate=rate, steps=steps):
            return SelfComposedDpEvent(PoissonSampledDpEvent(rate, GaussianDpEvent(sigma)), steps)
        case Gaussian(noise_multiplier=sigma, count=count):
            return SelfComposedDpEvent(GaussianDpEvent(sigma), count)
        case Laplace(scale=scale, count=count):
            return SelfComposedDpEvent(LaplaceDpEvent(scale), count)
    raise AssertionError("not in the grid")


def test_the_grid_is_hundreds_of_settings() -> None:
    assert len(GRID) == 152 and len(set(GRID)) == 152


def test_curves_and_epsilons_lie_on_googles_rdp_accountant_and_never_below_it() -> None:
    for mechanism, delta in product(GRID, (DELTA, 1e-8)):
        accountant = RdpAccountant(list(FLOAT_ORDERS))
        accountant.compose(_event(mechanism))
        ours = np.array(curve(mechanism).rdp_micro[: len(FLOAT_ORDERS)])
        theirs = np.array(accountant._rdp) * 1e6
        times = mechanism.steps if isinstance(mechanism, SubsampledGaussian) else mechanism.count
        float_error = np.maximum(1e-3, theirs * 1e-9) + times * 1e6 * 1e-13
        assert (ours >= theirs - float_error).all(), mechanism
        assert (ours <= theirs * (1 + 1e-6) + 1 + float_error).all(), mechanism
        cost = curve(mechanism)
        if best_order(cost, delta) in FLOAT_ORDERS:
            expected = accountant.get_epsilon(delta) * 1e6
            slack = float(float_error.max()) + expected * 1e-9
            assert expected - slack <= epsilon_micro(cost, delta) <= expected * (1 + 1e-6) + 3 + slack, (
                mechanism
            )


def test_several_mechanisms_together_cost_what_google_says() -> None:
    for three in itertools.islice(zip(SAMPLED, GAUSSIANS, LAPLACES, strict=False), 0, 40, 2):
        accountant = RdpAccountant(list(FLOAT_ORDERS))
        for mechanism in three:
            accountant.compose(_event(mechanism))
        cost = total(three)
        if best_order(cost, DELTA) in FLOAT_ORDERS:
            expected = accountant.get_epsilon(DELTA) * 1e6
            assert expected - 1 <= epsilon_micro(cost, DELTA) <= expected * (1 + 1e-6) + 10


def test_epsilons_lie_on_opacus_rdp_accountant_and_never_below_it() -> None:
    for mechanism in SAMPLED:
        cost = curve(mechanism)
        if best_order(cost, DELTA) not in FLOAT_ORDERS:
            continue
        accountant = OpacusRDPAccountant()
        accountant.history = [(mechanism.noise_multiplier, mechanism.sampling_rate, mechanism.steps)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = accountant.get_epsilon(DELTA, alphas=list(FLOAT_ORDERS)) * 1e6
        slack = expected * 1e-9 + mechanism.steps * 1e-7 + 1e-3
        assert expected - slack <= epsilon_micro(cost, DELTA) <= expected * (1 + 1e-6) + 3 + slack


# Where a numerical accountant is quick and its own error small beside the result.
DOZENS: list[Mechanism] = [
    *[
        SubsampledGaussian(noise_multiplier=sigma, sampling_rate=rate, steps=steps)
        for sigma, rate, steps in product((0.8, 2.4, 6.0), (0.02, 0.15, 0.6), (1, 60, 1_000))
    ],
    *[
        Gaussian(noise_multiplier=sigma, count=count)
        for sigma, count in product((0.7, 2.0, 20.0), (1, 3, 100))
    ],
    *[Laplace(scale=scale, count=count) for scale, count in product((0.3, 2.5, 77.7), (1, 3, 100))],
]


def test_epsilon_is_never_below_googles_pld() -> None:
    for mechanism in DOZENS:
        accountant = PLDAccountant(value_discretization_interval=1e-3)
        accountant.compose(_event(mechanism))
        # The library's figure is itself an upper bound, by less than the third digit on this grid.
        pld = accountant.get_epsilon(DELTA)
        ours = epsilon_micro(curve(mechanism), DELTA) / 1e6
        assert ours >= pld * (1 - 1e-3) - 1e-3, mechanism
        # Nor is it far above where the loss is small and often: what is charged is not wasted.
        if isinstance(mechanism, SubsampledGaussian) and mechanism.steps == 1_000 and pld < 5:
            assert ours <= 1.3 * pld + 0.1, mechanism


@pytest.mark.parametrize(
    ("sigma", "rate", "steps"), [(0.8, 0.02, 60), (2.4, 0.15, 60), (6.0, 0.6, 60), (1.3, 0.02, 1_000)]
)
def test_epsilon_is_never_below_the_lower_bound_of_opacus_prv(sigma: float, rate: float, steps: int) -> None:
    accountant = PRVAccountant()
    accountant.history = [(sigma, rate, steps)]
    error = 0.05
    upper = float(accountant.get_epsilon(delta=DELTA, eps_error=error))
    ours = epsilon_micro(
        curve(SubsampledGaussian(noise_multiplier=sigma, sampling_rate=rate, steps=steps)), DELTA
    )
    # Its interval is (estimate - error, estimate + error), of which it returns the upper end.
    assert ours / 1e6 >= upper - 2 * error


def test_a_gaussian_costs_more_than_the_exact_privacy_profile_says() -> None:
    """Balle and Wang 2018, theorem 8: the exact delta of one Gaussian, at the epsilon that we charge."""

    def phi(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    for sigma, delta in product((0.5, 1.0, 3.0, 10.0), (1e-3, 1e-5, 1e-9)):
        epsilon = epsilon_micro(curve(Gaussian(noise_multiplier=sigma, count=1)), delta) / 1e6
        mean = 1 / (2 * sigma)
        exact = phi(mean - epsilon * sigma) - math.exp(epsilon) * phi(-mean - epsilon * sigma)
        assert exact <= delta
