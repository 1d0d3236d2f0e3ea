"""A site's own comparison model: what it would reach alone, with as many steps and no noise.

It answers the steward's question "what do we gain from taking part?" and never leaves the site. It runs the
same loop as `private` with the same clipping, without noise, and divides by the site's true expected batch:
both would be releases if this model were one. Its scores are the site's own; printed elsewhere they would
need a declared mechanism.
"""

from __future__ import annotations

from torch import nn

from policies.training import Training
from privacy.noise import NoiseStream
from tasks.train.examples import Examples
from tasks.train.private import Running, run_steps
from tasks.train.sampling import PatientSampler


def train_local(
    module: nn.Module,
    examples: Examples,
    *,
    training: Training,
    rounds: int,
    sampling: NoiseStream,
    running: Running | None = None,
) -> None:
    """Train `module` in place, without privacy, for the steps that the site would spend in all rounds.

    `sampling` only chooses the batches.
    """
    sampler = PatientSampler(examples.patients, rate=training.sampling_rate, noise=sampling)
    own = training.model_copy(
        update={
            "steps": training.steps * rounds,
            "nominal_batch_patients": max(training.sampling_rate * sampler.patients, 1.0),
        }
    )
    run_steps(module, examples, sampler, training=own, noise=None, running=running or Running())
