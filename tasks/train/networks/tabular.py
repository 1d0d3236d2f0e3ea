"""Networks for tables: rows of values in, one logit a row out."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from policies.data_contract import DataContract
from policies.document import Document, MalformedDocumentError
from policies.training import Network
from tasks.train.networks.errors import NetworkArgumentError, NetworkUnknownError


class _LogisticArguments(Document):
    prevalence: Annotated[float, Field(gt=0, lt=1)] = 0.5


class _MLPArguments(Document):
    hidden: tuple[int, ...] = Field(default=(16, 8), min_length=1, max_length=16)
    act: Literal["tanh", "relu"] = "tanh"
    norm: Literal["group"] | None = None


class LogisticRegression(nn.Module):
    """(n, values) -> (n, 1). It begins without looking at any value: every party has the same first weights, whatever
    the seed.

    `prevalence` is how many have the second label, from knowledge and never from the data. The bias begins where it
    predicts that, so that no noisy step is spent on finding it (Lin et al. 2017, arXiv:1708.02002, section 4.1).
    """

    def __init__(self, values: int, *, prevalence: float = 0.5) -> None:
        super().__init__()
        self.linear = nn.Linear(values, 1)
        nn.init.zeros_(self.linear.weight)
        # `decimal`, unlike a machine's logarithm, has the same digits everywhere.
        share = Decimal(prevalence)
        nn.init.constant_(self.linear.bias, float((share / (1 - share)).ln()))

    def forward(self, rows: Tensor) -> Tensor:
        logits: Tensor = self.linear(rows)
        return logits


class MLP(nn.Module):
    """(n, values) -> (n, 1), layers of `hidden` widths between."""

    def __init__(
        self, values: int, hidden: tuple[int, ...], *, act: Literal["tanh", "relu"], norm_groups: int | None
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden:
            layers.append(nn.Linear(values, width))
            if norm_groups is not None:
                # A group of one value would leave nothing of it.
                layers.append(nn.GroupNorm(divisor(width, min(norm_groups, max(1, width // 2))), width))
            layers.append(nn.Tanh() if act == "tanh" else nn.ReLU())
            values = width
        self.layers = nn.Sequential(*layers, nn.Linear(values, 1))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        logits: Tensor = self.layers(rows)
        return logits


NAMES: Final = ("LogisticRegression", "MLP")


def construct(network: Network, data: DataContract) -> nn.Module:
    """The network of a plan whose data are a table; NetworkArgumentError names what it does not take."""
    if data.table is None:
        raise NetworkUnknownError(
            f"{network.name} learns from a table, and the plan's data are images",
            remedy="Name a class of monai.networks.nets.",
        )
    (values,) = data.shape
    kind = _LogisticArguments if network.name == "LogisticRegression" else _MLPArguments
    try:
        arguments = kind.from_value(network.arguments, what="network")
    except MalformedDocumentError as error:
        raise NetworkArgumentError(
            error.public_message,
            remedy="MLP takes hidden, act (tanh or relu) and norm (group); LogisticRegression prevalence.",
        ) from None
    if isinstance(arguments, _LogisticArguments):
        return LogisticRegression(values, prevalence=arguments.prevalence)
    if not all(1 <= width <= 4096 for width in arguments.hidden):
        raise NetworkArgumentError("MLP takes widths of 1 to 4096", remedy="Correct network.hidden.")
    groups = network.norm_groups if arguments.norm == "group" else None
    return MLP(values, arguments.hidden, act=arguments.act, norm_groups=groups)


def divisor(channels: int, most: int) -> int:
    """The largest number of groups that divides the channels, at most `most`."""
    return max(groups for groups in range(1, min(most, channels) + 1) if channels % groups == 0)
