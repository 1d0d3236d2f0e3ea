"""Which modules are covered, and by what. A module is covered only with its class' own `forward`: a subclass that
does something else would be given a gradient that is not its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, cast

from torch import nn

from privacy.clipping.activation import PReLULayer
from privacy.clipping.convolution import ConvolutionLayer
from privacy.clipping.embedding import EmbeddingLayer
from privacy.clipping.errors import UnsupportedNetworkError
from privacy.clipping.layer import Layer
from privacy.clipping.linear import LinearLayer
from privacy.clipping.norm import GroupNormLayer, LayerNormLayer

_MakeLayer = Callable[[nn.Module], Layer[nn.Module]]

_LAYERS: Final = cast(
    Mapping[type[nn.Module], _MakeLayer],
    {
        nn.Linear: LinearLayer,
        nn.Conv1d: ConvolutionLayer,
        nn.Conv2d: ConvolutionLayer,
        nn.Conv3d: ConvolutionLayer,
        nn.ConvTranspose1d: ConvolutionLayer,
        nn.ConvTranspose2d: ConvolutionLayer,
        nn.ConvTranspose3d: ConvolutionLayer,
        nn.GroupNorm: GroupNormLayer,
        nn.InstanceNorm1d: GroupNormLayer,
        nn.InstanceNorm2d: GroupNormLayer,
        nn.InstanceNorm3d: GroupNormLayer,
        nn.LayerNorm: LayerNormLayer,
        nn.PReLU: PReLULayer,
        nn.Embedding: EmbeddingLayer,
    },
)

COVERED: Final = tuple(_LAYERS)
"""Layers whose own parameters have per-patient gradients."""


def layers_of(network: nn.Module) -> dict[nn.Module, Layer[nn.Module]]:
    """The layers of a network's trainable parameters. Raises `UnsupportedNetworkError` with everything that is not
    covered."""
    found: dict[nn.Module, Layer[nn.Module]] = {}
    refused = mixing(network)
    for path, module in network.named_modules():
        trainable = [name for name, value in module.named_parameters(recurse=False) if value.requires_grad]
        mixes = isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
        if mixes or not trainable:
            continue
        make = _covering(module)
        if make is None:
            where = f"{path}." if path else ""
            refused.append(f"{', '.join(where + name for name in trainable)} of {type(module).__name__}")
        else:
            found[module] = make(module)
    if refused:
        raise UnsupportedNetworkError(refused)
    return found


def mixing(network: nn.Module) -> list[str]:
    """The parts that let one patient's items touch another's in the mode that they are in."""
    return [
        f"{path or 'the network'}, {type(module).__name__} in training mode, which mixes patients"
        for path, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
    ]


def _covering(module: nn.Module) -> _MakeLayer | None:
    for kind, make in _LAYERS.items():
        if not isinstance(module, kind):
            continue
        same = type(module).forward is kind.forward and "forward" not in vars(module)
        inner = getattr(kind, "_conv_forward", None)
        if not same or getattr(type(module), "_conv_forward", None) is not inner:
            return None
        if isinstance(module, nn.modules.instancenorm._InstanceNorm) and module.track_running_stats:
            return None  # What it tracks are patients' values without noise.
        if isinstance(module, nn.Embedding) and (
            module.max_norm is not None or module.scale_grad_by_freq or module.sparse
        ):
            return None
        return make
    return None
