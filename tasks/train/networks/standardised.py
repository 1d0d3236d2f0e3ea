"""Convolutions whose weights are standardised: zero mean and the same norm in every output channel (Qiao et al. 2019,
arXiv:1903.10520), of fan-in scale (Brock et al. 2021, arXiv:2101.08692):

    effective = (raw - mean) / sqrt(fan_in * variance + 1e-4)        mean and variance over one output channel

Private training clips and noises the gradient of the effective weight, which is what the layer multiplies with; the
noised one is pulled back to the raw weight by the transposed derivative: post-processing, which costs nothing. A step
is `refresh_all`, clipped sums, noise, `pull_back_all`, and then the optimiser's move. Outside of a step every
parameter holds its raw weight, which alone is stored and sent. There is no learned gain: the group norm behind a
convolution has one.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from tasks.train.networks.item_network import ItemNetwork

_EPSILON: Final = 1e-4
_LEAST_FAN_IN: Final = 4
"""Fewer values a channel have nothing left once their mean and norm are fixed."""


def effective(raw: Tensor) -> Tensor:
    """(out, in, *kernel) -> the same shape."""
    flat = raw.flatten(1)
    centred = flat - flat.mean(dim=1, keepdim=True)
    scale = (centred.square().sum(dim=1, keepdim=True) + _EPSILON).rsqrt()
    return (centred * scale).view_as(raw)


def standardise(network: ItemNetwork) -> None:
    """From now on the convolutions of `network` use effective weights; not those that make the logits, whose scale is
    nobody else's to fix, nor transposed or depthwise ones."""
    for name, layer in network.classifier.named_modules():
        if type(layer) not in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
            continue
        weight = layer.get_parameter("weight")
        depthwise = layer.groups != 1
        if not depthwise and len(weight) > 1 and weight[0].numel() >= _LEAST_FAN_IN and weight.requires_grad:
            network.standardised[f"{name}.weight"] = None


def refresh_all(module: nn.Module) -> None:
    """Before the gradients of a step: put effective weights where raw ones were. Of a network without, nothing."""
    if not isinstance(module, ItemNetwork):
        return
    for name, raw in module.standardised.items():
        if raw is not None:
            raise RuntimeError("the weights are refreshed already: pull back first")
        weight = module.classifier.get_parameter(name)
        module.standardised[name] = weight.detach().clone()
        with torch.no_grad():
            weight.copy_(effective(weight))


def pull_back_all(module: nn.Module) -> None:
    """After the noise: raw weights are back; each `grad`, until now of the effective weight, is of the raw one."""
    if not isinstance(module, ItemNetwork):
        return
    for name, raw in module.standardised.items():
        if raw is None:
            raise RuntimeError("there is nothing to pull back: refresh first")
        weight = module.classifier.get_parameter(name)
        if weight.grad is not None:
            leaf = raw.clone().requires_grad_()
            (weight.grad,) = torch.autograd.grad(effective(leaf), leaf, weight.grad)
        with torch.no_grad():
            weight.copy_(raw)
        module.standardised[name] = None
