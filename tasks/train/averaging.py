"""A moving average of the weights over noisy steps: what a site sends in place of the last, noisier weights.

Post-processing of steps that were paid for, so it is free. The decay grows to the plan's over the first steps, or the
average would be of the round's first weights (De et al. 2022, arXiv:2204.13650, section 3.4).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch


class Averaging:
    def __init__(self, parameters: Iterable[torch.nn.Parameter], *, decay: float) -> None:
        self._parameters = list(parameters)
        self._decay = decay
        self.values = [parameter.detach().clone() for parameter in self._parameters]

    def take(self, step: int) -> None:
        """Count in the weights after `step`, the first of which is 1."""
        decay = min(self._decay, step / (step + 9.0))
        for value, parameter in zip(self.values, self._parameters, strict=True):
            value.lerp_(parameter.detach(), 1.0 - decay)

    def put(self) -> None:
        """Make the average the weights."""
        with torch.no_grad():
            for value, parameter in zip(self.values, self._parameters, strict=True):
                parameter.copy_(value)
