"""Augmented views of items: each is flipped, moved, turned, scaled and brightened at random, its mask with it.

Averaging the gradients of several views of a patient's images before they are clipped costs no privacy and was what
helped most in De et al. 2022 (arXiv:2204.13650, section 3.3). All that is random here is independent of the data and
comes from torch's generator, which a training has seeded (`torch_generator`). One interpolation does all the
geometry.
"""

from __future__ import annotations

import math

import torch
from torch.nn.functional import affine_grid, grid_sample

from policies.training import Augmentation


def views(
    inputs: torch.Tensor, targets: torch.Tensor, *, count: int, augmentation: Augmentation | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` views of each of (n, channels, *spatial) inputs with their targets, those of one item side by side.

    Without an augmentation the items themselves. Spatial dimensions are two, or three, of which only the last two are
    turned. Inputs and views are in [0, 1].
    """
    if augmentation is None:
        return inputs, targets
    inputs = inputs.repeat_interleave(count, dim=0)
    targets = targets.repeat_interleave(count, dim=0)
    moves = _moves(inputs, augmentation)
    inputs = _moved(inputs, moves, mode="bilinear")
    if targets.ndim > 1:
        targets = _moved(targets, moves, mode="nearest")
    if augmentation.contrast:
        each = (len(inputs), *(1 for _ in inputs.shape[1:]))
        gain = 1.0 + _uniform(each, augmentation.contrast, inputs)
        shift = _uniform(each, augmentation.contrast / 2, inputs)
        inputs = ((inputs - 0.5) * gain + 0.5 + shift).clamp(0.0, 1.0)
    return inputs, targets


def _moves(inputs: torch.Tensor, augmentation: Augmentation) -> torch.Tensor:
    """One affine map an item, (n, d, d + 1), from places of a view to places of the item; the x axis comes first."""
    count, dimensions = len(inputs), inputs.ndim - 2
    angle = _uniform((count,), math.radians(augmentation.rotate_degrees), inputs)
    scale = 1.0 + _uniform((count,), augmentation.scale, inputs)
    maps = torch.zeros(count, dimensions, dimensions + 1, dtype=inputs.dtype, device=inputs.device)
    maps[:, 0, 0] = maps[:, 1, 1] = scale * torch.cos(angle)
    maps[:, 0, 1], maps[:, 1, 0] = -scale * torch.sin(angle), scale * torch.sin(angle)
    if dimensions == 3:
        maps[:, 2, 2] = scale
    if augmentation.flip:
        maps[:, :, 0] *= 1.0 - 2.0 * torch.randint(0, 2, (count, 1), device=inputs.device)
    for axis, length in enumerate(reversed(inputs.shape[2:])):  # grids count in halves of a side
        maps[:, axis, -1] = _uniform((count,), 2.0 * augmentation.shift_px / length, inputs)
    return maps


def _moved(items: torch.Tensor, moves: torch.Tensor, *, mode: str) -> torch.Tensor:
    grid = affine_grid(moves, list(items.shape), align_corners=False)
    return grid_sample(items, grid, mode=mode, padding_mode="border", align_corners=False)


def _uniform(shape: tuple[int, ...], most: float, like: torch.Tensor) -> torch.Tensor:
    return (2.0 * torch.rand(shape, dtype=like.dtype, device=like.device) - 1.0) * most
