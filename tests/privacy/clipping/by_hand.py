"""The same sum by brute force: every patient alone through a copy of the network, by ordinary autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

LossesOf = Callable[[slice], Callable[[Tensor], Tensor]]


def gradients(
    module: nn.Module, inputs: Tensor, losses_of: LossesOf, patients: Sequence[int]
) -> list[list[Tensor]]:
    """Each patient's gradient of the mean of the patient's losses, unclipped."""
    found, start = [], 0
    for count in patients:
        copy = deepcopy(module)
        trained = [value for value in copy.parameters() if value.requires_grad]
        items = slice(start, start + count)
        loss = losses_of(items)(copy(inputs[items])).mean()
        parts = torch.autograd.grad(loss, trained, allow_unused=True)
        found.append(
            [
                torch.zeros_like(value) if part is None else part
                for value, part in zip(trained, parts, strict=True)
            ]
        )
        start += count
    return found


def norm(parts: Sequence[Tensor]) -> float:
    return float(torch.stack([part.double().square().sum() for part in parts]).sum().sqrt())


def clipped_sum(each: Sequence[Sequence[Tensor]], clip_l2: float) -> list[Tensor]:
    factors = [min(1.0, clip_l2 / norm(parts)) if norm(parts) else 1.0 for parts in each]
    return [
        torch.stack([factor * part for factor, part in zip(factors, parts, strict=True)]).sum(0)
        for parts in zip(*each, strict=True)
    ]


def squared_losses(items: int, *, scale: float = 1.0, seed: int = 1) -> LossesOf:
    """One loss an item that depends on every output, with a target of its own for each item."""
    targets = torch.randn(items, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def losses_of(part: slice) -> Callable[[Tensor], Tensor]:
        def losses(outputs: Tensor) -> Tensor:
            flat = outputs.flatten(1)
            places = torch.linspace(0.5, 1.5, flat.shape[1], dtype=flat.dtype)
            return scale * ((flat * places).mean(1) - targets[part].to(flat.dtype)).square()

        return losses

    return losses_of


def distance(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Of the largest expected value."""
    most = max(float(value.abs().max()) for value in expected)
    far = max(float((one - other).abs().max()) for one, other in zip(found, expected, strict=True))
    return far / most
