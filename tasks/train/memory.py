"""How many items fit into one pass: a bound from what the network keeps of one item, and less where it was too much.

The logical batch of a step never depends on it: a step is fed in as many passes as it takes, and its sum is the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import torch
from torch import nn

from ledger.errors import CodedError
from tasks.train.sampling import Indices

_CPU_BYTES: Final = 2**30
_MOST_ITEMS: Final = 256
"""More are no faster on one core."""


class OutOfMemoryError(CodedError):
    """Not even one item fits."""

    code = "train.memory"


class PassLimit:
    """How many items one pass may hold; halved when the device runs out of memory."""

    def __init__(self, items: int) -> None:
        self.items = max(1, items)

    @classmethod
    def for_module(cls, module: nn.Module, shape: Sequence[int], device: torch.device | str) -> PassLimit:
        """From one item of `shape`: what autograd keeps of it, twice, since clipping keeps output gradients too."""
        kept = 0

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += tensor.numel() * tensor.element_size()
            return tensor

        training = module.training
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            module.eval()(torch.zeros(1, *shape, device=device))
        module.train(training)
        room = _CPU_BYTES
        if torch.device(device).type == "cuda":
            room = torch.cuda.mem_get_info(device)[0] // 2
        return cls(min(_MOST_ITEMS, room // max(1, 2 * kept)))

    def halve(self) -> None:
        """After a pass that did not fit; raises `OutOfMemoryError` where there was one item in it."""
        if self.items == 1:
            raise OutOfMemoryError(
                "one item alone is too large for the memory of this device",
                remedy="Use a device with more memory, or a plan with a smaller image or network.",
            )
        self.items //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def next_pass(waiting: deque[Indices], *, views: int, items: int) -> list[Indices]:
    """Take from `waiting` the whole patients that fit into one pass of so many items, each in so many views; or one
    patient who fits into none, to be fed in parts."""
    group = [waiting.popleft()]
    size = len(group[0]) * views
    while waiting and size + len(waiting[0]) * views <= items:
        size += len(waiting[0]) * views
        group.append(waiting.popleft())
    return group


def is_out_of_memory(error: RuntimeError) -> bool:
    """On any device; torch has no class of its own for the CPU's."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
