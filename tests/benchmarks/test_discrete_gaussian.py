"""Discrete Gaussian noise for a million weights, beside the sampler of joint statistics. Aim: below 1 µs each."""

from __future__ import annotations

import time

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from privacy.discrete_gaussian import discrete_gaussian
from privacy.noise import NoiseStream

COUNT = 1_000_000
FEW = 20_000


@pytest.mark.benchmark(group="discrete-gaussian")
def test_noise_for_a_million_weights(benchmark: BenchmarkFixture) -> None:
    from opendp.domains import atom_domain, vector_domain
    from opendp.measurements import make_gaussian
    from opendp.metrics import l2_distance
    from opendp.mod import enable_features

    with NoiseStream() as stream:
        benchmark.pedantic(lambda: discrete_gaussian(stream, COUNT, bits=20), rounds=5, warmup_rounds=1)
    ours = benchmark.stats.stats.median / COUNT
    enable_features("contrib")
    other = make_gaussian(
        vector_domain(atom_domain(T="i64"), size=FEW), l2_distance(T="f64"), scale=float(2**20)
    )
    began = time.perf_counter()
    other([0] * FEW)
    theirs = (time.perf_counter() - began) / FEW
    print(
        f"\na discrete Gaussian: {ours * 1e6:.2f} µs, OpenDP {theirs * 1e6:.1f} µs, {theirs / ours:.0f} times"
    )
    assert ours < 1e-6
