"""MONAI's networks, as they come but for batch norm, against every patient alone in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from privacy.clipping.clipped_sum import ClippedSum
from tests.privacy.clipping import by_hand


def without_batch_norm(module: nn.Module) -> nn.Module:
    """Group norm in the place of batch norm, everywhere below."""
    for name, part in module.named_children():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            groups = next(count for count in (8, 4, 2, 1) if part.num_features % count == 0)
            setattr(module, name, nn.GroupNorm(groups, part.num_features))
        else:
            without_batch_norm(part)
    return module


def densenet121() -> nn.Module:
    from monai.networks.nets.densenet import DenseNet121

    return DenseNet121(spatial_dims=2, in_channels=1, out_channels=1, init_features=16, growth_rate=4)


def resnet18(dimensions: int) -> nn.Module:
    from monai.networks.nets.resnet import resnet18

    return resnet18(spatial_dims=dimensions, n_input_channels=1, num_classes=1, widen_factor=0.25)


def unet(dimensions: int) -> nn.Module:
    from monai.networks.nets.unet import UNet

    return UNet(
        spatial_dims=dimensions,
        in_channels=1,
        out_channels=1,
        channels=(4, 8, 16),
        strides=(2, 2),
        num_res_units=2,
    )


def basic_unet() -> nn.Module:
    from monai.networks.nets.basic_unet import BasicUNet

    return BasicUNet(spatial_dims=2, in_channels=1, out_channels=1, features=(4, 4, 8, 8, 16, 4))


def segresnet() -> nn.Module:
    from monai.networks.nets.segresnet import SegResNet

    return SegResNet(
        spatial_dims=3, init_filters=8, in_channels=1, out_channels=1, blocks_down=(1, 1), blocks_up=(1,)
    )


def attention_unet() -> nn.Module:
    from monai.networks.nets.attentionunet import AttentionUnet

    return AttentionUnet(spatial_dims=2, in_channels=1, out_channels=1, channels=(4, 8, 16), strides=(2, 2))


def vit() -> nn.Module:
    pytest.importorskip("einops")
    from monai.networks.nets.vit import ViT

    class First(nn.Module):
        """The class' logits alone; the positions are frozen, as they belong to no layer."""

        def __init__(self) -> None:
            super().__init__()
            self.vit = ViT(
                in_channels=1,
                img_size=(16, 16),
                patch_size=(8, 8),
                spatial_dims=2,
                hidden_size=24,
                mlp_dim=48,
                num_layers=2,
                num_heads=3,
                classification=True,
                num_classes=1,
                post_activation="",
            )
            for name, value in self.named_parameters():
                if name.endswith(("cls_token", "position_embeddings")):
                    value.requires_grad_(False)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.vit(images)[0]
            return logits

    return First()


def efficientnet() -> nn.Module:
    from monai.networks.nets.efficientnet import EfficientNetBN

    return EfficientNetBN("efficientnet-b0", spatial_dims=2, in_channels=1, num_classes=1, pretrained=False)


@pytest.mark.parametrize(
    ("make", "sides"),
    [
        (densenet121, (32, 32)),
        (lambda: resnet18(2), (32, 32)),
        (lambda: resnet18(3), (16, 16, 16)),
        (lambda: unet(2), (16, 16)),
        (lambda: unet(3), (8, 8, 8)),
        (basic_unet, (32, 32)),
        (segresnet, (8, 8, 8)),
        (attention_unet, (16, 16)),
        (vit, (16, 16)),
        (efficientnet, (32, 32)),
    ],
    ids=[
        "DenseNet121",
        "ResNet18, 2-D",
        "ResNet18, 3-D",
        "UNet, 2-D",
        "UNet, 3-D",
        "BasicUNet",
        "SegResNet",
        "AttentionUnet",
        "ViT",
        "EfficientNetBN",
    ],
)
def test_a_network_agrees_with_every_patient_alone(
    make: Callable[[], nn.Module], sides: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    module = without_batch_norm(make()).double().eval()  # Nothing is dropped at random.
    inputs = torch.randn(3, 1, *sides, dtype=torch.float64)
    losses_of = by_hand.squared_losses(3)
    patients = [1, 2]
    each = by_hand.gradients(module, inputs, losses_of, patients)
    clip_l2 = sum(by_hand.norm(parts) for parts in each) / 2  # One is clipped and one is not.
    total = ClippedSum(module, clip_l2=clip_l2)
    total.add(inputs, losses_of(slice(None)), patients)
    assert by_hand.distance(total.take(), by_hand.clipped_sum(each, clip_l2)) < 1e-8
