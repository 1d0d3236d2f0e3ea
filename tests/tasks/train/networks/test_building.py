"""The plan's network and its weights as bytes and as a vector."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from opacus.validators import ModuleValidator
from safetensors.numpy import save

from policies.data_contract import DataContract
from policies.training import Network
from tasks.train import networks
from tasks.train import weights as weight_bytes
from tasks.train.weights import WeightsError


def test_no_part_mixes_patients(network: Network, data: DataContract) -> None:
    module = networks.build(network, data)
    assert not any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm) for part in module.modules())
    assert any(isinstance(part, torch.nn.GroupNorm) for part in module.modules())
    assert ModuleValidator.validate(module, strict=False) == []


def test_one_logit_an_image(network: Network, data: DataContract) -> None:
    module = networks.build(network, data)
    assert module(torch.zeros(5, 1, 12, 12)).shape == (5,)


def test_a_logit_depends_on_its_own_image_alone(network: Network, data: DataContract) -> None:
    module = networks.build(network, data).eval()
    images = torch.rand(6, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    together = module(images)
    alone = torch.cat([module(one[None]) for one in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_initial_weights_follow_from_the_seed_alone(network: Network, data: DataContract) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = networks.initial(network, data, 7)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = networks.initial(network, data, 7)
    other = networks.initial(network, data, 8)

    assert weight_bytes.to_bytes(first) == weight_bytes.to_bytes(second)
    assert weight_bytes.to_bytes(first) != weight_bytes.to_bytes(other)
    assert {tensor.dtype for tensor in first.values()} == {np.dtype(np.float32)}


def test_load_then_extract_gives_the_same_weights(network: Network, data: DataContract) -> None:
    weights = networks.initial(network, data, 1)
    module = networks.loaded(network, data, weights)
    assert weight_bytes.to_bytes(networks.extract(module)) == weight_bytes.to_bytes(weights)


def test_flatten_and_unflatten_are_inverse_and_sorted(network: Network, data: DataContract) -> None:
    weights = networks.initial(network, data, 1)
    vector = networks.flatten(weights)
    shuffled = dict(reversed(list(weights.items())))

    assert vector.dtype == np.float32
    np.testing.assert_array_equal(networks.flatten(shuffled), vector)
    back = networks.unflatten(vector.astype(np.float64), weights)
    assert weight_bytes.to_bytes(back) == weight_bytes.to_bytes(weights)
    first = sorted(weights)[0]
    np.testing.assert_array_equal(vector[: weights[first].size], weights[first].ravel())


def test_bytes_round_trip_and_digest(network: Network, data: DataContract) -> None:
    weights = networks.initial(network, data, 1)
    data = weight_bytes.to_bytes(weights)
    back = weight_bytes.from_bytes(data, weights)
    assert weight_bytes.to_bytes(back) == data
    assert weight_bytes.digest(data) == weight_bytes.digest(bytes(data))
    assert len(weight_bytes.digest(data)) == 64


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused_everywhere(
    network: Network, data: DataContract, bad: float
) -> None:
    weights = networks.initial(network, data, 1)
    name = sorted(weights)[0]
    broken = {**weights, name: weights[name].copy()}
    broken[name].flat[0] = bad
    vector = networks.flatten(broken)
    module = networks.build(network, data)

    for refuse in (
        lambda: weight_bytes.to_bytes(broken),
        lambda: weight_bytes.from_bytes(save(broken), weights),
        lambda: networks.unflatten(vector, weights),
        lambda: networks.load(module, broken),
    ):
        with pytest.raises(WeightsError) as caught:
            refuse()
        assert caught.value.code == "weights.non-finite"


def test_other_layouts_are_refused(network: Network, data: DataContract) -> None:
    weights = networks.initial(network, data, 1)
    name = next(name for name, tensor in weights.items() if tensor.ndim > 1)
    module = networks.build(network, data)
    missing = {key: value for key, value in weights.items() if key != name}
    extra = {**weights, "unexpected": np.zeros(1, np.float32)}
    reshaped = {**weights, name: weights[name].reshape(-1)}
    doubled = {**weights, name: weights[name].astype(np.float64)}

    for broken in (missing, extra, reshaped, doubled):
        with pytest.raises(WeightsError):
            weight_bytes.from_bytes(save(broken), weights)
    for broken in (missing, extra, reshaped):
        with pytest.raises(WeightsError):
            networks.load(module, broken)
    with pytest.raises(WeightsError):
        networks.unflatten(np.zeros(3), weights)


@pytest.mark.parametrize("cut", [0, 4, 8, 100, -1])
def test_truncated_or_foreign_bytes_are_refused(network: Network, data: DataContract, cut: int) -> None:
    weights = networks.initial(network, data, 1)
    data = weight_bytes.to_bytes(weights)
    with pytest.raises(WeightsError):
        weight_bytes.from_bytes(data[:cut], weights)
    with pytest.raises(WeightsError):
        weight_bytes.from_bytes(b"\x80\x04not a model", weights)
