"""The privacy audit of a plan: train once with planted canaries, and hold what they give away against the claim.

The adversary is the strongest that the claim must withstand (Nasr et al. 2021, "Adversary Instantiation", and
section 6 of Steinke, Nasr, Jagielski 2023, arXiv:2305.08846): it reads the trained weights and chose the canaries'
gradients. Canary i is a patient whose clipped gradient is the i-th coordinate of a probe beside the network, and
nothing else; the coordinate's weight afterwards is the canary's score. Everything in between is the code that
trains at a site: Poisson sampling, clipping, summing and noise of `tasks.train`, unchanged.

Lives here: the probe, planting, training, judging. The statistics are `privacy.one_run_audit`. No patient's
data are used: the other patients are random images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ledger.errors import InputError, PolicyViolation, Violation
from policies.plan import Plan
from policies.training import Training
from privacy import accounting, one_run_audit
from privacy.accounting import MICRO
from privacy.mechanisms import SubsampledGaussian
from privacy.noise import NoiseStream
from privacy.one_run_audit import CONFIDENCE, Bound
from tasks import progress
from tasks.progress import Progress
from tasks.train import networks
from tasks.train.examples import Examples
from tasks.train.private import Running, run_steps, train_private
from tasks.train.sampling import PatientSampler

PARTY: Final = "audit"
DEFAULT_CANARIES: Final = 1000
MAXIMUM_CANARIES: Final = 20_000
BACKGROUND_PATIENTS: Final = 240
# Lifts a canary's gradient far above any clip; after clipping only its direction is left.
_LOUDNESS: Final = 1e9


class AuditPowerlessError(InputError):
    """So few canaries cannot refute the claim whatever happens: such an audit would prove nothing."""

    code = "audit.too-few-canaries"


@dataclass(frozen=True, slots=True)
class Audit:
    """What came of an audit. `bound` holds with `confidence`; `detectable` is the largest bound possible."""

    claimed_epsilon_micro: int
    delta: float
    confidence: float
    canaries: int
    bound: Bound
    detectable: float
    with_noise: bool

    @property
    def exceeded(self) -> bool:
        return self.bound.epsilon * MICRO > self.claimed_epsilon_micro

    def require(self) -> None:
        """Raise PolicyViolation if the run gave away more than is claimed of it."""
        if self.exceeded:
            raise PolicyViolation(
                [
                    Violation(
                        "audit.claim-exceeded",
                        f"the training gives away more about one patient than the plan claims: "
                        f"{self.bound.correct} of {self.bound.guesses} planted patients were recognised, which "
                        f"shows an ε of at least {self.bound.epsilon:.2f} where "
                        f"{self.claimed_epsilon_micro / MICRO:.2f} is claimed at δ={self.delta:g}. Do not train "
                        "on patients with this code until its noise, clipping and sampling are explained",
                    )
                ]
            )


class ProbedNetwork(nn.Module):
    """A plan's network and a probe of one weight a canary, all zero at first.

    Images are (n, 1, height_px + 1, width_px): the first pixel of the last row holds a canary's number from 1, or
    0 for a patient. For a canary the network is switched off and its logit is 0, whatever was learned, so that its
    gradient never fades: the probe's own value is cancelled and only its gradient kept.
    """

    def __init__(self, network: nn.Module, canaries: int) -> None:
        super().__init__()
        self.network = network
        self.probe = nn.Linear(canaries, 1, bias=False)
        nn.init.zeros_(self.probe.weight)
        self._canaries = canaries

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        number = images[:, 0, -1, 0].round().long()
        code = nn.functional.one_hot(number, self._canaries + 1)[:, 1:].to(images.dtype)
        probed = _LOUDNESS * self.probe(code).squeeze(1)
        logits: torch.Tensor = self.network(images[:, :, :-1, :])
        return torch.where(number > 0, probed - probed.detach(), logits)

    def scores(self) -> npt.NDArray[np.float64]:
        """(canaries,) how far each canary's weight went in the direction in which the canary pulls it."""
        return self.probe.weight.detach().cpu().numpy().astype(np.float64).ravel()


def audit(
    plan: Plan,
    *,
    canaries: int = DEFAULT_CANARIES,
    with_noise: bool = True,
    background_patients: int = BACKGROUND_PATIENTS,
    device: torch.device | str = "cpu",
) -> Audit:
    """Train the plan's network for all the steps of all its rounds at one site, and audit the result.

    `with_noise=False` clips and samples as ever but adds no noise: what the audit is there to catch. Raises
    `AuditPowerlessError` before training if the claim is more than so many canaries could ever refute.
    """
    training = plan.training.model_copy(update={"steps": plan.training.steps * plan.rounds})
    delta = plan.budget.delta
    claimed = accounting.epsilon_micro(accounting.curve(_mechanism(training)), delta)
    detectable = check_power(canaries, claimed_epsilon_micro=claimed, delta=delta)
    with NoiseStream() as coins:
        included = coins.bernoulli(0.5, canaries)
    first = networks.initial(plan.network, plan.data, plan.seed)
    module = networks.loaded(plan.network, plan.data, first)
    probed = ProbedNetwork(module, canaries)
    images, labels = _cohort(plan, included, background_patients)
    _train(probed, images, labels, training=training, with_noise=with_noise, device=device)
    bound = one_run_audit.best_bound(probed.scores(), included, delta=delta)
    return Audit(
        claimed_epsilon_micro=claimed,
        delta=delta,
        confidence=CONFIDENCE,
        canaries=canaries,
        bound=bound,
        detectable=detectable,
        with_noise=with_noise,
    )


def check_power(canaries: int, *, claimed_epsilon_micro: int, delta: float) -> float:
    """The largest bound that so many canaries can show; `AuditPowerlessError` if it is not above the claim."""
    detectable = one_run_audit.largest_bound(canaries, delta=delta)
    if detectable * MICRO > claimed_epsilon_micro:
        return detectable
    enough = canaries
    while enough < MAXIMUM_CANARIES:
        enough = min(MAXIMUM_CANARIES, enough + enough // 10 + 10)
        if one_run_audit.largest_bound(enough, delta=delta) * MICRO > claimed_epsilon_micro:
            remedy = f"Take at least {enough} canaries."
            break
    else:
        remedy = f"{MAXIMUM_CANARIES} cannot either at this δ: audit a plan that claims less."
    raise AuditPowerlessError(
        f"{canaries} canaries can show an ε of {detectable:.2f} at most, and the plan claims "
        f"{claimed_epsilon_micro / MICRO:.2f}: the audit could not fail",
        remedy=remedy,
    )


def _mechanism(training: Training) -> SubsampledGaussian:
    return SubsampledGaussian(
        noise_multiplier=training.noise_multiplier,
        sampling_rate=training.sampling_rate,
        steps=training.steps,
    )


def _cohort(
    plan: Plan, included: npt.NDArray[np.bool_], background_patients: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
    """Random patients and the canaries whose coin fell for them: (n, 1, height_px + 1, width_px), (n,) labels.

    A canary's label is 1, which pulls its weight upward.
    """
    planted = np.flatnonzero(included)
    total = background_patients + len(planted)
    image = plan.data.imaged()
    # Nothing here protects anybody, so a seeded generator will do; coins and noise never come from one.
    random = np.random.default_rng(plan.seed)
    images = np.zeros((total, 1, image.height_px + 1, image.width_px), dtype=np.float32)
    images[:background_patients, :, :-1] = random.random(
        (background_patients, 1, image.height_px, image.width_px), dtype=np.float32
    )
    images[background_patients:, 0, -1, 0] = planted + 1
    labels = np.ones(total, dtype=np.int8)
    labels[:background_patients] = random.integers(0, 2, background_patients)
    return images, labels


def _train(
    module: nn.Module,
    images: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int8],
    *,
    training: Training,
    with_noise: bool,
    device: torch.device | str,
) -> None:
    """The site's own training step; without noise, its loop with the noise left out and the sampling kept."""

    def on_step(done: int, steps: int) -> None:
        progress.tell(Progress(PARTY, "train", done=done, total=steps))

    examples = Examples(images, labels.astype(np.float32), np.arange(len(images)))
    running = Running(device=device, on_step=on_step)
    with NoiseStream() as noise:
        if with_noise:
            train_private(module, examples, training=training, noise=noise, running=running)
            return
        sampler = PatientSampler(examples.patients, rate=training.sampling_rate, noise=noise)
        run_steps(module, examples, sampler, training=training, noise=None, running=running)
