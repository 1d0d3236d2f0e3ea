"""The clipped, noised step against arithmetic in float64, one patient at a time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from policies.data_contract import DataContract
from policies.training import Network, Training
from privacy.clipping.clipped_sum import ClippedSum
from privacy.noise import NoiseStream
from tasks.train import networks
from tasks.train.losses import item_losses
from tasks.train.noisy_sgd import NoisySGD

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int8]


def _module(network: Network, data: DataContract) -> torch.nn.Module:
    return networks.loaded(network, data, networks.initial(network, data, 3))


def _clipped_sum_float64(
    module: torch.nn.Module, images: Images, labels: Labels, clip_l2: float
) -> npt.NDArray[np.float64]:
    """Each image alone through an unhooked float64 copy: gradient, clip, add."""
    module = module.double()
    total = np.zeros(sum(parameter.numel() for parameter in module.parameters()))
    for image, label in zip(images, labels, strict=True):
        module.zero_grad()
        logit = module(torch.from_numpy(image[None]).double())
        target = torch.tensor([float(label)], dtype=torch.float64)
        torch.nn.functional.binary_cross_entropy_with_logits(logit, target).backward()
        gradient = np.concatenate([p.grad.numpy().ravel() for p in module.parameters() if p.grad is not None])
        total += gradient * min(1.0, clip_l2 * (1 - 2**-8) / np.linalg.norm(gradient))
    return total


@pytest.mark.parametrize("clip_l2", [0.05, 0.5, 50.0])
def test_clipped_sum_equals_one_patient_at_a_time(
    network: Network, data: DataContract, images: Images, labels: Labels, clip_l2: float
) -> None:
    module = _module(network, data)
    clipped = ClippedSum(module, clip_l2=clip_l2)
    targets = torch.from_numpy(labels).float()
    clipped.add(torch.from_numpy(images), lambda logits: item_losses(logits, targets), [1] * len(images))
    found = np.concatenate([part.numpy().ravel() for part in clipped.take()])

    expected = _clipped_sum_float64(_module(network, data), images, labels, clip_l2)

    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-5 * min(clip_l2, 1.0) * len(images))


def test_one_step_divides_by_the_constant_of_the_plan(
    network: Network, data: DataContract, training: Training
) -> None:
    module = _module(network, data)
    before = networks.flatten(networks.extract(module))
    optimizer = NoisySGD(list(module.parameters()), training=training, noise=None)
    sums = {name: torch.rand(parameter.shape) for name, parameter in module.named_parameters()}
    optimizer.noised(list(sums.values()))
    optimizer.move()

    change = networks.flatten(networks.extract(module)) - before
    total = networks.flatten({name: part.numpy() for name, part in sums.items()})
    expected = -training.learning_rate * total / training.nominal_batch_patients
    np.testing.assert_allclose(change, expected, atol=1e-6)


def test_noise_has_the_stated_standard_deviation(
    network: Network, data: DataContract, training: Training, noise: NoiseStream
) -> None:
    """Steps on empty batches are pure noise: the change per step is rate * multiplier * clip / batch."""
    module = _module(network, data)
    wide = training.model_copy(update={"noise_multiplier": 3.0, "clip_l2": 0.7})
    optimizer = NoisySGD(list(module.parameters()), training=wide, noise=noise)
    changes = []
    for _ in range(500):
        before = networks.flatten(networks.extract(module)).astype(np.float64)
        optimizer.noised([torch.zeros_like(parameter) for parameter in module.parameters()])
        optimizer.move()
        changes.append(networks.flatten(networks.extract(module)) - before)
    values = np.concatenate(changes)
    expected = wide.learning_rate * 3.0 * 0.7 / wide.nominal_batch_patients

    assert len(values) > 50_000
    assert np.std(values) == pytest.approx(expected, rel=0.02)
    assert abs(np.mean(values)) < 6 * expected / np.sqrt(len(values))


def test_noise_is_one_independent_draw_for_every_weight(
    network: Network, data: DataContract, training: Training, noise: NoiseStream
) -> None:
    module = _module(network, data)
    optimizer = NoisySGD(list(module.parameters()), training=training, noise=noise)
    optimizer.noised([torch.zeros_like(parameter) for parameter in module.parameters()])

    values = np.concatenate([p.grad.numpy().ravel() for p in module.parameters()])

    assert len(np.unique(values)) > 0.99 * len(values)
