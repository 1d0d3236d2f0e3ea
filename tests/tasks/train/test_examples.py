"""The example plans: each parses, costs less than its cap, and describes a network that trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policies.cost import epsilon_micro, plan_cost
from policies.plan import Plan
from privacy.noise import NoiseStream
from tasks.planning import read_either
from tasks.train import networks
from tasks.train.examples import Examples
from tasks.train.private import train_private

EXAMPLES = sorted((Path(__file__).parents[3] / "deployments" / "examples").glob("*.yaml"))


TRAINING = [path for path in EXAMPLES if isinstance(read_either(path), Plan)]
"""The others ask for statistics."""


def _plan(path: Path) -> Plan:
    return Plan.from_yaml(path.read_text(encoding="utf-8"), what="plan")


def test_there_are_examples() -> None:
    assert {"chest-xray.yaml", "chest-xray-epsilon-8.yaml", "phantom.yaml"} <= {
        path.name for path in EXAMPLES
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_costs_less_than_its_cap(path: Path) -> None:
    plan = read_either(path)
    assert plan.name == path.stem
    assert epsilon_micro(plan_cost(plan), plan.budget.delta) <= plan.budget.epsilon_cap * 1e6


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_an_example_trains_within_its_update_clip(path: Path, noise: NoiseStream) -> None:
    plan = _plan(path)
    count = 90 if plan.data.target == "label" else 30
    inputs = np.random.default_rng(0).random((count, *plan.data.shape), dtype=np.float32)
    labels = (np.arange(count) % 2).astype(np.float32)
    targets = labels if plan.data.target == "label" else (inputs > 0.9).astype(np.float32)
    module = networks.build(plan.network, plan.data)
    first = networks.initial(plan.network, plan.data, plan.seed)
    networks.load(module, first)
    examples = Examples(inputs, targets, np.arange(count))
    train_private(module, examples, training=plan.training, noise=noise)
    change = networks.flatten(networks.extract(module)) - networks.flatten(first)
    # The clip is a safety: a plan whose ordinary noise passes it would train on clipped noise.
    assert np.linalg.norm(change) < plan.update.clip_l2


def test_the_two_chest_plans_differ_in_noise_alone() -> None:
    tight, loose = (_plan(path) for path in EXAMPLES if path.stem in {"chest-xray", "chest-xray-epsilon-8"})
    if tight.budget.epsilon_cap > loose.budget.epsilon_cap:
        tight, loose = loose, tight
    same = tight.training.model_copy(update={"noise_multiplier": loose.training.noise_multiplier})
    assert same == loose.training
    assert (tight.network, tight.update, tight.evaluation) == (loose.network, loose.update, loose.evaluation)
