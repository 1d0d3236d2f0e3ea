"""DP-SGD at a site: the training step of a round, with the patient as the unit of privacy.

Lives here: the loop over noisy steps and the check that nothing diverged. Clipping and noise are in
`noisy_sgd`, the choice of patients in `sampling`, the cost of it all in `privacy.accounting`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from opacus import GradSampleModule
from torch import nn

from ledger.errors import CodedError
from policies.training import Training
from privacy.noise import NoiseStream
from tasks.train.noisy_sgd import NoisySGD
from tasks.train.sampling import PatientSampler

# Images whose per-sample gradients are held at once; a larger batch is fed in chunks of this size.
CHUNK_IMAGES = 256


class TrainingDivergedError(CodedError):
    """Losses or weights stopped being finite: the model must not be released."""

    code = "train.diverged"


def train_private(
    module: nn.Module,
    images: npt.NDArray[np.float32],
    labels: npt.NDArray[np.integer],
    patients: npt.NDArray[np.integer],
    *,
    training: Training,
    noise: NoiseStream,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, int], None] | None = None,
    withdrawn: Callable[[], npt.NDArray[np.integer]] | None = None,
) -> None:
    """Train `module` in place for `training.steps` noisy steps.

    `images` float32 (n, 1, height_px, width_px) in [0, 1]; `labels` (n,) of 0 and 1; `patients` (n,) names
    each image's patient by any integer. `on_step(done, steps)` is called after every step. `withdrawn()` is asked
    before every step and names, by the same integers, patients who take no part in it nor in any later one; steps
    without anybody left are noise alone.
    Raises `TrainingDivergedError`; the module's weights are then worthless and must not be released.
    """
    sampler = PatientSampler(patients, rate=training.sampling_rate, noise=noise)
    run_steps(
        module,
        images,
        labels,
        sampler,
        training=training,
        noise=noise,
        device=device,
        on_step=on_step,
        withdrawn=withdrawn,
    )


def run_steps(
    module: nn.Module,
    images: npt.NDArray[np.float32],
    labels: npt.NDArray[np.integer],
    sampler: PatientSampler,
    *,
    training: Training,
    noise: NoiseStream | None,
    device: torch.device | str,
    on_step: Callable[[int, int], None] | None,
    withdrawn: Callable[[], npt.NDArray[np.integer]] | None,
) -> None:
    """The loop itself; `noise=None` is for a model that stays at the site (`local_only`)."""
    module.to(device).train()
    inputs = torch.from_numpy(np.ascontiguousarray(images, np.float32)).to(device)
    targets = torch.from_numpy(np.asarray(labels, np.float32)).to(device)
    hooked = GradSampleModule(module, loss_reduction="sum")
    optimizer = NoisySGD(
        [parameter for parameter in module.parameters() if parameter.requires_grad],
        training=training,
        noise=noise,
    )
    try:
        with warnings.catch_warnings():
            # The images need no gradient, which torch remarks on and per-sample hooks do not mind.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            for step in range(training.steps):
                if withdrawn is not None:
                    sampler.exclude(withdrawn())
                optimizer.begin()
                for chunk in torch.split(torch.from_numpy(sampler.draw()), CHUNK_IMAGES):
                    if len(chunk) == 0:
                        continue
                    index = chunk.to(device)
                    logits = hooked(inputs[index])
                    loss = nn.functional.binary_cross_entropy_with_logits(
                        logits, targets[index], reduction="sum"
                    )
                    torch.autograd.backward(loss)
                    optimizer.accumulate()
                optimizer.finish()
                if on_step is not None:
                    on_step(step + 1, training.steps)
    finally:
        hooked.to_standard_module()
    _check_finite(module)


def _check_finite(module: nn.Module) -> None:
    """A loss or gradient that was not finite has made a weight not finite, and it stays so."""
    if not all(bool(torch.isfinite(parameter).all()) for parameter in module.parameters()):
        raise TrainingDivergedError(
            "training diverged: weights are not finite",
            remedy="Lower training.learning_rate; nothing was released.",
        )
