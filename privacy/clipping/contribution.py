"""What one layer adds to the clipped sum for a band of patients: squared norms now, a weighted sum later.

Squares and factors are float64: a norm that rounding made too small would let a patient pass the clip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import torch
from torch import Tensor

_RUN: Final = 256
"""So many squares are summed in the gradient's own type, with an error of few parts in 2^24, and runs in float64:
half the time of float64 throughout."""

_FEW: Final = 4096


@dataclass(slots=True)
class Kept:
    """Each patient's gradient of a parameter, (patients, *parameter.shape), at least float32."""

    parameter: Tensor
    rows: slice
    gradients: Tensor

    def squares(self) -> Tensor:
        """(patients,) float64 squared norms."""
        flat = self.gradients.flatten(1)
        if flat.shape[1] <= _FEW:
            norms: Tensor = torch.linalg.vector_norm(flat, dim=1, dtype=torch.float64)
            return norms.square()
        whole = flat.shape[1] // _RUN * _RUN
        runs: Tensor = torch.linalg.vector_norm(flat[:, :whole].reshape(len(flat), -1, _RUN), dim=2)
        rest: Tensor = torch.linalg.vector_norm(flat[:, whole:], dim=1, dtype=torch.float64)
        return runs.double().square().sum(1) + rest.square()

    def weighted(self, factors: Tensor) -> Tensor:
        """Sum over the patients of factor times gradient, of the parameter's shape; `factors` (patients,) float64."""
        flat = self.gradients.flatten(1)
        return torch.mv(flat.t(), factors.to(flat.dtype)).view(self.parameter.shape)


@dataclass(slots=True)
class Ghost:
    """Only each patient's squared norm, (patients,) float64, and the means to form the weighted sum."""

    parameter: Tensor
    rows: slice
    norms_squared: Tensor
    form: Callable[[Tensor], Tensor]

    def squares(self) -> Tensor:
        return self.norms_squared

    def weighted(self, factors: Tensor) -> Tensor:
        return self.form(factors).view(self.parameter.shape)


Contribution: TypeAlias = Kept | Ghost
