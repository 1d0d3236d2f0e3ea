"""The server-independent half of DP-SGD: a sum of clipped gradients, noise, and a division by a constant.

Opacus's `DPOptimizer`, whose interface it keeps, with three changes. Noise comes from a `NoiseStream` (a
cryptographic generator), because torch's generator is seeded and predictable and Opacus's secure mode needs a package
that is not available. Gradients come summed and clipped from `privacy.clipping`, since a patient has many
images. The sum starts at zero, so an empty Poisson batch takes a step of pure noise like any other.

    step:  w <- w - rate * ((sum_p g_p * min(1, C / |g_p|) + N(0, (noise_multiplier * C)^2 I)) / B + mu (w - w_0))

where g_p is a patient's gradient, C is `clip_l2` and B the plan's `nominal_batch_patients` (Abadi et al.,
arXiv:1607.00133, algorithm 1); mu is FedProx's pull towards the round's model w_0 (Li et al., arXiv:1812.06127),
which depends on no patient but through w.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from opacus.optimizers import DPOptimizer

from policies.training import Training
from privacy.noise import NoiseStream


class NoisySGD(DPOptimizer):  # type: ignore[misc] # Opacus ships no types
    """SGD without momentum on noised sums of clipped per-patient gradients."""

    def __init__(
        self,
        parameters: list[torch.nn.Parameter],
        *,
        training: Training,
        noise: NoiseStream | None,
    ) -> None:
        """`noise=None` adds none: for models that never leave the site, and where the ring adds it."""
        super().__init__(
            torch.optim.SGD(parameters, lr=training.learning_rate),
            noise_multiplier=training.noise_multiplier if noise is not None else 0.0,
            max_grad_norm=training.clip_l2,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        self._noise = noise
        self._batch = training.nominal_batch_patients
        self._proximal = training.proximal
        self._origin = [parameter.detach().clone() for parameter in self.params] if training.proximal else []

    def add_noise(self) -> None:
        """One Gaussian draw for all parameters, of standard deviation noise_multiplier * clip_l2 on the sum."""
        total = sum(parameter.numel() for parameter in self.params)
        reference = self.params[0]
        if self._noise is None:
            flat = torch.zeros(total, dtype=torch.float64, device=reference.device)
        else:
            draw = self._noise.gaussian(total, self.noise_multiplier * self.max_grad_norm)
            flat = torch.from_numpy(draw).to(reference.device)
        parts = torch.split(flat, [parameter.numel() for parameter in self.params])
        for parameter, part in zip(self.params, parts, strict=True):
            # Sum and noise meet in float64: what float32 makes of them afterwards concerns no patient.
            noised = (parameter.summed_grad + part.view_as(parameter)) / self._batch
            parameter.grad = noised.to(parameter.dtype)

    def noised(self, clipped: Sequence[torch.Tensor]) -> None:
        """Turn a step's clipped sums, one a parameter in their order, into noised gradients."""
        for parameter, part in zip(self.params, clipped, strict=True):
            parameter.summed_grad = part.view_as(parameter)
        self.add_noise()

    def move(self) -> None:
        """Take the step, forget the gradients."""
        for parameter, origin in zip(self.params, self._origin, strict=False):
            parameter.grad = parameter.grad + self._proximal * (parameter.detach() - origin)
        self.original_optimizer.step()
        for parameter in self.params:
            parameter.grad = None
            parameter.summed_grad = None
