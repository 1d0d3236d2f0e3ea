"""How many items fit into one pass: a bound from what one item more takes in a clipped pass, and less where it was
too much.

The logical batch of a step never depends on it: a step is fed in as many passes as it takes, and its sum is the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import torch
from torch import nn

from ledger.errors import CodedError
from privacy.clipping.clipped_sum import ClippedSum
from tasks.train.metering import Meter
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
        """From clipped passes of two and of three items of `shape`: what the third takes, at most, at the same place
        of both. Weights and their sums are there once, however many items there are.

        Raises `OutOfMemoryError` where not one item fits; where three do not, passes are of as many as did."""
        room = _CPU_BYTES
        if torch.device(device).type == "cuda":
            room = torch.cuda.mem_get_info(device)[0] // 2
        courses: list[list[int]] = []
        training = module.training
        try:
            for items in (1, 2, 3):  # One alone goes by shorter ways than several.
                courses.append(_course_bytes(module.eval(), torch.zeros(items, *shape, device=device)))
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        finally:
            module.train(training)
        if len(courses) == 3:
            return cls(min(_MOST_ITEMS, room // max(1, _between(courses[1], courses[2]))))
        limit = cls(len(courses))
        if not courses:
            limit.halve()
        return limit

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


def _between(one: list[int], other: list[int]) -> int:
    """The most by which `other` lies above `one`; its peak where they are not of the same operations."""
    return (
        max(after - before for before, after in zip(one, other, strict=True))
        if len(one) == len(other)
        else max(other)
    )


def _course_bytes(module: nn.Module, items: torch.Tensor) -> list[int]:
    """Of a clipped pass with one patient an item, beside the weights."""
    total = ClippedSum(module, clip_l2=1.0)
    with Meter() as meter:
        total.add(items, lambda logits: logits.reshape(len(logits), -1).square().mean(1), [1] * len(items))
    course: list[int] = meter.course_bytes
    return course


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
