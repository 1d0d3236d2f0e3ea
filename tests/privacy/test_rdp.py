"""One use of each mechanism against the same formula in another arithmetic, and against its definition."""

from __future__ import annotations

import math
from decimal import Decimal
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import rdp
from privacy.accounting import ORDERS, curve
from privacy.mechanisms import DiscreteGaussian, Gaussian, Laplace, RandomisedResponse


def _exact_laplace(scale: float, order: int) -> mpmath.mpf:
    b = mpmath.mpf(scale)
    near = mpmath.mpf(order) / (2 * order - 1) * mpmath.exp((order - 1) / b)
    far = mpmath.mpf(order - 1) / (2 * order - 1) * mpmath.exp(-order / b)
    return mpmath.log(near + far) / (order - 1)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 1e6), st.integers(1, 10**8), st.sampled_from(ORDERS))
def test_laplace_is_rounded_up_and_by_less_than_two_micro_units(scale: float, count: int, order: int) -> None:
    with mpmath.workdps(120):
        exact = _exact_laplace(scale, order) * count * 1_000_000
        ours = curve(Laplace(scale=scale, count=count)).at(order)
        assert exact <= ours <= exact + 1 + mpmath.mpf(10) ** -20
        # Before micro-units too: the directed rounding itself.
        bound = mpmath.mpf(str(rdp.one_use(Laplace(scale=scale, count=1))[ORDERS.index(order)]))
        assert exact / count / 1_000_000 <= bound


@pytest.mark.parametrize("scale", [0.01, 0.7, 1.0, 33.0, 1e6])
def test_laplace_costs_no_more_than_its_pure_epsilon_and_more_at_every_higher_order(scale: float) -> None:
    cost = curve(Laplace(scale=scale, count=1_000)).rdp_micro
    assert all(a <= b for a, b in pairwise(cost))
    assert cost[-1] <= math.ceil(1_000 / scale * 1e6)


def test_laplace_is_the_divergence_of_two_laplace_distributions() -> None:
    """Table II's formula against the integral that defines the divergence, order 3, shift 1, scale 1.5."""
    with mpmath.workdps(30):
        b = mpmath.mpf("1.5")

        def density(x: mpmath.mpf, shift: int) -> mpmath.mpf:
            return mpmath.exp(-abs(x - shift) / b) / (2 * b)

        moment = mpmath.quad(
            lambda x: density(x, 1) ** 3 / density(x, 0) ** 2, [-mpmath.inf, 0, 1, mpmath.inf]
        )
        assert curve(Laplace(scale=1.5, count=1)).at(3) == int(mpmath.ceil(mpmath.log(moment) / 2 * 10**6))


def test_laplace_in_one_coordinate_is_the_worst_case_of_one_l1_sensitivity() -> None:
    """A patient who moves two coordinates by a half each costs no more than one who moves one by one."""
    for scale in (0.05, 0.5, 5.0):
        whole = rdp.one_use(Laplace(scale=scale, count=1))
        half = rdp.one_use(Laplace(scale=2 * scale, count=1))
        assert all(2 * b <= a for a, b in zip(whole, half, strict=True))


@pytest.mark.parametrize("sigma", [0.3, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("shift", [1, 2, 3])
def test_a_discrete_gaussian_diverges_no_more_than_is_charged(sigma: float, shift: int) -> None:
    """The bound that theorem 14 promises, held against sums over the lattice themselves."""
    x = np.arange(-2_000, 2_001, dtype=np.float64)

    def log_mass(mean: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        exponent = -((x - mean) ** 2) / (2 * sigma**2)
        return exponent - np.logaddexp.reduce(exponent)

    charged = curve(DiscreteGaussian(noise_multiplier=sigma / shift, count=1))
    for order in (2, 3, 8, 64):
        moment = np.logaddexp.reduce(order * log_mass(shift) - (order - 1) * log_mass(0))
        assert moment / (order - 1) * 1e6 <= charged.at(order) * (1 + 1e-12)


@given(st.floats(0.05, 1e6), st.integers(1, 1_000))
def test_a_discrete_gaussian_is_charged_like_a_continuous_one(sigma: float, count: int) -> None:
    assert curve(DiscreteGaussian(noise_multiplier=sigma, count=count)) == curve(
        Gaussian(noise_multiplier=sigma, count=count)
    )


def _exact_response(epsilon: float, order: int) -> mpmath.mpf:
    """Mironov 2017, table II, as it stands there: of the two answers' probabilities, not of their quotient."""
    p = mpmath.exp(mpmath.mpf(epsilon)) / (1 + mpmath.exp(mpmath.mpf(epsilon)))
    moment = p**order * (1 - p) ** (1 - order) + (1 - p) ** order * p ** (1 - order)
    return mpmath.log(moment) / (order - 1)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.01, 20.0), st.integers(1, 10**8), st.sampled_from(ORDERS))
def test_a_randomised_response_is_rounded_up_and_by_less_than_two_micro_units(
    epsilon: float, count: int, order: int
) -> None:
    # 1 - p is e^-20 at the least, of which a power of 1023 is taken.
    with mpmath.workdps(200):
        exact = _exact_response(epsilon, order) * count * 1_000_000
        ours = curve(RandomisedResponse(epsilon=epsilon, count=count)).at(order)
        assert exact <= ours <= exact + 1 + mpmath.mpf(10) ** -20
        once = rdp.one_use(RandomisedResponse(epsilon=epsilon, count=1))[ORDERS.index(order)]
        assert exact / count / 1_000_000 <= mpmath.mpf(str(once))


@given(st.floats(0.01, 20.0))
def test_an_answer_costs_no_more_than_its_epsilon_and_more_at_every_higher_order(epsilon: float) -> None:
    cost = curve(RandomisedResponse(epsilon=epsilon, count=1)).rdp_micro
    assert all(a <= b for a, b in pairwise(cost))
    assert cost[-1] <= math.ceil(Decimal(epsilon) * 10**6)


def test_golden_micro_units() -> None:
    """A change here changes what every existing ledger says."""
    assert curve(Laplace(scale=1.0, count=1)).rdp_micro[:4] == (619_124, 746_829, 813_690, 853_079)
    assert curve(Laplace(scale=0.01, count=1)).at(2) == 99_594_535
    assert curve(Laplace(scale=1e6, count=10**8)).rdp_micro[:3] == (100, 150, 200)
    assert curve(DiscreteGaussian(noise_multiplier=2.0, count=3)).rdp_micro[:2] == (750_000, 1_125_000)
    told = curve(RandomisedResponse(epsilon=3.0, count=1)).rdp_micro
    assert (*told[:3], told[-1]) == (2_951_537, 2_975_707, 2_983_805, 2_999_953)
