"""The tighter epsilon of a fixed set of mechanisms, from their privacy loss distributions (PLD).

Lives here: one figure, shown to people beside the Rényi figure and never used to admit. It is computed in floats by
a library, so two machines may differ in its last digit; and it holds for a set of mechanisms fixed beforehand,
which what a pool admits one after another is not. What admits is `privacy.accounting`.

The library is Google's dp-accounting. Its estimates are pessimistic: losses are rounded so that the result is an
upper bound of the true epsilon (Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022, "Connect the Dots"; for the
discrete Gaussian, Meiser and Mohammadi 2018, "privacy buckets"). Adding or removing one patient.

A discrete Gaussian is taken to change one coordinate by one, as a patient does in a histogram of counts: a
distribution over several coordinates has no single worst case to compute with. Shared noise has a sigma of many
lanes, where a sum of discrete Gaussians is not told apart from the continuous one: it is taken for that.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from privacy import accounting
from privacy.mechanisms import (
    DiscreteGaussian,
    DistributedGaussian,
    Gaussian,
    Laplace,
    Mechanism,
    RandomisedResponse,
    SubsampledGaussian,
)

if TYPE_CHECKING:
    from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution

_THOUSANDTHS: Final = 1_000
_FINEST: Final = 1e-5
_COARSEST: Final = 1e-2
# Losses of one use, and of all together, on at most about so many grid points: a second or two of convolutions.
_POINTS: Final = 200_000
# Sampling less often than this is priced as this often: the library's arithmetic ends somewhere below.
_LEAST_RATE: Final = 1e-12
# The library raises a table's size to the power of the count before it decides anything.
_LARGEST_POWER: Final = 10_000
# Beyond this sigma the lattice is finer than any loss that is told apart here, and its tables only cost time.
_LARGEST_LATTICE_SIGMA: Final = 1_000.0


def pld_epsilon(mechanisms: Iterable[Mechanism], delta: float) -> float:
    """The epsilon of (epsilon, delta)-DP of all `mechanisms` together, rounded up to 0.001.

    Never above the Rényi figure but for this rounding: where the library's estimate is (a delta of 1e-15 is less
    than what it truncates), the Rényi figure is returned, which is an upper bound as well. Takes a fraction of a
    second for a plan, and one or two to import the library on first use. Raises as `privacy.accounting` does for a
    meaningless delta or a cost beyond every meaning.
    """
    uses = tuple(mechanisms)
    renyi = accounting.epsilon_micro(accounting.total(uses), delta) / accounting.MICRO
    if not uses:
        return 0.0
    estimate = _estimate(uses, float(delta), scale=renyi)
    return math.ceil(min(estimate, renyi) * _THOUSANDTHS) / _THOUSANDTHS


def _estimate(uses: tuple[Mechanism, ...], delta: float, *, scale: float) -> float:
    """The library's epsilon, infinite where it has none. `scale` is the order of magnitude of the result."""
    counts = _counts(uses)
    interval = _interval(counts, scale)
    with _silence():
        parts = [_distribution(kind, count, interval) for kind, count in counts.items()]
        whole = parts[0]
        for part in parts[1:]:
            whole = whole.compose(part)
        return float(whole.get_epsilon_for_delta(delta))


_Once: TypeAlias = SubsampledGaussian | Gaussian | DiscreteGaussian | Laplace | RandomisedResponse


def _counts(uses: tuple[Mechanism, ...]) -> Counter[_Once]:
    """How often each mechanism is used once: a plan's rounds collapse into one convolution each."""
    counts: Counter[_Once] = Counter()
    for use in uses:
        match use:
            case (
                SubsampledGaussian(noise_multiplier=sigma, sampling_rate=rate, steps=steps)
                | DistributedGaussian(noise_multiplier=sigma, sampling_rate=rate, steps=steps)
            ):
                counts[SubsampledGaussian(noise_multiplier=sigma, sampling_rate=rate, steps=1)] += steps
            case Gaussian(noise_multiplier=sigma, count=count):
                counts[Gaussian(noise_multiplier=sigma, count=1)] += count
            case DiscreteGaussian(noise_multiplier=sigma, count=count):
                counts[DiscreteGaussian(noise_multiplier=sigma, count=1)] += count
            case Laplace(scale=scale, count=count):
                counts[Laplace(scale=scale, count=1)] += count
            case RandomisedResponse(epsilon=epsilon, count=count):
                counts[RandomisedResponse(epsilon=epsilon, count=1)] += count
    return counts


def _interval(counts: Counter[_Once], scale: float) -> float:
    """A grid on which the loss of one use is resolved and all of it still fits; never finer than needed.

    Coarser grids remain upper bounds, only looser ones.
    """
    losses = [_typical_loss(use) for use in counts]
    wanted = min(_COARSEST, max(_FINEST, min(losses) / 50))
    return max(wanted, scale / _POINTS, max(losses) * 10 / _POINTS)


def _typical_loss(use: _Once) -> float:
    """The order of magnitude of the privacy loss of one use."""
    match use:
        case SubsampledGaussian(noise_multiplier=sigma, sampling_rate=rate):
            return rate * (1 / sigma + 1 / (2 * sigma * sigma))
        case Gaussian(noise_multiplier=sigma) | DiscreteGaussian(noise_multiplier=sigma):
            return 1 / sigma + 1 / (2 * sigma * sigma)
        case Laplace(scale=scale):
            return 1 / scale
        case RandomisedResponse(epsilon=epsilon):
            return epsilon


def _distribution(use: _Once, count: int, interval: float) -> PrivacyLossDistribution:
    from dp_accounting.pld import privacy_loss_distribution as library  # scipy behind it takes a second

    match use:
        case SubsampledGaussian(noise_multiplier=sigma, sampling_rate=rate) if rate < 1:
            once = library.from_gaussian_mechanism(
                sigma, sampling_prob=max(rate, _LEAST_RATE), value_discretization_interval=interval
            )
        case DiscreteGaussian(noise_multiplier=sigma) if sigma <= _LARGEST_LATTICE_SIGMA:
            once = library.from_discrete_gaussian_mechanism(
                sigma, value_discretization_interval=interval, use_connect_dots=True
            )
        case Laplace(scale=scale):
            once = library.from_laplace_mechanism(scale, value_discretization_interval=interval)
        case RandomisedResponse(epsilon=epsilon):
            # The library's parameter is how often the answer is a fair coin, which is right half of the time. A
            # patient may turn the truth over: its REPLACE_ONE, whatever our adjacency.
            lies = 2 / (1 + math.exp(epsilon))
            once = library.from_randomized_response(lies, 2, value_discretization_interval=interval)
        case _:
            # Gaussians composed are one Gaussian of less noise, exactly.
            return library.from_gaussian_mechanism(
                use.noise_multiplier / math.sqrt(count), value_discretization_interval=interval
            )
    return _composed(once, count)


def _composed(once: PrivacyLossDistribution, count: int) -> PrivacyLossDistribution:
    """`count` uses of what `once` is the distribution of."""
    if count <= _LARGEST_POWER:
        return once.self_compose(count)
    many, rest = divmod(count, _LARGEST_POWER)
    whole = _composed(once.self_compose(_LARGEST_POWER), many)
    return whole.compose(once.self_compose(rest)) if rest else whole


@contextmanager
def _silence() -> Iterator[None]:
    """The library remarks on its own numerics, to the root logger and to absl's; numpy on its overflows, which are
    of losses so large that their share is nothing."""
    loggers = [logging.getLogger(name) for name in (None, "absl")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with np.errstate(over="ignore", under="ignore"):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
