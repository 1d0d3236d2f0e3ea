"""Activations with weights: PReLU, which MONAI's UNet uses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from privacy.clipping.contribution import Contribution, Kept
from privacy.clipping.layer import Layer, Wanted, autocast_type


class PReLULayer(Layer[nn.PReLU]):
    """One slope, or one a channel (dimension 1)."""

    def prepare(self, inputs: Tensor) -> Tensor:
        return inputs if autocast_type(inputs) is None else inputs.float()

    def run(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return nn.functional.prelu(inputs, self.module.weight), ()

    def backward(
        self, outputs_gradient: Tensor, inputs: Tensor, extras: tuple[Tensor, ...], wanted: Wanted
    ) -> tuple[Tensor | None, list[Contribution]]:
        weight = self.module.weight
        slopes = weight.view(1, -1, *[1] * (inputs.dim() - 2)) if inputs.dim() > 1 else weight
        inputs_gradient, of_slopes = torch.ops.aten._prelu_kernel_backward(outputs_gradient, inputs, slopes)
        each = of_slopes.reshape(inputs.shape[0], weight.numel(), -1) if weight.numel() > 1 else of_slopes
        by_item = each.reshape(inputs.shape[0], weight.numel(), -1).sum(2)
        found: list[Contribution] = [
            Kept(weight, band.rows, band.sum_items(by_item)) for band in wanted.bands
        ]
        return inputs_gradient if wanted.input_gradient else None, found
