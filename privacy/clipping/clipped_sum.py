"""Per-patient clipped gradient sums of one logical batch, one patient at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

from ledger.errors import CodedError

Losses = Callable[[torch.Tensor], torch.Tensor]


class ClippingError(CodedError):
    code = "clipping.non-finite"


class ClippedSum:
    def __init__(self, module: nn.Module, *, clip_l2: float) -> None:
        self._module, self._clip = module, clip_l2
        self._trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._sums = self._zeros()

    def _zeros(self) -> list[torch.Tensor]:
        return [torch.zeros_like(parameter) for parameter in self._trained]

    def add(self, inputs: torch.Tensor, losses: Losses, patients: Sequence[int]) -> None:
        each, start = losses(self._module(inputs)), 0
        for count in patients:
            self._clipped(
                torch.autograd.grad(each[start : start + count].mean(), self._trained, retain_graph=True)
            )
            start += count

    def add_one(self, chunks: Iterable[torch.Tensor], losses: Losses, items: int) -> None:
        total = self._zeros()
        for chunk in chunks:
            parts = torch.autograd.grad(losses(self._module(chunk)).sum() / items, self._trained)
            total = [one + part for one, part in zip(total, parts, strict=True)]
        self._clipped(total)

    def _clipped(self, gradient: Sequence[torch.Tensor]) -> None:
        norm = math.sqrt(sum(float((part.double() ** 2).sum()) for part in gradient))
        if not math.isfinite(norm):
            raise ClippingError("a gradient is not finite")
        factor = min(1.0, self._clip / (norm + 1e-12))
        for total, part in zip(self._sums, gradient, strict=True):
            total += part.detach() * factor

    def take(self) -> list[torch.Tensor]:
        sums, self._sums = self._sums, self._zeros()
        return sums

    def close(self) -> None:
        """Nothing is hooked."""
