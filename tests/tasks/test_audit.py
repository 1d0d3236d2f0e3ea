"""The audit of a training that keeps its claim, and of trainings that do not: what CI runs on every change."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from ledger.errors import PolicyViolation
from policies.plan import Plan
from privacy import accounting
from privacy.clipping import clipped_sum
from privacy.mechanisms import SubsampledGaussian
from tasks import audit as audits
from tasks import progress
from tasks.audit import AuditPowerlessError, ProbedNetwork, audit, check_power
from tasks.progress import Progress
from tasks.train import noisy_sgd, sampling
from tests.plans import tiny_plan

CANARIES = 300


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def plan() -> Plan:
    """Two rounds of twelve steps at epsilon 2.2; every canary that is in is sampled, but for one in a thousand."""
    plan = tiny_plan()
    training = plan.training.model_copy(
        update={"sampling_rate": 0.25, "steps": 12, "noise_multiplier": 3.0, "nominal_batch_patients": 40.0}
    )
    return plan.model_copy(update={"training": training, "rounds": 2})


def test_with_noise_the_audited_bound_is_below_the_claim(plan: Plan) -> None:
    found = audit(plan, canaries=CANARIES, background_patients=60)
    mechanism = SubsampledGaussian(noise_multiplier=3.0, sampling_rate=0.25, steps=24)
    assert found.claimed_epsilon_micro == accounting.epsilon_micro(accounting.curve(mechanism), 1e-5)
    assert found.bound.epsilon * 1e6 < found.claimed_epsilon_micro < found.detectable * 1e6
    assert not found.exceeded
    found.require()


def test_with_the_noise_switched_off_the_audit_catches_it(plan: Plan) -> None:
    found = audit(plan, canaries=CANARIES, background_patients=60, with_noise=False)
    assert found.exceeded and not found.with_noise
    with pytest.raises(PolicyViolation) as refusal:
        found.require()
    assert refusal.value.code == "audit.claim-exceeded" and refusal.value.kind == "policy"
    assert "planted patients were recognised" in refusal.value.public_message


def test_a_regression_that_loses_the_noise_inside_the_optimiser_is_caught(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asked for a run without noise; the code is broken where no caller sees it."""

    def silent(self: noisy_sgd.NoisySGD) -> None:
        for parameter in self.params:
            parameter.grad = (parameter.summed_grad / self._batch).to(parameter.dtype)

    monkeypatch.setattr(noisy_sgd.NoisySGD, "add_noise", silent)
    found = audit(plan, canaries=CANARIES, background_patients=60)
    assert found.with_noise and found.exceeded


def test_a_regression_that_scales_the_noise_by_a_tenth_is_caught(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = noisy_sgd.NoisySGD.__init__

    def quieter(self: noisy_sgd.NoisySGD, parameters: list[torch.nn.Parameter], *, training, noise) -> None:  # type: ignore[no-untyped-def]
        less = training.model_copy(update={"noise_multiplier": training.noise_multiplier / 10})
        original(self, parameters, training=less, noise=noise)

    monkeypatch.setattr(noisy_sgd.NoisySGD, "__init__", quieter)
    assert audit(plan, canaries=CANARIES, background_patients=60).exceeded


def test_a_regression_that_forgets_to_clip_is_caught(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """A canary shouts; only the clip keeps it as quiet as the noise assumes."""

    original = clipped_sum.ClippedSum.__init__

    def unclipped(self: clipped_sum.ClippedSum, module: torch.nn.Module, *, clip_l2: float) -> None:
        original(self, module, clip_l2=1e6 * clip_l2)

    monkeypatch.setattr(clipped_sum.ClippedSum, "__init__", unclipped)
    assert audit(plan, canaries=CANARIES, background_patients=60).exceeded


def test_a_regression_that_samples_everybody_is_caught(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim rests on a patient's being away from most steps."""
    rare = plan.training.model_copy(update={"sampling_rate": 0.02, "steps": 120, "noise_multiplier": 2.0})
    original = sampling.PatientSampler.draw

    def everybody(self: sampling.PatientSampler) -> list[sampling.Indices]:
        self._rate = 1.0
        return original(self)

    monkeypatch.setattr(sampling.PatientSampler, "draw", everybody)
    quiet = plan.model_copy(update={"training": rare, "rounds": 1})
    assert audit(quiet, canaries=CANARIES, background_patients=0).exceeded


def test_a_canary_pulls_its_own_weight_alone_and_as_far_as_the_clip_lets_it(plan: Plan) -> None:
    """Without noise and with everybody in every step, a canary moves its weight by rate * clip / batch a step."""
    everyone = plan.training.model_copy(update={"sampling_rate": 1.0, "steps": 3})
    included = np.array([True, False, True, True])
    module = audits.networks.build(plan.network, plan.data)
    audits.networks.load(module, audits.networks.initial(plan.network, plan.data, 0))
    before = audits.networks.flatten(audits.networks.extract(module))
    probed = ProbedNetwork(module, 4)
    images, labels = audits._cohort(plan, included, 0)
    audits._train(probed, images, labels, training=everyone, with_noise=False, device="cpu")
    step = everyone.learning_rate * everyone.clip_l2 / everyone.nominal_batch_patients
    np.testing.assert_allclose(probed.scores(), 3 * step * included * (1 - 2**-8), rtol=1e-5)
    # The network itself felt nothing of the canaries.
    np.testing.assert_array_equal(before, audits.networks.flatten(audits.networks.extract(module)))


def test_patients_do_not_touch_the_probe_and_see_the_network_as_it_is(plan: Plan) -> None:
    module = audits.networks.build(plan.network, plan.data)
    probed = ProbedNetwork(module, 7)
    images, labels = audits._cohort(plan, np.zeros(7, dtype=np.bool_), 20)
    assert images.shape == (20, 1, 9, 8) and set(labels.tolist()) == {0, 1}
    with torch.no_grad():
        torch.testing.assert_close(
            probed(torch.from_numpy(images)), module(torch.from_numpy(images[:, :, :-1]))
        )
    audits._train(probed, images, labels, training=plan.training, with_noise=False, device="cpu")
    assert not probed.scores().any()


def test_an_audit_that_could_not_fail_is_refused_with_the_number_that_could(plan: Plan) -> None:
    with pytest.raises(AuditPowerlessError) as refusal:
        audit(plan, canaries=20, background_patients=0)
    assert refusal.value.code == "audit.too-few-canaries"
    enough = int(refusal.value.remedy.split()[3])
    claimed = accounting.epsilon_micro(
        accounting.curve(SubsampledGaussian(noise_multiplier=3.0, sampling_rate=0.25, steps=24)), 1e-5
    )
    assert check_power(enough, claimed_epsilon_micro=claimed, delta=1e-5) * 1e6 > claimed
    with pytest.raises(AuditPowerlessError) as refusal:
        check_power(1_000, claimed_epsilon_micro=20_000_000, delta=1e-5)
    assert refusal.value.remedy.startswith("20000 cannot either")


def test_progress_is_told(plan: Plan) -> None:
    heard: list[Progress] = []
    end = progress.listen(heard.append)
    try:
        audit(plan, canaries=CANARIES, background_patients=10)
    finally:
        end()
    assert heard[-1] == Progress("audit", "train", done=24, total=24) and len(heard) == 24
