"""The network of a plan: MONAI's `Classifier` with group norm, one logit an image.

Lives here: building the module, its deterministic first weights, and moving weights in and out of it.
Group norm, because batch norm mixes patients and then no gradient belongs to one of them (Opacus refuses
it). Tanh, because bounded activations keep gradients near the clip and lose less to it (Papernot et al. 2021,
arXiv:2007.14191). Each image is centred on its own mean, which takes out a device's brightness, and scaled by
a constant: a statistic over several patients would be an undeclared release.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from policies.data_contract import DataContract
from policies.training import Network
from tasks.train.weights import Vector, Weights, WeightsError, flatten, unflatten

__all__ = ["ImageClassifier", "build", "extract", "flatten", "initial", "load", "unflatten"]

# About the standard deviation within an image whose values fill [0, 1].
_SCALE = 0.2


class ImageClassifier(nn.Module):
    """Maps images in [0, 1], float32 (n, 1, height_px, width_px), to logits of the second label, (n,)."""

    def __init__(self, network: Network, data: DataContract) -> None:
        super().__init__()
        from monai.networks.nets.classifier import Classifier  # takes seconds, so only where it is used

        self.classifier: nn.Module = Classifier(
            in_shape=data.shape,
            classes=1,
            channels=network.arguments["channels"],
            strides=network.arguments["strides"],
            num_res_units=0,
            act="tanh",
            norm=("group", {"num_groups": network.norm_groups}),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        centred = images - images.mean(dim=(1, 2, 3), keepdim=True)
        logits: torch.Tensor = self.classifier(centred / _SCALE)
        return logits.squeeze(1)


def build(network: Network, data: DataContract) -> nn.Module:
    """A module with arbitrary weights; give it real ones with `load`."""
    module = ImageClassifier(network, data)
    for part in module.modules():
        if hasattr(part, "inplace"):
            part.inplace = False  # type: ignore[assignment] # per-sample hooks forbid changes in place
    return module


def initial(network: Network, data: DataContract, seed: int) -> Weights:
    """The first weights of a plan: float32, a function of the network and the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return extract(build(network, data))


def template(network: Network, data: DataContract) -> Weights:
    """Weights of the network's names and shapes, whose values mean nothing: what received bytes are held against."""
    return _template(network.canonical_bytes(), data.canonical_bytes())


@lru_cache(maxsize=8)
def _template(network: bytes, data: bytes) -> Weights:
    """Cached by content: arguments are a mapping and have no hash."""
    return extract(
        build(Network.from_canonical(network, what="network"), DataContract.from_canonical(data, what="data"))
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
