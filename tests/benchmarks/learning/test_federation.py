"""The noise that the tables claim is on what they measure."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tasks.planning import read_plan
from tasks.train import networks
from tasks.train.examples import Examples
from tests.benchmarks.learning import chest_xray
from tests.benchmarks.learning.federation import centralised, derived, trained
from tests.benchmarks.learning.study import pooled

SITES = 4


def _sites() -> list[Examples]:
    draw = np.random.default_rng(0)
    images = draw.random((SITES, 6, 1, 28, 28)).astype(np.float32)
    return [Examples(each, np.arange(6, dtype=np.float32) % 2, np.arange(6)) for each in images]


@pytest.mark.parametrize(
    ("noise", "central", "times"),
    [("local", True, 1.0), ("distributed", False, math.sqrt(4 / 3)), ("local", False, 2.0)],
    ids=["central", "distributed", "local"],
)
def test_a_step_carries_the_noise_of_its_plan(noise: str, central: bool, times: float) -> None:
    """Of three shares that count there are four; local noise is added whole by each of four sites."""
    plan = read_plan(chest_xray.PLAN).with_fields({"rounds": 1})
    plan = derived(plan, training={"noise": noise}, update={"clip_l2": 64.0})
    sites, run = (_sites(), plan) if not central else ([pooled(_sites())], centralised(plan))
    first, second = (networks.flatten(trained(run, sites, seed=0)).astype(np.float64) for _ in range(2))
    terms = plan.training
    claimed = terms.noise_multiplier * terms.clip_l2 * terms.learning_rate / terms.nominal_batch_patients
    assert float((first - second).std()) / math.sqrt(2) == pytest.approx(times * claimed / SITES, rel=0.05)
