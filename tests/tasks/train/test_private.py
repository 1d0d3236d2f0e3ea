"""The private training step as a site runs it."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pytest
import torch

from policies.data_contract import DataContract
from policies.training import Network, Training
from privacy.noise import NoiseStream
from tasks.train import network as networks
from tasks.train import private
from tasks.train.local_only import train_local
from tasks.train.private import TrainingDivergedError, train_private
from tasks.train.sampling import Indices, PatientSampler

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int8]
Patients = npt.NDArray[np.int64]


@pytest.fixture
def module(network: Network, data: DataContract) -> torch.nn.Module:
    module = networks.build(network, data)
    networks.load(module, networks.initial(network, data, 0))
    return module


def _weights(module: torch.nn.Module) -> npt.NDArray[np.float32]:
    return networks.flatten(networks.extract(module))


def test_trains_in_place_and_reports_progress(
    module: torch.nn.Module, images: Images, labels: Labels, patients: Patients, training: Training,
    noise: NoiseStream,
) -> None:  # fmt: skip
    before = _weights(module)
    seen: list[tuple[int, int]] = []

    def on_step(done: int, steps: int) -> None:
        seen.append((done, steps))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_private(
            module, images, labels, patients, training=training, noise=noise, device="cpu", on_step=on_step
        )

    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert not np.array_equal(before, _weights(module))
    # No trace of the hooks stays: the module trains on or scores like any other.
    assert not any(hasattr(parameter, "grad_sample") for parameter in module.parameters())


def test_an_empty_batch_still_steps_and_still_adds_noise(
    module: torch.nn.Module, images: Images, labels: Labels, patients: Patients, training: Training,
    noise: NoiseStream,
) -> None:  # fmt: skip
    before = _weights(module)
    nobody = training.model_copy(update={"sampling_rate": 1e-9, "steps": 4})
    train_private(module, images, labels, patients, training=nobody, noise=noise)
    change = _weights(module) - before
    expected = (
        2.0 * training.learning_rate * training.clip_l2 / training.nominal_batch_patients
    )  # sqrt(4) draws
    assert np.std(change) == pytest.approx(expected, rel=0.25)
    assert (change != 0).mean() > 0.99


def test_two_runs_never_share_noise(
    network: Network,
    data: DataContract,
    images: Images,
    labels: Labels,
    patients: Patients,
    training: Training,
) -> None:
    """The same weights, data and torch seed twice: what differs is the noise, in every weight."""
    nobody = training.model_copy(update={"sampling_rate": 1e-9})
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        module = networks.build(network, data)
        networks.load(module, networks.initial(network, data, 0))
        before = _weights(module)
        with NoiseStream() as noise:
            train_private(module, images, labels, patients, training=nobody, noise=noise)
        results.append(_weights(module) - before)
    assert (results[0] != results[1]).mean() > 0.99
    assert abs(np.corrcoef(results[0], results[1])[0, 1]) < 0.3


def test_chunks_change_nothing_but_memory(
    network: Network, data: DataContract, images: Images, labels: Labels, patients: Patients, training: Training,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Without noise and with every patient in every batch, chunked and whole training agree."""
    single = np.arange(len(patients))
    everyone = training.model_copy(update={"sampling_rate": 1.0})
    results = []
    for chunk in (1000, 7):
        monkeypatch.setattr(private, "CHUNK_IMAGES", chunk)
        module = networks.build(network, data)
        networks.load(module, networks.initial(network, data, 0))
        with NoiseStream() as noise:
            train_local(module, images, labels, single, training=everyone, rounds=2, sampling=noise)
        results.append(_weights(module))
    np.testing.assert_allclose(results[0], results[1], atol=1e-5)


def test_divergence_is_a_coded_error(
    module: torch.nn.Module, images: Images, labels: Labels, patients: Patients, training: Training,
    noise: NoiseStream,
) -> None:  # fmt: skip
    broken = images.copy()
    broken[:] = np.nan
    with pytest.raises(TrainingDivergedError) as caught:
        train_private(module, broken, labels, patients, training=training, noise=noise)
    assert caught.value.code == "train.diverged"
    assert not any(hasattr(parameter, "grad_sample") for parameter in module.parameters())


def test_local_only_learns_what_is_easy(
    network: Network, data: DataContract, training: Training, noise: NoiseStream
) -> None:
    labels = np.arange(200) % 2
    images = np.random.default_rng(1).random((200, 1, 12, 12), dtype=np.float32) * 0.2
    images[labels == 1, :, 3:9, 3:9] += 0.7
    module = networks.build(network, data)
    networks.load(module, networks.initial(network, data, 0))
    plan = training.model_copy(update={"steps": 40, "learning_rate": 0.5, "clip_l2": 1.0})
    train_local(module, images, labels, np.arange(200), training=plan, rounds=1, sampling=noise)
    with torch.no_grad():
        logits = module(torch.from_numpy(images)).numpy()
    assert logits[labels == 1].min() > logits[labels == 0].max()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Indices]:
    """The images of every step, as they are drawn."""
    steps: list[Indices] = []
    draw = PatientSampler.draw

    def noted(self: PatientSampler) -> Indices:
        steps.append(draw(self))
        return steps[-1]

    monkeypatch.setattr(PatientSampler, "draw", noted)
    return steps


def test_a_withdrawal_takes_effect_at_the_next_step(
    module: torch.nn.Module, images: Images, labels: Labels, patients: Patients, training: Training,
    noise: NoiseStream, drawn: list[Indices],
) -> None:  # fmt: skip
    gone: list[int] = []

    def on_step(done: int, _: int) -> None:
        if done == 2:
            gone.append(7)

    everyone = training.model_copy(update={"sampling_rate": 1.0, "steps": 4})
    train_private(
        module, images, labels, patients, training=everyone, noise=noise, on_step=on_step,
        withdrawn=lambda: np.array(gone, np.int64),
    )  # fmt: skip
    assert [7 in patients[step] for step in drawn] == [True, True, False, False]
    assert [len(step) for step in drawn] == [24, 24, 23, 23]


def test_steps_without_anybody_are_noise_alone(
    module: torch.nn.Module, images: Images, labels: Labels, patients: Patients, training: Training,
    noise: NoiseStream, drawn: list[Indices],
) -> None:  # fmt: skip
    """Everybody withdraws before the first step: as many steps, as much noise, nobody's gradient."""
    before = _weights(module)
    everyone = training.model_copy(update={"sampling_rate": 1.0, "steps": 4})
    train_private(
        module, images, labels, patients, training=everyone, noise=noise, withdrawn=lambda: np.arange(24)
    )
    assert [len(step) for step in drawn] == [0] * 4
    expected = 2.0 * training.learning_rate * training.clip_l2 / training.nominal_batch_patients
    assert np.std(_weights(module) - before) == pytest.approx(expected, rel=0.25)


def test_the_comparison_model_forgets_who_withdrew_too(
    module: torch.nn.Module, images: Images, labels: Labels, patients: Patients, training: Training,
    noise: NoiseStream, drawn: list[Indices],
) -> None:  # fmt: skip
    train_local(
        module, images, labels, patients, training=training, rounds=2, sampling=noise,
        withdrawn=lambda: np.arange(23),
    )  # fmt: skip
    assert len(drawn) == 6 and all(set(patients[step]) <= {23} for step in drawn)
