"""A plan's network as a module: built, tried once, and its weights moved in and out.

The first weights are a function of the network and the seed alone. What a trial found (`dp_ready`) is a function of
network and data contract, so every party finds the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from policies.data_contract import DataContract
from policies.training import Network
from tasks.train.networks import monai_network, small, tabular
from tasks.train.networks.dp_ready import Readiness, make_ready
from tasks.train.networks.errors import NetworkArgumentError, NetworkShapeError
from tasks.train.networks.item_network import ItemNetwork
from tasks.train.networks.separation import logits
from tasks.train.networks.size import BoundedWeights, refuse_large_activations
from tasks.train.networks.standardised import standardise
from tasks.train.weights import Vector, Weights, WeightsError

_TRIAL_SIDES_PX: Final = (16, 32, 64, 128)
"""A trial is of small images where the network takes them: that patients are separate does not hang on the size."""


def build(network: Network, data: DataContract) -> nn.Module:
    """A module with arbitrary weights; give it real ones with `load`. What is not trained needs no gradient.

    Raises one of `errors` where the plan's network cannot be had, or not privately.
    """
    readiness = examine(network, data)
    module = _construct(network, data)
    readiness.apply(module, norm_groups=network.norm_groups)
    if network.standardised:
        standardise(module)
    return module


def examine(network: Network, data: DataContract) -> Readiness:
    """What makes the network ready for private training; tried once a process."""
    return _examined(network.canonical_bytes(), data.canonical_bytes())


@lru_cache(maxsize=16)
def _examined(network_bytes: bytes, data_bytes: bytes) -> Readiness:
    """Cached by content: arguments are a mapping and have no hash."""
    network, data = _documents(network_bytes, data_bytes)
    with torch.random.fork_rng(devices=[]):
        refuse_large_activations(_construct(network, data))
        readiness = _tried(network, data)
        module = _construct(network, data)
        readiness.apply(module, norm_groups=network.norm_groups)
        with torch.no_grad():
            logits(module.train(), torch.zeros(1, *data.shape))
    return readiness


def _tried(network: Network, data: DataContract) -> Readiness:
    sizes = list(_sizes(data))
    for smaller in sizes[:-1]:
        try:
            return make_ready(_construct(network, smaller), norm_groups=network.norm_groups)
        except (NetworkArgumentError, NetworkShapeError):
            continue
    return make_ready(_construct(network, sizes[-1]), norm_groups=network.norm_groups)


def _sizes(data: DataContract) -> Iterator[DataContract]:
    """The contract with smaller images, from the smallest, and itself as the last."""
    if data.image is not None:
        sides = {
            "depth_px": data.image.depth_px,
            "height_px": data.image.height_px,
            "width_px": data.image.width_px,
        }
        for most in _TRIAL_SIDES_PX:
            smaller = {name: None if side is None else min(side, most) for name, side in sides.items()}
            if smaller != sides:
                yield data.model_copy(update={"image": data.image.model_copy(update=smaller)})
    yield data


def _construct(network: Network, data: DataContract) -> ItemNetwork:
    make = monai_network.construct
    for ours in (tabular, small):
        if network.name in ours.NAMES:
            make = ours.construct
    with BoundedWeights():
        return ItemNetwork(make(network, data), data)


def loaded(network: Network, data: DataContract, weights: Mapping[str, Vector]) -> nn.Module:
    """The network with these weights; WeightsError where they are not its own."""
    module = build(network, data)
    load(module, weights)
    return module


def initial(network: Network, data: DataContract, seed: int) -> Weights:
    """The first weights of a plan: float32, a function of the network and the seed alone."""
    examine(network, data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return extract(build(network, data))


def template(network: Network, data: DataContract) -> Weights:
    """Weights of the network's names and shapes, whose values mean nothing: what received bytes are held against."""
    return _template(network.canonical_bytes(), data.canonical_bytes())


@lru_cache(maxsize=8)
def _template(network_bytes: bytes, data_bytes: bytes) -> Weights:
    return extract(build(*_documents(network_bytes, data_bytes)))


def trained(network: Network, data: DataContract) -> npt.NDArray[np.bool_]:
    """(total,) in the order of `flatten`: which weights training moves; not what is frozen, nor buffers."""
    return _trained(network.canonical_bytes(), data.canonical_bytes())


@lru_cache(maxsize=8)
def _trained(network_bytes: bytes, data_bytes: bytes) -> npt.NDArray[np.bool_]:
    module = build(*_documents(network_bytes, data_bytes))
    moved = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    tensors = sorted(module.state_dict().items())
    return np.concatenate([np.full(tensor.numel(), name in moved) for name, tensor in tensors])


def _documents(network: bytes, data: bytes) -> tuple[Network, DataContract]:
    return (
        Network.from_canonical(network, what="network"),
        DataContract.from_canonical(data, what="data"),
    )


def extract(module: nn.Module) -> Weights:
    """The module's weights as float32 arrays on the CPU, by name; copies."""
    weights: Weights = {}
    for name, tensor in module.state_dict().items():
        weights[name] = tensor.detach().to("cpu", torch.float32).numpy().copy()
    return weights


def load(module: nn.Module, weights: Mapping[str, Vector]) -> None:
    """Put weights into the module; names and shapes must match exactly, values must be finite."""
    expected = module.state_dict()
    if set(expected) != set(weights):
        raise WeightsError("the weights' names are not those of the plan's network")
    for name, tensor in expected.items():
        if tuple(tensor.shape) != weights[name].shape:
            raise WeightsError(
                f"weight {name} has shape {weights[name].shape}, expected {tuple(tensor.shape)}"
            )
        if not np.isfinite(weights[name]).all():
            raise WeightsError(f"weight {name} holds values that are not finite", code="weights.non-finite")
    module.load_state_dict(
        {name: torch.from_numpy(np.array(weights[name])) for name in expected}, strict=True
    )
