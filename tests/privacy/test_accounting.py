from __future__ import annotations

import math
import subprocess
import sys
import warnings
from functools import cache
from itertools import product

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant
from opacus.accountants.analysis import rdp as opacus_rdp

from ledger import canonical
from privacy import rdp
from privacy.accounting import (
    LARGEST_MICRO,
    ORDERS,
    CapInvalidError,
    CostTooLargeError,
    Curve,
    CurveInvalidError,
    DeltaInvalidError,
    best_order,
    curve,
    default_order,
    epsilon_micro,
    epsilon_micro_at,
    rdp_cap_micro,
    total,
)
from privacy.mechanisms import Gaussian, SubsampledGaussian

# 7 * 7 * 4 = 196 settings.
GRID = list(
    product(
        (0.4, 0.7, 1.0, 1.5, 3.0, 10.0, 100.0), (1e-4, 1e-3, 0.01, 0.1, 0.3, 0.9, 1.0), (1, 30, 999, 20_000)
    )
)
FLOAT_ORDERS = ORDERS[:-1]
CURVES = st.lists(st.integers(0, 10**12), min_size=len(ORDERS), max_size=len(ORDERS)).map(
    lambda values: Curve(tuple(values))
)


def _subsampled(sigma: float, rate: float, steps: int) -> SubsampledGaussian:
    return SubsampledGaussian(noise_multiplier=sigma, sampling_rate=rate, steps=steps)


def test_the_published_orders_do_not_change() -> None:
    assert ORDERS[:63] == tuple(range(2, 65))
    assert ORDERS[63:] == (72, 80, 96, 112, 128, 160, 192, 256, 384, 512, 1024)


@cache
def _opacus(sigma: float, rate: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """One step's curve by Opacus, at the orders whose binomials fit a float."""
    return np.array(opacus_rdp.compute_rdp(q=rate, noise_multiplier=sigma, steps=1, orders=FLOAT_ORDERS))


def test_curves_lie_on_opacus_and_never_below_it() -> None:
    for sigma, rate, steps in GRID:
        ours = np.array(curve(_subsampled(sigma, rate, steps)).rdp_micro)[: len(FLOAT_ORDERS)]
        theirs = _opacus(sigma, rate) * steps * 1e6
        # Opacus computes in floats: allow it 1e-13 a step and its relative rounding, and 1e-9 at least.
        float_error = np.maximum(1e-3, theirs * 1e-9) + steps * 1e6 * 1e-13
        assert (ours >= theirs - float_error).all(), (sigma, rate, steps)
        assert (ours <= theirs * (1 + 1e-6) + 2 + float_error).all(), (sigma, rate, steps)


def test_epsilon_lies_on_opacus_and_never_below_it() -> None:
    for (sigma, rate, steps), delta in product(GRID, (1e-5, 1e-7)):
        cost = curve(_subsampled(sigma, rate, steps))
        if best_order(cost, delta) not in FLOAT_ORDERS:
            continue
        theirs = _opacus(sigma, rate) * steps
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            epsilon, _ = opacus_rdp.get_privacy_spent(orders=list(FLOAT_ORDERS), rdp=theirs, delta=delta)
        expected = max(0.0, float(epsilon)) * 1e6
        float_error = expected * 1e-9 + steps * 1e6 * 1e-13 + 1e-3
        assert expected - float_error <= epsilon_micro(cost, delta) <= expected * (1 + 1e-6) + 3 + float_error


@pytest.mark.parametrize(("sigma", "rate", "steps"), [(0.7, 0.01, 999), (1.1, 0.1, 300), (20.0, 0.9, 10_000)])
def test_curves_are_the_next_micro_unit_above_the_exact_ones(sigma: float, rate: float, steps: int) -> None:
    """At every order, in another arithmetic with 120 digits: the least upper bound, not merely some bound."""
    with mpmath.workdps(120):
        q, variance = mpmath.mpf(rate), mpmath.mpf(sigma) ** 2
        for order, ours in zip(ORDERS, curve(_subsampled(sigma, rate, steps)).rdp_micro, strict=True):
            moment = mpmath.fsum(
                mpmath.binomial(order, k)
                * (1 - q) ** (order - k)
                * q**k
                * mpmath.exp(k * (k - 1) / (2 * variance))
                for k in range(order + 1)
            )
            exact = mpmath.log(moment) / (order - 1) * steps * 1_000_000
            assert ours == int(mpmath.ceil(exact)), order


def test_before_rounding_to_micro_units_a_cost_is_already_an_upper_bound() -> None:
    """The directed rounding itself, which 50 digits would otherwise hide below every micro-unit."""
    with mpmath.workdps(120):
        for sigma in (0.3, 1.1, 7.7):
            exact = 1 / (2 * mpmath.mpf(sigma) ** 2)
            for order, bound in zip(ORDERS, rdp._gaussian(sigma), strict=True):
                assert exact * order <= mpmath.mpf(str(bound)) <= exact * order * (1 + mpmath.mpf(10) ** -45)
            q = mpmath.mpf(0.1)
            exact = mpmath.log(1 + q**2 * mpmath.expm1(1 / mpmath.mpf(sigma) ** 2))
            bound = mpmath.mpf(str(rdp._subsampled_gaussian(sigma, 0.1)[0]))
            assert exact < bound < exact * (1 + mpmath.mpf(10) ** -40)


def test_offsets_are_the_next_micro_unit_above_the_exact_ones() -> None:
    with mpmath.workdps(120):
        for delta, order in product((1e-3, 1e-5, 1e-12), ORDERS):
            a, d = mpmath.mpf(order), mpmath.mpf(delta)
            exact = mpmath.log((a - 1) / a) - (mpmath.log(d) + mpmath.log(a)) / (a - 1)
            free = epsilon_micro_at(Curve.zero(), delta, order=order)
            assert free == max(0, int(mpmath.ceil(exact * 1_000_000)))


def _prv_epsilon(sigma: float, rate: float, *, steps: int, delta: float) -> float:
    """The upper bound of Gopi, Lee, Wutschitz 2021, at most 0.01 above its own estimate."""
    accountant = PRVAccountant()
    accountant.history = [(sigma, rate, steps)]
    return float(accountant.get_epsilon(delta=delta, eps_error=0.01))


def test_epsilon_is_never_below_the_numerical_accountant() -> None:
    for sigma, rate, steps in product((0.8, 1.1, 3.0), (0.01, 0.3), (10, 300)):
        ours = epsilon_micro(curve(_subsampled(sigma, rate, steps)), 1e-5) / 1e6
        assert ours >= _prv_epsilon(sigma, rate, steps=steps, delta=1e-5) - 0.02


def test_sampling_everybody_costs_what_the_plain_gaussian_costs() -> None:
    assert curve(_subsampled(1.25, 1.0, 7)) == curve(Gaussian(noise_multiplier=1.25, count=7))
    # alpha / (2 sigma^2) by hand, sigma = 2: order 2 costs 1/4.
    assert curve(Gaussian(noise_multiplier=2.0, count=1)).rdp_micro[0] == 250_000


def test_order_two_by_hand() -> None:
    # A_2 = 1 + q^2 (exp(1/sigma^2) - 1); Mironov, Talwar, Zhang 2019.
    for sigma, rate in product((0.5, 1.0, 4.0), (0.01, 0.5)):
        by_hand = 100 * math.log1p(rate**2 * math.expm1(1 / sigma**2)) * 1e6
        got = curve(_subsampled(sigma, rate, 100)).rdp_micro[0]
        assert by_hand - 1e-3 <= got <= by_hand + 1 + 1e-3


@given(st.floats(0.3, 50), st.floats(1e-6, 1), st.integers(1, 5000), st.integers(1, 5000))
def test_splitting_steps_never_saves(sigma: float, rate: float, first: int, second: int) -> None:
    whole = curve(_subsampled(sigma, rate, first + second))
    parts = curve(_subsampled(sigma, rate, first)) + curve(_subsampled(sigma, rate, second))
    assert whole.at_most(parts)
    assert all(b - a <= 1 for a, b in zip(whole.rdp_micro, parts.rdp_micro, strict=True))


@given(CURVES, CURVES, CURVES)
def test_addition_is_exact(a: Curve, b: Curve, c: Curve) -> None:
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + Curve.zero() == a
    assert a + a + a == a.scaled(3)
    assert a.at_most(a + b)
    assert Curve.from_json(canonical.decode(canonical.encode((a + b).to_json()))) == a + b


def test_total_is_one_accountant_for_all_rounds() -> None:
    """The peers' commonest bug is a fresh accountant a round: three rounds then look as cheap as one."""
    one_round = _subsampled(1.1, 0.1, 100)
    evaluation = Gaussian(noise_multiplier=5.0, count=1)
    spent = total((one_round, evaluation) * 3)
    assert spent == curve(one_round).scaled(3) + curve(evaluation).scaled(3)
    assert epsilon_micro(spent, 1e-5) > epsilon_micro(total((one_round, evaluation)), 1e-5)
    assert total(()) == Curve.zero()


def test_a_pinned_order_never_reads_less_than_the_best() -> None:
    cost = curve(_subsampled(1.1, 0.1, 100))
    readings = [epsilon_micro_at(cost, 1e-5, order=order) for order in ORDERS]
    assert min(readings) == epsilon_micro(cost, 1e-5)
    assert readings[ORDERS.index(best_order(cost, 1e-5))] == min(readings)
    with pytest.raises(CurveInvalidError):
        epsilon_micro_at(cost, 1e-5, order=65)


def test_no_cost_reads_as_no_epsilon() -> None:
    assert epsilon_micro(Curve.zero(), 0.1) == 0


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan, math.inf, True])
def test_a_delta_without_meaning_is_refused(delta: float) -> None:
    with pytest.raises(DeltaInvalidError) as refusal:
        epsilon_micro(Curve.zero(), delta)
    assert refusal.value.code == "privacy.delta-invalid"


def test_a_cost_beyond_canonical_json_is_refused() -> None:
    with pytest.raises(CostTooLargeError) as refusal:
        curve(Gaussian(noise_multiplier=0.01, count=10_000_000))
    assert refusal.value.code == "privacy.cost-too-large"
    with pytest.raises(CostTooLargeError):
        Curve((LARGEST_MICRO,) * len(ORDERS)) + Curve((1,) * len(ORDERS))


@pytest.mark.parametrize(
    "change",
    [
        {"orders": list(ORDERS[:-1])},
        {"orders": [float(order) for order in ORDERS]},
        {"rdp_micro": [0] * (len(ORDERS) - 1)},
        {"rdp_micro": [-1] * len(ORDERS)},
        {"rdp_micro": [0.5] * len(ORDERS)},
        {"rdp_micro": [True] * len(ORDERS)},
        {"rdp_micro": "0"},
        {"more": 1},
    ],
)
def test_json_that_is_no_curve_is_refused(change: dict[str, canonical.JsonValue]) -> None:
    with pytest.raises(CurveInvalidError) as refusal:
        Curve.from_json({**Curve.zero().to_json(), **change})
    assert refusal.value.code == "privacy.curve-invalid"


def test_another_process_with_another_decimal_context_gets_the_same_micro_units() -> None:
    here = curve(_subsampled(1.1, 0.1, 300)).rdp_micro
    program = (
        "import decimal; decimal.setcontext(decimal.Context(prec=7, rounding=decimal.ROUND_DOWN));"
        "from privacy.accounting import curve; from privacy.mechanisms import SubsampledGaussian as S;"
        "print(list(curve(S(noise_multiplier=1.1, sampling_rate=0.1, steps=300)).rdp_micro))"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == str(list(here))


def test_golden_micro_units() -> None:
    """A change here changes what every existing ledger says: it needs a new schema version, not a new number."""
    assert curve(_subsampled(1.1, 0.1, 300)).rdp_micro[:4] == (3_830_985, 6_693_413, 10_971_555, 18_789_770)
    assert epsilon_micro(curve(_subsampled(1.1, 0.1, 300)), 1e-5) == 11_495_105


def test_values_and_counts_that_are_no_whole_numbers_are_refused() -> None:
    for value in (True, 1.0, -1):
        with pytest.raises(CurveInvalidError):
            Curve((value,) * len(ORDERS))  # type: ignore[arg-type]
    for count in (True, -1):
        with pytest.raises(CurveInvalidError):
            Curve.zero().scaled(count)


@given(st.integers(0, LARGEST_MICRO), st.sampled_from((1e-9, 1e-5, 1e-3, 0.3, 0.9)), CURVES)
def test_what_fits_the_rdp_cap_is_exactly_what_stays_within_the_epsilon_cap(
    cap: int, delta: float, cost: Curve
) -> None:
    for order in ORDERS[::7]:
        fits = cost.at(order) <= rdp_cap_micro(cap, delta, order=order)
        assert fits == (epsilon_micro_at(cost, delta, order=order) <= cap)


@given(st.integers(0, 10**9), st.sampled_from((1e-9, 1e-5, 0.3)), st.sampled_from(ORDERS))
def test_the_rdp_cap_is_the_largest_cost_that_fits_and_minus_one_where_none_does(
    cap: int, delta: float, order: int
) -> None:
    room = rdp_cap_micro(cap, delta, order=order)

    def cost(micro: int) -> Curve:
        return Curve((micro,) * len(ORDERS))

    assert epsilon_micro_at(cost(room + 1), delta, order=order) > cap
    if room >= 0:
        assert epsilon_micro_at(cost(room), delta, order=order) <= cap
    else:
        assert room == -1


@pytest.mark.parametrize(
    ("cap", "delta"), [(500_000, 1e-5), (3_000_000, 1e-5), (8_000_000, 1e-3), (10**9, 0.3)]
)
def test_the_default_order_admits_the_most_of_a_gaussian(cap: int, delta: float) -> None:
    def admitted(order: int) -> int:
        one = curve(Gaussian(noise_multiplier=10.0, count=1)).at(order)
        return rdp_cap_micro(cap, delta, order=order) // one

    pinned = default_order(cap, delta)
    assert admitted(pinned) == max(map(admitted, ORDERS))


def test_golden_orders() -> None:
    """Pools pin these: a change here changes what every pool admits."""
    assert default_order(3_000_000, 1e-5) == 8
    assert rdp_cap_micro(3_000_000, 1e-5, order=8) == 1_785_890
    # No cap at all: the order whose conversion misses it by the least, and nothing fits.
    assert default_order(0, 1e-5) == 1024
    assert rdp_cap_micro(0, 1e-5, order=1024) == -1


@pytest.mark.parametrize("cap", [-1, True, 1.0, "1", None, 2**53])
def test_a_cap_that_is_no_number_of_micro_units_is_refused(cap: int) -> None:
    with pytest.raises(CapInvalidError) as refusal:
        default_order(cap, 1e-5)
    assert refusal.value.code == "privacy.cap-invalid"
    with pytest.raises(CapInvalidError):
        rdp_cap_micro(cap, 1e-5, order=8)


def test_a_filter_is_given_a_real_delta_and_a_published_order() -> None:
    for delta in (0.0, 1.0, math.nan):
        with pytest.raises(DeltaInvalidError):
            default_order(1, delta)
        with pytest.raises(DeltaInvalidError):
            rdp_cap_micro(1, delta, order=8)
    for order in (1, 65, True):
        with pytest.raises(CurveInvalidError):
            rdp_cap_micro(1, 1e-5, order=order)
        with pytest.raises(CurveInvalidError):
            Curve.zero().at(order)
