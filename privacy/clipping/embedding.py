"""Embeddings: (n, ...) indices to (n, ..., features). A patient's gradient is zero outside the rows that it looked
up, so its norm is taken from pairs of look-ups of the same row, and no table a patient is formed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from privacy.clipping.contribution import Contribution, Factors, Ghost, Kept
from privacy.clipping.layer import Layer, Wanted, exact
from privacy.clipping.patients import Band


class EmbeddingLayer(Layer[nn.Embedding]):
    def run(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return nn.functional.embedding(inputs, self.module.weight), ()

    def backward(
        self, outputs_gradient: Tensor, inputs: Tensor, extras: tuple[Tensor, ...], wanted: Wanted
    ) -> tuple[Tensor | None, list[Contribution]]:
        found: list[Contribution] = []
        for band in wanted.bands:
            rows = exact(band.of(outputs_gradient)).reshape(band.patients, -1, self.module.embedding_dim)
            places = band.of(inputs).reshape(band.patients, -1)
            if self.module.padding_idx is not None:
                rows = rows.masked_fill((places == self.module.padding_idx).unsqueeze(2), 0.0)
            found.append(self._weight(rows, places, band, alone=wanted.alone))
        return None, found

    def _weight(self, rows: Tensor, places: Tensor, band: Band, *, alone: bool) -> Contribution:
        weight = self.module.weight
        if not alone:
            tables = rows.new_zeros((band.patients, *weight.shape))
            where = places.unsqueeze(2).expand(-1, -1, rows.shape[2])
            return Kept(weight, band.rows, tables.scatter_add_(1, where, rows))

        def form(factors: Factors) -> Tensor:
            table = rows.new_zeros(weight.shape)
            return table.index_add_(0, places.flatten(), factors.times(rows).flatten(0, 1))

        exactly = rows.double()
        same = (places.unsqueeze(1) == places.unsqueeze(2)).double()
        squares = (torch.bmm(exactly, exactly.transpose(1, 2)) * same).sum((1, 2))
        terms = exactly.square().sum((1, 2)) * exactly.shape[1]
        return Ghost(weight, band.rows, squares, terms, form)
