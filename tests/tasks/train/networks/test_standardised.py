"""Standardised weights: what they are, that a step moves the raw ones rightly, and that only those are kept."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from policies.document import MalformedDocumentError
from policies.plan import Plan
from policies.training import Network, Training
from privacy.clipping.clipped_sum import ClippedSum
from privacy.noise import NoiseStream
from tasks.train import networks
from tasks.train.examples import Examples
from tasks.train.networks import ItemNetwork
from tasks.train.networks.standardised import effective
from tasks.train.private import train_private
from tests.plans import tiny_plan
from tests.tasks.train.networks.covered import COVERED, Covered, image_data

DATA = image_data(16, 16)
NETWORK = Network(
    name="Classifier", norm_groups=2, standardised=True, arguments={"channels": [4, 4], "strides": [2, 2]}
)


def built(seed: int = 1) -> ItemNetwork:
    module = networks.loaded(NETWORK, DATA, networks.initial(NETWORK, DATA, seed))
    assert isinstance(module, ItemNetwork)
    return module


def items(count: int) -> torch.Tensor:
    return torch.rand(count, *DATA.shape, generator=torch.Generator().manual_seed(2))


def test_every_channel_has_no_mean_and_one_norm() -> None:
    made = effective(torch.randn(5, 3, 3, 3) * 7 + 2).flatten(1)
    torch.testing.assert_close(made.mean(1), torch.zeros(5), atol=1e-6, rtol=0)
    torch.testing.assert_close(made.norm(dim=1), torch.ones(5), atol=1e-4, rtol=0)


def test_outputs_are_the_same_in_a_step_as_out_of_it() -> None:
    module = built().eval()
    assert module.standardised
    with torch.no_grad():
        outside = module(items(3))
        networks.refresh_all(module)
        torch.testing.assert_close(module(items(3)), outside)


def test_a_step_gives_the_gradient_of_the_raw_weights() -> None:
    """Against autograd through the standardisation, where the clip is so wide that it does nothing."""
    module, plain = built(), built()
    networks.refresh_all(module)
    clipped = ClippedSum(module, clip_l2=1e6)
    clipped.add(items(2), lambda logits: logits.square(), [1, 1])
    sums = clipped.take()
    clipped.close()
    for parameter, part in zip(module.parameters(), sums, strict=True):
        parameter.grad = part.to(parameter.dtype)
    networks.pull_back_all(module)

    raw = {name: plain.classifier.get_parameter(name) for name in plain.standardised}
    weights = {name: effective(value) for name, value in raw.items()}
    centred = (items(2) - items(2).mean(dim=(1, 2, 3), keepdim=True)) / 0.2
    logits = torch.func.functional_call(plain.classifier, weights, (centred,))
    torch.autograd.backward(logits.square().sum())
    for (name, one), other in zip(module.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4, msg=name)
        assert torch.equal(one, other), name


def test_what_is_clipped_stays_clipped_although_it_is_pulled_back_after() -> None:
    """The norm that the budget rests on is of what was summed, and the pull-back comes after the noise."""
    module = built()
    networks.refresh_all(module)
    clipped = ClippedSum(module, clip_l2=0.01)
    clipped.add(items(1), lambda logits: 1000 * logits, [1])
    assert float(torch.cat([part.flatten() for part in clipped.take()]).norm()) <= 0.01 * (1 + 1e-6)
    clipped.close()


def test_raw_weights_alone_are_kept(
    patients: npt.NDArray[np.int64], labels: npt.NDArray[np.int8], training: Training, noise: NoiseStream
) -> None:
    module = built()
    before = networks.extract(module)
    plain = networks.initial(NETWORK.model_copy(update={"standardised": False}), DATA, 1)
    assert all(np.array_equal(plain[name], before[name]) for name in plain) and plain.keys() == before.keys()
    examples = Examples(items(len(patients)).numpy(), labels, patients)
    train_private(module, examples, training=training, noise=noise)
    after = networks.extract(module)
    assert after.keys() == before.keys()
    name = f"classifier.{next(iter(module.standardised))}"
    assert not np.array_equal(after[name], before[name])
    assert not np.allclose(after[name].reshape(len(after[name]), -1).mean(1), 0, atol=1e-4)


def test_out_of_order_is_an_error_not_a_wrong_gradient() -> None:
    module = built().train()
    with pytest.raises(RuntimeError, match="between refresh_all and pull_back_all"):
        module(items(2))
    with pytest.raises(RuntimeError, match="refresh first"):
        networks.pull_back_all(module)
    networks.refresh_all(module)
    with pytest.raises(RuntimeError, match="pull back first"):
        networks.refresh_all(module)


@pytest.mark.parametrize("one", COVERED, ids=lambda one: one.label)
def test_covered_networks_can_be_standardised(one: Covered) -> None:
    module = networks.build(one.network.model_copy(update={"standardised": True}), one.data).eval()
    assert isinstance(module, ItemNetwork)
    with torch.no_grad():
        assert torch.isfinite(module(torch.rand(2, *one.data.shape))).all()
    held = [module.classifier.get_parameter(name) for name in module.standardised]
    assert held or one.name == "ViT"
    assert all(parameter.requires_grad and len(parameter) > 1 for parameter in held)


def test_a_plan_cannot_ask_for_it_where_the_noise_comes_in_the_sum() -> None:
    value = tiny_plan().to_json()
    value["network"] = {**value["network"], "standardised": True}
    Plan.from_value(value, what="plan")
    value["training"] = {**value["training"], "noise": "distributed", "steps": 1}
    value["participation"] = {**value["participation"], "minimum_sites": 4}
    value["update"] = {**value["update"], "maximum_sites": 4}
    with pytest.raises(MalformedDocumentError, match="standardised weights need"):
        Plan.from_value(value, what="plan")
