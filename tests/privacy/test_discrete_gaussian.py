"""The sampler against the distribution that it promises, and against another sampler."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from privacy.discrete_gaussian import MAXIMUM_BITS, discrete_gaussian
from privacy.noise import NoiseRequestError, NoiseStream, NoiseStreamError

# As in `test_noise`: each threshold fails a correct sampler less than once in 10^7 runs.
P_VALUE = 1e-8
COUNT = 200_000


def _probabilities(sigma: float, places: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    weights = np.exp(-(np.arange(-40 * sigma - 1, 40 * sigma + 2) ** 2) / (2 * sigma * sigma))
    found: npt.NDArray[np.float64] = (
        np.exp(-(places.astype(float) ** 2) / (2 * sigma * sigma)) / weights.sum()
    )
    return found


@pytest.mark.parametrize("bits", [0, 1, 2, 3, 5])
def test_small_sigmas_have_the_exact_probabilities(bits: int) -> None:
    sigma = 2**bits
    with NoiseStream() as stream:
        samples = discrete_gaussian(stream, COUNT, bits=bits)
    places = np.arange(-4 * sigma, 4 * sigma + 1)
    expected = _probabilities(sigma, places) * COUNT
    seen = np.array([np.count_nonzero(samples == place) for place in places], dtype=float)
    common = expected >= 10
    rest = COUNT - expected[common].sum()
    observed = [*seen[common], COUNT - seen[common].sum()]
    assert stats.chisquare(observed, [*expected[common], rest]).pvalue > P_VALUE


@pytest.mark.parametrize("bits", [6, 12, 20, MAXIMUM_BITS])
def test_large_sigmas_have_the_moments_of_a_gaussian(bits: int) -> None:
    with NoiseStream() as stream:
        samples = discrete_gaussian(stream, COUNT, bits=bits) / 2**bits
    assert abs(samples.mean()) < 6 / math.sqrt(COUNT)
    assert abs(samples.var() - 1) < 6 * math.sqrt(2 / COUNT)
    assert abs(stats.skew(samples)) < 6 * math.sqrt(6 / COUNT)
    assert abs(stats.kurtosis(samples)) < 6 * math.sqrt(24 / COUNT)
    assert abs(np.corrcoef(samples[:-1], samples[1:])[0, 1]) < 6 / math.sqrt(COUNT)
    if bits >= 12:  # finer than the test can tell from a continuous one
        assert stats.kstest(samples, "norm").pvalue > P_VALUE


def test_it_agrees_with_the_sampler_of_opendp() -> None:
    from opendp.domains import atom_domain, vector_domain
    from opendp.measurements import make_gaussian
    from opendp.metrics import l2_distance
    from opendp.mod import enable_features

    enable_features("contrib")
    count, sigma = 20_000, 8
    other = make_gaussian(
        vector_domain(atom_domain(T="i64"), size=count), l2_distance(T="f64"), scale=float(sigma)
    )
    theirs = np.array(other([0] * count), dtype=np.int64)
    with NoiseStream() as stream:
        ours = discrete_gaussian(stream, count, bits=3)
    edges = np.arange(-3 * sigma, 3 * sigma + 1, 2)
    table = [np.histogram(samples, bins=[-1000, *edges, 1000])[0] for samples in (ours, theirs)]
    assert stats.chi2_contingency(table).pvalue > P_VALUE


def test_two_streams_never_draw_the_same_and_the_lowest_bit_is_a_coin() -> None:
    with NoiseStream() as one, NoiseStream() as other:
        a, b = (discrete_gaussian(stream, 10_000, bits=20) for stream in (one, other))
    assert np.count_nonzero(a == b) < 10
    assert abs((a & 1).mean() - 0.5) < 6 * 0.5 / 100
    with pytest.raises(NoiseStreamError):
        discrete_gaussian(one, 1, bits=20)


def test_none_and_impossible_ones() -> None:
    with NoiseStream() as stream:
        assert discrete_gaussian(stream, 0, bits=6).shape == (0,)
        for count, bits in ((-1, 6), (1, -1), (1, MAXIMUM_BITS + 1)):
            with pytest.raises(NoiseRequestError):
                discrete_gaussian(stream, count, bits=bits)
