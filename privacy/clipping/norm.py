"""Normalisation within one item: group, instance and layer norm. What mixes items has no gradient of one patient."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch
from torch import Tensor, nn

from privacy.clipping.contribution import Contribution, Kept
from privacy.clipping.layer import Layer, Wanted, autocast_type

AnyGroupNorm: TypeAlias = nn.GroupNorm | nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d


class GroupNormLayer(Layer[AnyGroupNorm]):
    """Instance norm is group norm with a group a channel.

    A batch of n items with c channels in g groups is normalised as one item with n c channels in n g groups; the
    gradients of that one's scale and shift are each item's, so torch's own kernel gives them at no further cost.
    """

    def __init__(self, module: AnyGroupNorm) -> None:
        super().__init__(module)
        if isinstance(module, nn.GroupNorm):
            self._channels, self._groups = module.num_channels, module.num_groups
        else:
            self._channels = self._groups = module.num_features

    def prepare(self, inputs: Tensor) -> Tensor:
        """The kernel below wants neighbours in memory, with the channels before or after the positions."""
        ready = inputs if autocast_type(inputs) is None else inputs.float()
        return ready.contiguous(memory_format=_layout(ready))

    def run(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        outputs, means, scales = torch.native_group_norm(
            inputs,
            self.module.weight,
            self.module.bias,
            inputs.shape[0],
            self._channels,
            math.prod(inputs.shape[2:]),
            self._groups,
            self.module.eps,
        )
        return outputs, (means, scales)

    def backward(
        self, outputs_gradient: Tensor, inputs: Tensor, extras: tuple[Tensor, ...], wanted: Wanted
    ) -> tuple[Tensor | None, list[Contribution]]:
        formed = self._as_one_item if inputs.is_contiguous() else self._apart
        inputs_gradient, of_weight, of_bias = formed(
            outputs_gradient, inputs, *extras, input_gradient=wanted.input_gradient
        )
        weight, bias = self.module.weight, self.module.bias
        found: list[Contribution] = []
        for band in wanted.bands:
            if weight.requires_grad:
                found.append(Kept(weight, band.rows, band.sum_items(of_weight)))
            if bias.requires_grad:
                found.append(Kept(bias, band.rows, band.sum_items(of_bias)))
        return inputs_gradient, found

    def _as_one_item(
        self, gradient: Tensor, inputs: Tensor, means: Tensor, scales: Tensor, *, input_gradient: bool
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Gradients of the inputs, and (items, channels) of scale and of shift."""
        items, positions = inputs.shape[0], math.prod(inputs.shape[2:])
        of_inputs, of_weight, of_bias = torch.ops.aten.native_group_norm_backward(
            gradient.reshape(1, -1, positions),
            inputs.view(1, -1, positions),
            means.view(1, -1),
            scales.view(1, -1),
            self.module.weight.repeat(items),
            1,
            items * self._channels,
            positions,
            items * self._groups,
            [input_gradient, True, True],
        )
        return (
            of_inputs.view(inputs.shape) if input_gradient else None,
            of_weight.view(items, -1),
            of_bias.view(items, -1),
        )

    def _apart(
        self, gradient: Tensor, inputs: Tensor, means: Tensor, scales: Tensor, *, input_gradient: bool
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """The same for channels last, where one item of all channels would be a copy."""
        items, positions = inputs.shape[0], math.prod(inputs.shape[2:])
        of_inputs: Tensor | None = None
        if input_gradient:  # torch 2.13 crashes where this kernel is asked for anything but the inputs' too.
            of_inputs, _, _ = torch.ops.aten.native_group_norm_backward(
                gradient.contiguous(memory_format=_layout(inputs)),
                inputs,
                means,
                scales,
                self.module.weight,
                items,
                self._channels,
                positions,
                self._groups,
                [True, False, False],
            )
        sides = tuple(range(2, inputs.dim()))
        of_bias = gradient.sum(sides)
        within = self._channels // self._groups
        each_mean, each_scale = (
            values.view(items, -1).repeat_interleave(within, 1) for values in (means, scales)
        )
        return of_inputs, ((gradient * inputs).sum(sides) - of_bias * each_mean) * each_scale, of_bias


def _layout(inputs: Tensor) -> torch.memory_format:
    """Channels last, if they are, on the CPU alone: elsewhere the kernel reads memory as if they came first."""
    if inputs.device.type != "cpu":
        return torch.contiguous_format
    for layout, dimensions in ((torch.channels_last, 4), (torch.channels_last_3d, 5)):
        if (
            inputs.dim() == dimensions
            and not inputs.is_contiguous()
            and inputs.is_contiguous(memory_format=layout)
        ):
            return layout
    return torch.contiguous_format


class LayerNormLayer(Layer[nn.LayerNorm]):
    def prepare(self, inputs: Tensor) -> Tensor:
        return inputs if autocast_type(inputs) is None else inputs.float()

    def run(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        outputs, means, scales = torch.native_layer_norm(
            inputs, self.module.normalized_shape, self.module.weight, self.module.bias, self.module.eps
        )
        return outputs, (means, scales)

    def backward(
        self, outputs_gradient: Tensor, inputs: Tensor, extras: tuple[Tensor, ...], wanted: Wanted
    ) -> tuple[Tensor | None, list[Contribution]]:
        means, scales = extras
        weight, bias = self.module.weight, self.module.bias
        inputs_gradient: Tensor | None = None
        if wanted.input_gradient:
            inputs_gradient, _, _ = torch.ops.aten.native_layer_norm_backward(
                outputs_gradient,
                inputs,
                self.module.normalized_shape,
                means,
                scales,
                weight,
                bias,
                [True, False, False],
            )
        found: list[Contribution] = []
        for band in wanted.bands:
            gradient = band.of(outputs_gradient)
            if weight.requires_grad:
                normal = (band.of(inputs) - band.of(means)) * band.of(scales)
                found.append(Kept(weight, band.rows, self._sum(gradient * normal, band.patients)))
            if bias is not None and bias.requires_grad:
                found.append(Kept(bias, band.rows, self._sum(gradient, band.patients)))
        return inputs_gradient, found

    def _sum(self, values: Tensor, patients: int) -> Tensor:
        """(patients * items, ..., *normalized_shape) to (patients, *normalized_shape)."""
        return values.reshape(patients, -1, *self.module.normalized_shape).sum(1)
