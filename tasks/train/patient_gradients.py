"""Clipped per-patient gradient sums of one logical batch, in as many passes as the memory wants.

A pass holds whole patients with all views of all their items; a patient who is too many for any is fed in parts. What
a pass that ran out of memory had added is nothing, so it is simply done again in smaller ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from policies.training import Training
from privacy.clipping.clipped_sum import ClippedSum
from tasks.train.device import Precision
from tasks.train.examples import Examples
from tasks.train.losses import item_losses
from tasks.train.memory import PassLimit, is_out_of_memory, next_pass
from tasks.train.sampling import Indices
from tasks.train.views import views


class PatientGradients:
    def __init__(
        self,
        module: nn.Module,
        examples: Examples,
        *,
        training: Training,
        device: torch.device | str,
        precision: Precision = "float32",
    ) -> None:
        self._inputs = torch.from_numpy(np.ascontiguousarray(examples.inputs, np.float32))
        self._targets = torch.from_numpy(np.ascontiguousarray(examples.targets, np.float32))
        self._training, self._device = training, device
        self._half = precision == "bfloat16"
        self._limit = PassLimit.for_module(module, self._inputs.shape[1:], device)
        self._sum = ClippedSum(module, clip_l2=training.clip_l2)

    def clipped(self, drawn: Sequence[Indices]) -> list[torch.Tensor]:
        """The sum of the clipped gradients of these patients, each given as its items; one tensor a trainable
        parameter, zeros where nobody was drawn."""
        waiting = deque(drawn)
        while waiting:
            group = next_pass(waiting, views=self._training.views, items=self._limit.items)
            try:
                self._add(group)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._limit.halve()
                waiting.extendleft(reversed(group))
        return self._sum.take()

    def close(self) -> None:
        self._sum.close()

    def _add(self, group: list[Indices]) -> None:
        count = self._training.views
        if len(group) == 1 and len(group[0]) * count > self._limit.items:
            self._add_in_parts(group[0])
            return
        inputs, targets = self._views(np.concatenate(group))
        with self._autocast(enabled=self._half):
            self._sum.add(
                inputs,
                lambda logits: item_losses(logits.float(), targets),
                [len(items) * count for items in group],
            )

    def _add_in_parts(self, items: Indices) -> None:
        targets = self._targets

        def parts() -> Iterator[torch.Tensor]:
            nonlocal targets
            size = max(1, self._limit.items // self._training.views)
            for start in range(0, len(items), size):
                with self._autocast(enabled=False):  # Views are moved in single precision.
                    inputs, targets = self._views(items[start : start + size])
                yield inputs

        with self._autocast(enabled=self._half):
            self._sum.add_one(
                parts(),
                lambda logits: item_losses(logits.float(), targets),
                len(items) * self._training.views,
            )

    def _autocast(self, *, enabled: bool) -> torch.autocast:
        return torch.autocast(torch.device(self._device).type, dtype=torch.bfloat16, enabled=enabled)

    def _views(self, items: Indices) -> tuple[torch.Tensor, torch.Tensor]:
        index = torch.from_numpy(items)
        return views(
            self._inputs[index].to(self._device),
            self._targets[index].to(self._device),
            count=self._training.views,
            augmentation=self._training.augmentation,
        )
