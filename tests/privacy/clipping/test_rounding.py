"""How far one patient's company moves the others' part of a sum: what the slack of the clip is left for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from privacy.clipping import clipped_sum
from privacy.clipping.clipped_sum import ClippedSum
from tests.privacy.clipping import by_hand
from tests.privacy.clipping.test_networks import densenet121, resnet18, segresnet, unet, without_batch_norm

COUNT = 24


@pytest.mark.parametrize(
    ("make", "sides"),
    [
        (densenet121, (32, 32)),
        (lambda: resnet18(2), (32, 32)),
        (lambda: unet(3), (16, 16, 16)),
        (segresnet, (16, 16, 16)),
    ],
    ids=["DenseNet121", "ResNet18", "UNet", "SegResNet"],
)
@pytest.mark.parametrize("gone", [0, 7, COUNT - 1])
def test_company_moves_the_others_by_far_less_than_the_slack(
    make: Callable[[], nn.Module], sides: tuple[int, ...], gone: int
) -> None:
    """The patient is there in one pass, with a gradient of exactly zero, and in the other is not."""
    torch.manual_seed(0)
    module = without_batch_norm(make()).eval()
    inputs = torch.randn(COUNT, 1, *sides)
    losses_of = by_hand.squared_losses(COUNT)
    others = torch.arange(COUNT) != gone

    def muted(outputs: Tensor) -> Tensor:
        return losses_of(slice(None))(outputs) * others

    def alone(outputs: Tensor) -> Tensor:
        flat = torch.zeros(COUNT, outputs[0].numel()).index_put((others,), outputs.flatten(1))
        return losses_of(slice(None))(flat)[others]

    total = ClippedSum(module, clip_l2=1e-3)
    total.add(inputs, muted, [1] * COUNT)
    with_company = total.take()
    total.add(inputs[others], alone, [1] * (COUNT - 1))
    without = total.take()
    moved = by_hand.norm([one - other for one, other in zip(with_company, without, strict=True)]) / 1e-3
    assert by_hand.norm(without) > 0.0 and moved < clipped_sum._SLACK / 4
