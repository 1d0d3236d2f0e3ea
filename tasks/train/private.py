"""DP-SGD at a site: the training step of a round, with the patient as the unit of privacy.

Lives here: the loop over steps, what is fed to them in passes that fit the memory, and the check that nothing
diverged. Clipping is `privacy.clipping`, noise `noisy_sgd`, the choice of patients `sampling`, the cost of it all
`privacy.accounting`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ledger.errors import CodedError
from policies.training import Training
from privacy.noise import NoiseStream
from tasks.train import networks
from tasks.train.averaging import Averaging
from tasks.train.checkpoint import Checkpoint, CheckpointError, Checkpoints
from tasks.train.device import Precision
from tasks.train.examples import Examples
from tasks.train.noisy_sgd import NoisySGD
from tasks.train.patient_gradients import PatientGradients
from tasks.train.sampling import PatientSampler
from tasks.train.torch_generator import freshly_seeded

CHECKPOINT_S = 5.0
"""Between two checkpoints, at least; the first is written before the first step."""
Delta = npt.NDArray[np.float64]


class TrainingDivergedError(CodedError):
    """Noised weights stopped being finite: the model must not be released.

    Judged on what carries its noise alone. Whether a gradient was finite is one patient's, and a site that reports or
    does not would tell it without any noise; such a patient adds nothing instead (`privacy.clipping`). An update
    whose noise comes in the ring is not judged here: the model that it began from was finite, or was no model.
    """

    code = "train.diverged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How training runs at this site; nothing of it changes what the plan promises."""

    device: torch.device | str = "cpu"
    precision: Precision = "float32"
    """Of the forward pass and its gradients by layer; norms, sums and noise are never below single precision."""
    on_step: Callable[[int, int], None] | None = None
    """Called with (done, steps) after every step."""
    withdrawn: Callable[[], npt.NDArray[np.integer]] | None = None
    """Asked before every step; names patients, as the examples do, who take no part in it nor in any later one."""
    checkpoints: Checkpoints | None = None


def train_private(
    module: nn.Module,
    examples: Examples,
    *,
    training: Training,
    noise: NoiseStream,
    running: Running | None = None,
) -> Delta:
    """Train `module` in place for `training.steps` noisy steps; by how much its weights moved, (total,) float64 in
    the order of `networks.flatten`.

    Steps without anybody left are noise alone. Raises `TrainingDivergedError` where noised weights are not finite:
    they are worthless and must not be released.
    """
    start = networks.flatten(networks.extract(module)).astype(np.float64)
    sampler = PatientSampler(examples.patients, rate=training.sampling_rate, noise=noise)
    running = running or Running()
    with freshly_seeded(noise, running.device):
        run_steps(module, examples, sampler, training=training, noise=noise, running=running)
    return networks.flatten(networks.extract(module)) - start


def clipped_update(
    module: nn.Module,
    examples: Examples,
    *,
    training: Training,
    noise: NoiseStream,
    running: Running | None = None,
) -> Delta:
    """One step's update without its noise, which the ring adds: -learning_rate * (sum of clipped gradients) /
    nominal_batch_patients, (total,) float64 in the order of `networks.flatten`. The module stays as it is.

    One patient moves it by at most learning_rate * clip_l2 / nominal_batch_patients. It is patients' data until the
    noise is on it; `noise` draws the sample and a seed. A crash before that costs no second reservation: the step is
    taken anew, since nothing of the first one left the site.
    """
    running = running or Running()
    _keep(module, None, 0, running.checkpoints)
    sampler = PatientSampler(examples.patients, rate=training.sampling_rate, noise=noise)
    module.to(running.device).train()
    gradients = PatientGradients(
        module, examples, training=training, device=running.device, precision=running.precision
    )
    try:
        if running.withdrawn is not None:
            sampler.exclude(running.withdrawn())
        with freshly_seeded(noise, running.device):
            sums = gradients.clipped(sampler.draw())
    finally:
        gradients.close()
    update = {name: np.zeros(value.shape, np.float64) for name, value in networks.extract(module).items()}
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    factor = -training.learning_rate / training.nominal_batch_patients
    for name, part in zip(trained, sums, strict=True):
        update[name] = part.cpu().numpy().reshape(update[name].shape) * factor
    if running.on_step is not None:
        running.on_step(1, 1)
    return np.concatenate([update[name].ravel() for name in sorted(update)])


def run_steps(
    module: nn.Module,
    examples: Examples,
    sampler: PatientSampler,
    *,
    training: Training,
    noise: NoiseStream | None,
    running: Running,
) -> None:
    """The loop itself; `noise=None` is for a model that stays at the site (`local_only`). Who calls it for a model
    that does not has seeded torch (`torch_generator`)."""
    module.to(running.device).train()
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = NoisySGD(trained, training=training, noise=noise)
    averaging = Averaging(trained, decay=training.averaging) if training.averaging else None
    done = _resume(module, averaging, running.checkpoints)
    written = time.monotonic()
    gradients = PatientGradients(
        module, examples, training=training, device=running.device, precision=running.precision
    )
    try:
        for step in range(done + 1, training.steps + 1):
            if running.withdrawn is not None:
                sampler.exclude(running.withdrawn())
            networks.refresh_all(module)
            optimizer.noised(gradients.clipped(sampler.draw()))
            networks.pull_back_all(module)
            optimizer.move()
            if averaging is not None:
                averaging.take(step)
            if time.monotonic() - written >= CHECKPOINT_S or step == training.steps:
                _keep(module, averaging, step, running.checkpoints)
                written = time.monotonic()
            if running.on_step is not None:
                running.on_step(step, training.steps)
    finally:
        gradients.close()
    if averaging is not None:
        averaging.put()
    if not all(bool(torch.isfinite(parameter).all()) for parameter in module.parameters()):
        raise TrainingDivergedError(
            "training diverged: weights are not finite",
            remedy="Lower training.learning_rate; nothing was released.",
        )


def _resume(module: nn.Module, averaging: Averaging | None, checkpoints: Checkpoints | None) -> int:
    """How many steps are done: those of the checkpoint, whose weights the module then has. Without one, none, and a
    first is written: from here on a crash costs no second reservation."""
    kept = None if checkpoints is None else checkpoints.read()
    if kept is None:
        _keep(module, averaging, 0, checkpoints)
        return 0
    checkpoint = Checkpoint.from_bytes(kept)
    networks.load(module, checkpoint.weights)
    if averaging is not None:
        if [value.shape for value in checkpoint.average] != [
            tuple(value.shape) for value in averaging.values
        ]:
            raise CheckpointError("the checkpoint of a training is another plan's")
        for value, kept_value in zip(averaging.values, checkpoint.average, strict=True):
            value.copy_(torch.from_numpy(kept_value))
    return checkpoint.step


def _keep(module: nn.Module, averaging: Averaging | None, step: int, checkpoints: Checkpoints | None) -> None:
    if checkpoints is None:
        return
    values = () if averaging is None else tuple(value.cpu().numpy() for value in averaging.values)
    checkpoints.write(Checkpoint(step, networks.extract(module), values).to_bytes())
