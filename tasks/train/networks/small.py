"""A small network for small images, of the kind that learns best under much noise: few weights, bounded activations,
no norms, and pooling, so that it does not hang on where something lies.

The one of Tramèr and Boneh 2021 (arXiv:2011.11660, table 8) and Papernot et al. 2021 (arXiv:2007.14191), with its
widths open. MONAI has nothing like it: its `Classifier` strides without pooling.
"""

from __future__ import annotations

from typing import Final

import torch
from pydantic import Field
from torch import Tensor, nn

from policies.data_contract import DataContract
from policies.document import Document, MalformedDocumentError
from policies.training import Network
from tasks.train.networks.errors import NetworkArgumentError, NetworkShapeError, NetworkUnknownError


class _Arguments(Document):
    channels: tuple[int, int] = (16, 32)
    hidden: tuple[int, ...] = Field(default=(32,), min_length=1, max_length=1)


class SmallConvNet(nn.Module):
    """(n, 1, height_px, width_px) -> (n, 1): two convolutions with tanh and pooling, one hidden layer."""

    def __init__(self, shape: tuple[int, ...], channels: tuple[int, int], hidden: int) -> None:
        super().__init__()
        first, second = channels
        self.features = nn.Sequential(
            nn.Conv2d(1, first, 8, stride=2, padding=3), nn.Tanh(), nn.MaxPool2d(2, stride=1),
            nn.Conv2d(first, second, 4, stride=2), nn.Tanh(), nn.MaxPool2d(2, stride=1),
        )  # fmt: skip
        with torch.no_grad():
            values = self.features(torch.zeros(1, *shape)).numel()
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(values, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits


NAMES: Final = ("SmallConvNet",)
_LEAST_PX: Final = 14


def construct(network: Network, data: DataContract) -> nn.Module:
    """The network of a plan that names it; one of `errors` where the plan's data are nothing for it."""
    if data.image is None or data.image.depth_px is not None or data.target != "label":
        raise NetworkUnknownError(
            f"{network.name} tells labels of two-dimensional images",
            remedy="Name a class of monai.networks.nets.",
        )
    try:
        arguments = _Arguments.from_value(network.arguments, what="network")
    except MalformedDocumentError as error:
        raise NetworkArgumentError(
            error.public_message, remedy="It takes channels (two) and hidden (one)."
        ) from None
    widths = (*arguments.channels, *arguments.hidden)
    if not all(1 <= width <= 4096 for width in widths):
        raise NetworkArgumentError(
            f"{network.name} takes widths of 1 to 4096", remedy="Correct channels and hidden."
        )
    if min(data.shape[1:]) < _LEAST_PX:
        raise NetworkShapeError(
            f"{network.name} takes images from {_LEAST_PX} x {_LEAST_PX} pixels on",
            remedy="Use larger images.",
        )
    return SmallConvNet(data.shape, arguments.channels, arguments.hidden[0])
