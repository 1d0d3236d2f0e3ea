"""A site's own comparison model: what it would reach alone, with as many steps and no noise.

It answers the steward's question "what do we gain from taking part?" and never leaves the site. It runs the
same loop as `private` with the same clipping, without noise, and divides by the site's true expected batch:
both would be releases if this model were one. Its scores are the site's own; printed elsewhere they would
need a declared mechanism.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from policies.training import Training
from privacy.noise import NoiseStream
from tasks.train.private import run_steps
from tasks.train.sampling import PatientSampler


def train_local(
    module: nn.Module,
    images: npt.NDArray[np.float32],
    labels: npt.NDArray[np.integer],
    patients: npt.NDArray[np.integer],
    *,
    training: Training,
    rounds: int,
    sampling: NoiseStream,
    device: torch.device | str = "cpu",
    on_step: Callable[[int, int], None] | None = None,
    withdrawn: Callable[[], npt.NDArray[np.integer]] | None = None,
) -> None:
    """Train `module` in place, without privacy, for the steps that the site would spend in all rounds.

    Arrays and `withdrawn` as in `private.train_private`; `sampling` only chooses the batches.
    """
    sampler = PatientSampler(patients, rate=training.sampling_rate, noise=sampling)
    own = training.model_copy(
        update={
            "steps": training.steps * rounds,
            "nominal_batch_patients": max(training.sampling_rate * sampler.patients, 1.0),
        }
    )
    run_steps(
        module,
        images,
        labels,
        sampler,
        training=own,
        noise=None,
        device=device,
        on_step=on_step,
        withdrawn=withdrawn,
    )
