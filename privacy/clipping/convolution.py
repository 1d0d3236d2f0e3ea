"""Convolutions and transposed convolutions in one to three dimensions, of any stride, padding, dilation and groups.

Each patient's weight gradient, where it is formed, comes from one grouped convolution with a group a patient:
channels of patients lie side by side as channels of groups do. On CPU this costs what the ordinary weight gradient
costs, and a loop over patients up to six times that (`docs/benchmarks.md`).

Norms without gradients: the Gram matrix of unfolded inputs is, offset by offset of the kernel, a shifted part of the
Gram matrix of the inputs as they are. So nothing is unfolded, and a kernel of 3 x 3 x 3 costs 3 + 3 + 3 sums of
pairs, side by side, not 27 products:

    |g^T U|^2 = sum_k sum_{t,u} (g_t . g_u) (x_{s t + d k - p} . x_{s u + d k - p})

Where strides are as long as the kernel, as in patch embeddings, each input is read at one place only: there the
unfolded inputs are no more than the inputs, and their Gram matrix is over positions of the output alone.

A transposed convolution is the same with inputs and output gradients exchanged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from privacy.clipping.choice import ghost_is_cheaper
from privacy.clipping.contribution import Contribution, Factors, Ghost, Kept
from privacy.clipping.layer import Layer, Wanted, autocast_type, exact
from privacy.clipping.linear import gram_products
from privacy.clipping.patients import Band

AnyConvolution: TypeAlias = (
    nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
)


class ConvolutionLayer(Layer[AnyConvolution]):
    def __init__(self, module: AnyConvolution) -> None:
        super().__init__(module)
        self._transposed = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
        # Padding of two sorts: before the layer's arithmetic, if it is not zeros or not the same on both sides.
        self._ahead: list[int] | None = None
        if isinstance(module.padding, str) or module.padding_mode != "zeros":
            self._ahead = list(module._reversed_padding_repeated_twice)
            self._padding = [0] * len(module.kernel_size)
        else:
            self._padding = [int(side) for side in module.padding]
        # Place by place, it is a matrix product.
        ones = {*module.kernel_size, *module.stride, module.groups}
        self._is_product = ones == {1} and not any(self._padding) and not any(module.output_padding)
        self._in_tiles = module.kernel_size == module.stride and not any(self._padding)
        if math.prod(module.kernel_size) > 1:
            self._in_tiles &= set(module.dilation) == {1}

    def prepare(self, inputs: Tensor) -> Tensor:
        ready = inputs.to(autocast_type(inputs) or inputs.dtype)
        if self._ahead is None:
            return ready
        mode = "constant" if self.module.padding_mode == "zeros" else self.module.padding_mode
        return nn.functional.pad(ready, self._ahead, mode=mode)

    def run(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        module, bias = self.module, self.module.bias
        outputs: Tensor = torch.convolution(
            inputs,
            module.weight.to(inputs.dtype),
            None if bias is None else bias.to(inputs.dtype),
            module.stride,
            self._padding,
            module.dilation,
            self._transposed,
            list(module.output_padding),
            module.groups,
        )
        return outputs, ()

    def backward(
        self, outputs_gradient: Tensor, inputs: Tensor, extras: tuple[Tensor, ...], wanted: Wanted
    ) -> tuple[Tensor | None, list[Contribution]]:
        weight, bias = self.module.weight, self.module.bias
        inputs_gradient: Tensor | None = None
        if wanted.input_gradient:
            inputs_gradient = self._gradient(
                outputs_gradient, inputs, weight.to(inputs.dtype), groups=self.module.groups, of_weight=False
            )
        found: list[Contribution] = []
        for band in wanted.bands:
            gradient = band.of(outputs_gradient)
            if bias is not None and bias.requires_grad:
                found.append(Kept(bias, band.rows, band_sum(exact(gradient), band).sum(1)))
            if weight.requires_grad:
                found.append(self._weight(gradient, band.of(inputs), band, alone=wanted.alone))
        return inputs_gradient, found

    def _weight(self, gradient: Tensor, inputs: Tensor, band: Band, *, alone: bool) -> Contribution:
        weight = self.module.weight
        if not alone or not self._prefers_ghost(gradient, inputs, band):
            return Kept(weight, band.rows, self._each(exact(gradient), exact(inputs), band))

        def form(factors: Factors) -> Tensor:
            scaled, read = factors.times(exact(gradient)), factors.counted(exact(inputs))
            return self._gradient(scaled, read, weight, groups=self.module.groups, of_weight=True)

        return Ghost(weight, band.rows, *self._norms_squared(gradient, inputs, band), form)

    def _gradient(
        self, gradient: Tensor, inputs: Tensor, weight: Tensor, *, groups: int, of_weight: bool
    ) -> Tensor:
        of_inputs, of_weights, _ = torch.ops.aten.convolution_backward(
            gradient,
            inputs,
            weight,
            None,
            self.module.stride,
            self._padding,
            self.module.dilation,
            self._transposed,
            list(self.module.output_padding),
            groups,
            [not of_weight, of_weight, False],
        )
        found: Tensor = of_weights if of_weight else of_inputs
        return found

    def _each(self, gradient: Tensor, inputs: Tensor, band: Band) -> Tensor:
        """Each patient's weight gradient, (patients, *weight.shape)."""
        shape = self.module.weight.shape
        if self._is_product and band.items == 1:
            rows, columns = (inputs, gradient) if self._transposed else (gradient, inputs)
            return torch.bmm(rows.flatten(2), columns.flatten(2).transpose(1, 2)).view(band.patients, *shape)
        many = inputs.new_empty((band.patients * shape[0], *shape[1:]))
        groups = band.patients * self.module.groups
        found = self._gradient(
            _side_by_side(gradient, band), _side_by_side(inputs, band), many, groups=groups, of_weight=True
        )
        return found.view(band.patients, *shape)

    def _prefers_ghost(self, gradient: Tensor, inputs: Tensor, band: Band) -> bool:
        if self.module.groups > 1:
            return False  # Their weights are few.
        entering, leaving = (gradient, inputs) if self._transposed else (inputs, gradient)
        before = band.items * math.prod(entering.shape[2:])
        after = band.items * math.prod(leaving.shape[2:])
        kernel = math.prod(self.module.kernel_size)
        if self._in_tiles:
            gram, pairs = after**2 * (entering.shape[1] * kernel + leaving.shape[1]), 2 * after**2
        else:
            gram = before**2 * entering.shape[1] + after**2 * (leaving.shape[1] + kernel)
            pairs = before**2 + after**2
        return ghost_is_cheaper(
            gram=gram,
            pairs=pairs,
            weights=self.module.weight.numel(),
            activations=before * entering.shape[1] + after * leaving.shape[1],
        )

    def _norms_squared(self, gradient: Tensor, inputs: Tensor, band: Band) -> tuple[Tensor, Tensor]:
        """(patients,) float64, see the module's text; and the square of what the terms amount to, at most: an input
        is read by each place of the kernel once at the most, so |g|^2 |x|^2 times its places."""
        entering, leaving = (gradient, inputs) if self._transposed else (inputs, gradient)
        if self._in_tiles:
            tiles = _tiles(entering, self.module.kernel_size, leaving.shape[2:])
            rows = leaving.flatten(2).transpose(1, 2)
            return gram_products(*(_of_patients(side, band).double() for side in (rows, tiles)))
        pairs = _gram(entering, band)
        read = _trace(pairs, band)
        for side, after in enumerate(leaving.shape[2:]):
            if self.module.kernel_size[side] == self.module.stride[side] == 1 and not self._padding[side]:
                continue
            shifts = _shifts(
                entering.shape[2 + side],
                after,
                kernel=self.module.kernel_size[side],
                stride=self.module.stride[side],
                padding=self._padding[side],
                dilation=self.module.dilation[side],
            )
            pairs = _shifted_sum(pairs, shifts, after, first=2 + side, second=pairs.dim() // 2 + 2 + side)
        held = _gram(leaving, band)
        terms = read * _trace(held, band) * math.prod(self.module.kernel_size)
        products = torch.bmm(pairs.reshape(band.patients, 1, -1), held.reshape(band.patients, -1, 1))
        return products.flatten(), terms


def band_sum(gradient: Tensor, band: Band) -> Tensor:
    """(patients * items, channels, ...) to (patients, items, channels) sums over positions."""
    return gradient.flatten(2).sum(2).view(band.patients, band.items, -1)


def _side_by_side(batch: Tensor, band: Band) -> Tensor:
    """(patients * items, channels, ...) to (items, patients * channels, ...); a view if each patient has one item."""
    apart = batch.reshape(band.patients, band.items, *batch.shape[1:])
    return apart.transpose(0, 1).reshape(band.items, band.patients * batch.shape[1], *batch.shape[2:])


def _of_patients(rows: Tensor, band: Band) -> Tensor:
    """(patients * items, positions, features) to (patients, items * positions, features)."""
    return rows.reshape(band.patients, -1, rows.shape[2])


def _tiles(batch: Tensor, kernel: Sequence[int], tiles: Sequence[int]) -> Tensor:
    """(n, channels, *sides) to (n, number of tiles, channels * places of the kernel); what is left over at the ends
    of the sides is read by no place."""
    apart = batch
    for side, (length, count) in enumerate(zip(kernel, tiles, strict=True)):
        part = apart.narrow(2 + 2 * side, 0, count * length)
        apart = part.reshape(*part.shape[: 2 + 2 * side], count, length, *part.shape[3 + 2 * side :])
    counted = range(2, 2 + 2 * len(kernel), 2)
    return apart.permute(0, *counted, 1, *(one + 1 for one in counted)).reshape(
        batch.shape[0], math.prod(tiles), -1
    )


def _gram(batch: Tensor, band: Band) -> Tensor:
    """(patients * items, channels, *sides) to (patients, items, *sides, items, *sides) float64 inner products."""
    apart = batch.double().reshape(band.patients, band.items, batch.shape[1], -1)
    rows = apart.transpose(1, 2).flatten(2)
    sides = batch.shape[2:]
    return torch.bmm(rows.transpose(1, 2), rows).view(band.patients, band.items, *sides, band.items, *sides)


def _trace(pairs: Tensor, band: Band) -> Tensor:
    """(patients, *positions, *positions) to the sum over positions paired with themselves, (patients,)."""
    side = math.prod(pairs.shape[1 : 1 + pairs.dim() // 2])
    return pairs.reshape(band.patients, side, side).diagonal(dim1=1, dim2=2).sum(1)


def _shifted_sum(
    pairs: Tensor, shifts: Sequence[tuple[slice, slice]], after: int, *, first: int, second: int
) -> Tensor:
    """Along one side of the kernel: `pairs` with its dimensions `first` and `second`, the two positions of a pair,
    shifted alike by every place, and summed."""
    shape = list(pairs.shape)
    shape[first] = shape[second] = after
    total = pairs.new_zeros(shape)
    for read, written in shifts:
        source, target = [slice(None)] * pairs.dim(), [slice(None)] * pairs.dim()
        source[first] = source[second] = read
        target[first] = target[second] = written
        total[tuple(target)] += pairs[tuple(source)]
    return total


def _shifts(
    before: int, after: int, *, kernel: int, stride: int, padding: int, dilation: int
) -> list[tuple[slice, slice]]:
    """For every place of the kernel along one side: the positions that it reads, and those that it writes for."""
    found = []
    for place in range(kernel):
        start = place * dilation - padding
        first = max(0, -(start // stride))
        last = min(after - 1, (before - 1 - start) // stride)
        if last >= first:
            found.append(
                (
                    slice(first * stride + start, last * stride + start + 1, stride),
                    slice(first, last + 1),
                )
            )
    return found
