"""How large a plan's network may be. Any published plan makes a site build its network, so size is judged before any
memory is taken: of weights as they are asked for, of an item's activations on torch's `meta` device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import torch
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from tasks.train.metering import Meter
from tasks.train.networks.errors import NetworkSizeError
from tasks.train.networks.item_network import ItemNetwork

MOST_WEIGHTS: Final = 2**28
MOST_TENSORS: Final = 2**17
MOST_ACTIVATION_BYTES: Final = 2**34


class BoundedWeights(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered tensors are made, of `MOST_WEIGHTS` numbers together; NetworkSizeError before the one that
    is too many is allocated. A number that is made and forgotten counts too."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._numbers = self._tensors = 0

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        given = dict(kwargs or {})
        if any(one.name == "device" for one in func._schema.arguments):
            sized = func(*args, **{**given, "device": "meta"})
            self._numbers += sized.numel()
            self._tensors += 1
            if self._numbers > MOST_WEIGHTS or self._tensors > MOST_TENSORS:
                raise _too_large(f"more than {MOST_WEIGHTS:,} weights, or {MOST_TENSORS:,} tensors of them")
        found: object = func(*args, **given)
        return found


def refuse_large_activations(network: ItemNetwork) -> None:
    """Takes the network's weights away. What does not run on `meta` is left to the trial, which says why."""
    network.to("meta").eval()
    meter = Meter()
    with suppress(Exception), meter:
        network(torch.zeros(1, *network.item_shape, device="meta"))
    if meter.peak_bytes > MOST_ACTIVATION_BYTES:
        raise _too_large(f"more than {MOST_ACTIVATION_BYTES >> 30} GiB of activations of one item")


def _too_large(what: str) -> NetworkSizeError:
    return NetworkSizeError(
        f"the network has {what}", remedy="Name fewer channels, layers or a smaller image."
    )
