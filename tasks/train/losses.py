"""One loss an item, which per-patient clipping needs: of a label, or of a mask.

A label: binary cross-entropy. A mask: the mean over its pixels of binary cross-entropy, plus the soft Dice loss of
the item (Milletari et al. 2016, arXiv:1606.04797, with MONAI's smoothing), because lesions are few of the pixels.
"""

from __future__ import annotations

from typing import Final

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

_SMOOTH: Final = 1e-5


def item_losses(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """(n,) logits and targets, or (n, 1, *spatial) of both, to (n,) losses."""
    if targets.ndim == 1:
        return binary_cross_entropy_with_logits(logits, targets, reduction="none")
    logits, targets = logits.flatten(1), targets.flatten(1)
    entropy = binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)
    found = torch.sigmoid(logits)
    overlap = (found * targets).sum(dim=1)
    dice = (2.0 * overlap + _SMOOTH) / (found.sum(dim=1) + targets.sum(dim=1) + _SMOOTH)
    losses: torch.Tensor = entropy + 1.0 - dice
    return losses
