"""Linear layers over any number of positions: (n, ..., features)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from privacy.clipping.choice import ghost_is_cheaper
from privacy.clipping.contribution import Contribution, Factors, Ghost, Kept
from privacy.clipping.layer import Layer, Wanted, autocast_type, exact
from privacy.clipping.patients import Band


class LinearLayer(Layer[nn.Linear]):
    def prepare(self, inputs: Tensor) -> Tensor:
        return inputs.to(autocast_type(inputs) or inputs.dtype)

    def run(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        bias = self.module.bias
        return (
            nn.functional.linear(
                inputs, self.module.weight.to(inputs.dtype), None if bias is None else bias.to(inputs.dtype)
            ),
            (),
        )

    def backward(
        self, outputs_gradient: Tensor, inputs: Tensor, extras: tuple[Tensor, ...], wanted: Wanted
    ) -> tuple[Tensor | None, list[Contribution]]:
        weight, bias = self.module.weight, self.module.bias
        inputs_gradient = (
            torch.matmul(outputs_gradient, weight.to(inputs.dtype)) if wanted.input_gradient else None
        )
        found: list[Contribution] = []
        for band in wanted.bands:
            rows = band.of(outputs_gradient).reshape(band.patients, -1, outputs_gradient.shape[-1])
            if bias is not None and bias.requires_grad:
                found.append(Kept(bias, band.rows, exact(rows).sum(1)))
            if weight.requires_grad:
                columns = band.of(inputs).reshape(band.patients, -1, inputs.shape[-1])
                found.append(self._weight(rows, columns, band, alone=wanted.alone))
        return inputs_gradient, found

    def _weight(self, rows: Tensor, columns: Tensor, band: Band, *, alone: bool) -> Contribution:
        """From output gradients (patients, positions, outputs) and inputs (patients, positions, inputs)."""
        weight = self.module.weight
        positions, features = columns.shape[1], rows.shape[2] + columns.shape[2]
        if not alone or not ghost_is_cheaper(
            gram=positions**2 * features,
            pairs=2 * positions**2,
            weights=weight.numel(),
            activations=positions * features,
        ):
            return Kept(weight, band.rows, torch.bmm(exact(rows).transpose(1, 2), exact(columns)))

        def form(factors: Factors) -> Tensor:
            scaled, read = factors.times(exact(rows)), factors.counted(exact(columns))
            return torch.mm(scaled.flatten(0, 1).t(), read.flatten(0, 1))

        return Ghost(weight, band.rows, *gram_products(rows.double(), columns.double()), form)


def gram_products(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Squared norms of rows^T columns, (patients,), without forming it: the sum over pairs of positions of the
    product of the two Gram matrices (Goodfellow 2015, arXiv:1510.01799, for one position; Li et al. 2022,
    arXiv:2110.05679, for several). And the square of what its terms amount to, at most: |rows|^2 |columns|^2."""
    terms = rows.square().sum((1, 2)) * columns.square().sum((1, 2))
    if rows.shape[1] == 1:
        return terms, terms
    pairs = torch.bmm(rows, rows.transpose(1, 2)) * torch.bmm(columns, columns.transpose(1, 2))
    return pairs.sum((1, 2)), terms
