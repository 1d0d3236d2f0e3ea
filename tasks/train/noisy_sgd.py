"""The server-independent half of DP-SGD: clip each gradient, sum, add noise, divide by a constant.

Opacus's `DPOptimizer` with three changes. Noise comes from a `NoiseStream` (a cryptographic generator),
because torch's generator is seeded and predictable and Opacus's secure mode needs a package that is not
available. A batch is fed in chunks, so memory is bounded. The clipped sum starts at zero, so an empty
Poisson batch takes a step of pure noise like any other.

    step:  w <- w - rate * (sum_i g_i * min(1, C / |g_i|) + N(0, (noise_multiplier * C)^2 I)) / B

where C is `clip_l2` and B the plan's `nominal_batch_patients` (Abadi et al., arXiv:1607.00133, algorithm 1).
"""

from __future__ import annotations

import torch
from opacus.optimizers import DPOptimizer

from policies.training import Training
from privacy.noise import NoiseStream


class NoisySGD(DPOptimizer):  # type: ignore[misc] # Opacus ships no types
    """SGD without momentum on noised, clipped per-sample gradients of a `GradSampleModule`."""

    def __init__(
        self,
        parameters: list[torch.nn.Parameter],
        *,
        training: Training,
        noise: NoiseStream | None,
    ) -> None:
        """`noise=None` clips without adding noise: only for models that never leave the site."""
        super().__init__(
            torch.optim.SGD(parameters, lr=training.learning_rate),
            noise_multiplier=training.noise_multiplier if noise is not None else 0.0,
            max_grad_norm=training.clip_l2,
            expected_batch_size=None,
            loss_reduction="sum",
        )
        self._noise = noise
        self._batch = training.nominal_batch_patients

    def begin(self) -> None:
        """Start a step: no gradient yet, and a clipped sum of zero."""
        self.original_optimizer.zero_grad(set_to_none=True)
        for parameter in self.params:
            parameter.grad_sample = None
            parameter.summed_grad = torch.zeros_like(parameter)

    def accumulate(self) -> None:
        """Clip the per-sample gradients of one backward pass and add them to the sum."""
        self.clip_and_accumulate()
        for parameter in self.params:
            parameter.grad_sample = None
            parameter.grad = None

    def add_noise(self) -> None:
        """One Gaussian draw for all parameters, of standard deviation noise_multiplier * clip_l2 on the sum."""
        total = sum(parameter.numel() for parameter in self.params)
        reference = self.params[0]
        if self._noise is None:
            flat = torch.zeros(total, device=reference.device)
        else:
            draw = self._noise.gaussian(total, self.noise_multiplier * self.max_grad_norm)
            flat = torch.from_numpy(draw).to(reference.device, torch.float32)
        parts = torch.split(flat, [parameter.numel() for parameter in self.params])
        for parameter, part in zip(self.params, parts, strict=True):
            parameter.grad = (parameter.summed_grad + part.view_as(parameter)) / self._batch

    def finish(self) -> None:
        """Add the noise, take the step, forget the gradients."""
        self.add_noise()
        self.original_optimizer.step()
        for parameter in self.params:
            parameter.grad = None
            parameter.summed_grad = None
