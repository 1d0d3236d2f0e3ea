"""What one layer adds to the clipped sum for a band of patients: squared norms now, a weighted sum later.

Squares and factors are float64: a norm that rounding made too small would let a patient pass the clip. Whoever has a
factor of zero is kept out by writing zeros, since zero times what is not finite is not zero.
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

_FORMED: Final = 2.0**-12
"""Of what a ghost's terms amount to, for rounding them in float32: as many as 4096, one after the other."""
_FORMED_DOUBLE: Final = 2.0**-40


@dataclass(frozen=True, slots=True)
class Factors:
    """How much each patient of a band counts: `each` (patients,) float64; `nobody` (patients,) marks the zeros among
    them, None where there are none."""

    each: Tensor
    nobody: Tensor | None

    def of(self, rows: slice) -> Factors:
        return Factors(self.each[rows], None if self.nobody is None else self.nobody[rows])

    def times(self, batch: Tensor) -> Tensor:
        """(patients * k, ...), a patient's rows side by side, each times the patient's factor."""
        return self.counted(batch * self._over(self.each.to(batch.dtype), batch))

    def counted(self, batch: Tensor) -> Tensor:
        """The same rows with zeros for whoever does not count."""
        return batch if self.nobody is None else batch.masked_fill(self._over(self.nobody, batch), 0.0)

    def _over(self, values: Tensor, batch: Tensor) -> Tensor:
        rows = batch.shape[0] // values.shape[0]
        each = values if rows == 1 else values.repeat_interleave(rows)
        return each.view(-1, *[1] * (batch.dim() - 1))


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

    def weighted(self, factors: Factors) -> Tensor:
        """Sum over the patients of factor times gradient, of the parameter's shape."""
        flat = factors.counted(self.gradients.flatten(1))
        return torch.mv(flat.t(), factors.each.to(flat.dtype)).view(self.parameter.shape)


@dataclass(slots=True)
class Ghost:
    """Only each patient's squared norm, (patients,) float64, and the means to form the weighted sum.

    The norm is that of exact arithmetic, and the sum is rounded: terms that cancel each other leave an error that has
    nothing to do with the norm. `terms_squared` (patients,) float64 bounds the square of what all terms' norms add up
    to, and a part of it counts as norm. So what is formed is no longer than `squares` says, whatever cancels.
    """

    parameter: Tensor
    rows: slice
    norms_squared: Tensor
    terms_squared: Tensor
    form: Callable[[Factors], Tensor]

    def squares(self) -> Tensor:
        part = _FORMED_DOUBLE if self.parameter.dtype == torch.float64 else _FORMED
        # A norm from Gram matrices that is zero may come out a little below.
        return self.norms_squared.clamp(min=0.0) + part**2 * self.terms_squared

    def weighted(self, factors: Factors) -> Tensor:
        return self.form(factors).view(self.parameter.shape)


Contribution: TypeAlias = Kept | Ghost
