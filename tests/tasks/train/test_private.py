"""The private training step as a site runs it."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pytest
import torch

from policies.data_contract import DataContract
from policies.training import Augmentation, Network, Training
from privacy.clipping.clipped_sum import ClippedSum
from privacy.noise import NoiseStream
from tasks.train import networks
from tasks.train.averaging import Averaging
from tasks.train.examples import Examples
from tasks.train.local_only import train_local
from tasks.train.memory import OutOfMemoryError, PassLimit
from tasks.train.private import Running, TrainingDivergedError, clipped_update, run_steps, train_private
from tasks.train.sampling import Indices, PatientSampler

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int8]
Patients = npt.NDArray[np.int64]


@pytest.fixture
def module(network: Network, data: DataContract) -> torch.nn.Module:
    return networks.loaded(network, data, networks.initial(network, data, 0))


def _weights(module: torch.nn.Module) -> npt.NDArray[np.float32]:
    return networks.flatten(networks.extract(module))


def test_trains_in_place_and_reports_progress(
    module: torch.nn.Module, examples: Examples, training: Training,
    noise: NoiseStream,
) -> None:  # fmt: skip
    before = _weights(module)
    seen: list[tuple[int, int]] = []

    def on_step(done: int, steps: int) -> None:
        seen.append((done, steps))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train_private(module, examples, training=training, noise=noise, running=Running(on_step=on_step))

    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert not np.array_equal(before, _weights(module))
    # No trace of the hooks stays: the module trains on or scores like any other.
    assert not any(hasattr(parameter, "grad_sample") for parameter in module.parameters())


def test_an_empty_batch_still_steps_and_still_adds_noise(
    module: torch.nn.Module, examples: Examples, training: Training,
    noise: NoiseStream,
) -> None:  # fmt: skip
    before = _weights(module)
    nobody = training.model_copy(update={"sampling_rate": 1e-9, "steps": 4})
    train_private(module, examples, training=nobody, noise=noise)
    change = _weights(module) - before
    expected = (
        2.0 * training.learning_rate * training.clip_l2 / training.nominal_batch_patients
    )  # sqrt(4) draws
    assert np.std(change) == pytest.approx(expected, rel=0.25)
    assert (change != 0).mean() > 0.99


def test_two_runs_never_share_noise(
    network: Network,
    data: DataContract,
    examples: Examples,
    training: Training,
) -> None:
    """The same weights, data and torch seed twice: what differs is the noise, in every weight."""
    nobody = training.model_copy(update={"sampling_rate": 1e-9})
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        module = networks.loaded(network, data, networks.initial(network, data, 0))
        before = _weights(module)
        with NoiseStream() as noise:
            train_private(module, examples, training=nobody, noise=noise)
        results.append(_weights(module) - before)
    assert (results[0] != results[1]).mean() > 0.99
    assert abs(np.corrcoef(results[0], results[1])[0, 1]) < 0.3


def test_a_library_that_seeds_torch_does_not_fix_what_views_and_dropout_draw(
    network: Network, data: DataContract, examples: Examples, training: Training
) -> None:
    """With known draws one patient more would shift everybody's views, and so move the sum by many clips."""
    viewed = training.model_copy(
        update={
            "sampling_rate": 1.0,
            "noise_multiplier": 1e-9,
            "views": 2,
            "augmentation": Augmentation(flip=True, shift_px=3, contrast=0.3),
        }
    )
    for work in (clipped_update, train_private):
        found = []
        for _ in range(2):
            torch.manual_seed(0)
            module = networks.loaded(network, data, networks.initial(network, data, 0))
            state = torch.get_rng_state()
            with NoiseStream() as noise:
                found.append(work(module, examples, training=viewed, noise=noise))
            assert torch.equal(state, torch.get_rng_state()), "what others draw is left as it was"
        assert np.linalg.norm(found[0] - found[1]) > 1e-3 * np.linalg.norm(found[0])


@pytest.mark.parametrize("items", [1000, 1])
def test_half_precision_leaves_the_clip_as_it_is(
    module: torch.nn.Module, examples: Examples, training: Training, noise: NoiseStream,
    monkeypatch: pytest.MonkeyPatch, items: int,
) -> None:  # fmt: skip
    """On a CPU, where a site is refused it, but where autocast does the same."""
    monkeypatch.setattr(PassLimit, "for_module", lambda *_: PassLimit(items))
    loud = training.model_copy(update={"sampling_rate": 1.0, "steps": 1, "clip_l2": 0.05})
    most = loud.learning_rate * loud.clip_l2 / loud.nominal_batch_patients
    whole = clipped_update(module, examples, training=loud, noise=noise)
    half = Running(precision="bfloat16")
    everyone = clipped_update(module, examples, training=loud, noise=noise, running=half)
    assert 0.0 < np.linalg.norm(everyone - whole) < 0.05 * np.linalg.norm(whole)
    for gone in range(0, 24, 5):
        less = Running(precision="bfloat16", withdrawn=lambda gone=gone: np.array([gone]))
        without = clipped_update(module, examples, training=loud, noise=noise, running=less)
        assert most * 0.98 < np.linalg.norm(everyone - without) <= most


def test_chunks_change_nothing_but_memory(
    network: Network, data: DataContract, examples: Examples, training: Training,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Without noise and with every patient in every batch, chunked and whole training agree."""
    everyone = training.model_copy(update={"sampling_rate": 1.0})
    results = []
    for items in (1000, 7, 2, 1):
        monkeypatch.setattr(PassLimit, "for_module", lambda *_, items=items: PassLimit(items))
        module = networks.loaded(network, data, networks.initial(network, data, 0))
        with NoiseStream() as noise:
            train_local(module, examples, training=everyone, rounds=2, sampling=noise)
        results.append(_weights(module))
    for result in results[1:]:
        np.testing.assert_allclose(results[0], result, atol=1e-5)


def test_divergence_is_a_coded_error(
    module: torch.nn.Module, examples: Examples, training: Training,
    noise: NoiseStream,
) -> None:  # fmt: skip
    steep = training.model_copy(update={"learning_rate": 3e38, "nominal_batch_patients": 1e-3})
    with pytest.raises(TrainingDivergedError) as caught:
        train_private(module, examples, training=steep, noise=noise)
    assert caught.value.code == "train.diverged"
    assert not any(hasattr(parameter, "grad_sample") for parameter in module.parameters())


def test_no_patient_decides_whether_a_hospital_reports(
    network: Network, data: DataContract, examples: Examples, training: Training
) -> None:
    """The attack: a plan drives the weights to where the features of one wanted patient overflow. A site that
    refused then, and reported otherwise, would answer whether that patient is there, once a round, for nothing."""
    everyone = training.model_copy(update={"sampling_rate": 1.0})
    for spoilt in (np.nan, np.inf, 3e38):
        found = examples.inputs.copy()
        found[examples.patients == 7] = spoilt
        there = Examples(found, examples.targets, examples.patients)
        gone = examples.patients != 7
        absent = Examples(examples.inputs[gone], examples.targets[gone], examples.patients[gone])
        updates = []
        for part in (there, absent):
            module = networks.loaded(network, data, networks.initial(network, data, 0))
            with NoiseStream() as noise:
                train_private(module, part, training=everyone, noise=noise)  # reports
                module = networks.loaded(network, data, networks.initial(network, data, 0))
                updates.append(clipped_update(module, part, training=everyone, noise=noise))
        np.testing.assert_allclose(updates[0], updates[1], atol=1e-7)
    nobody = Examples(np.full_like(examples.inputs, np.nan), examples.targets, examples.patients)
    with NoiseStream() as noise:
        module = networks.loaded(network, data, networks.initial(network, data, 0))
        assert not clipped_update(module, nobody, training=everyone, noise=noise).any()
        assert np.isfinite(train_private(module, nobody, training=everyone, noise=noise)).all()


def test_local_only_learns_what_is_easy(
    network: Network, data: DataContract, training: Training, noise: NoiseStream
) -> None:
    labels = np.arange(200) % 2
    images = np.random.default_rng(1).random((200, 1, 12, 12), dtype=np.float32) * 0.2
    images[labels == 1, :, 3:9, 3:9] += 0.7
    module = networks.loaded(network, data, networks.initial(network, data, 0))
    plan = training.model_copy(update={"steps": 40, "learning_rate": 0.5, "clip_l2": 1.0})
    easy = Examples(images, labels.astype(np.float32), np.arange(200))
    train_local(module, easy, training=plan, rounds=1, sampling=noise)
    with torch.no_grad():
        logits = module(torch.from_numpy(images)).numpy()
    assert logits[labels == 1].min() > logits[labels == 0].max()


def who(examples: Examples, step: list[Indices]) -> set[int]:
    return {int(examples.patients[items[0]]) for items in step}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[Indices]]:
    """The images of every step, as they are drawn."""
    steps: list[list[Indices]] = []
    draw = PatientSampler.draw

    def noted(self: PatientSampler) -> list[Indices]:
        steps.append(draw(self))
        return steps[-1]

    monkeypatch.setattr(PatientSampler, "draw", noted)
    return steps


def test_a_withdrawal_takes_effect_at_the_next_step(
    module: torch.nn.Module, examples: Examples, training: Training,
    noise: NoiseStream, drawn: list[list[Indices]],
) -> None:  # fmt: skip
    gone: list[int] = []

    def on_step(done: int, _: int) -> None:
        if done == 2:
            gone.append(7)

    everyone = training.model_copy(update={"sampling_rate": 1.0, "steps": 4})
    train_private(
        module, examples, training=everyone, noise=noise,
        running=Running(on_step=on_step, withdrawn=lambda: np.array(gone, np.int64)),
    )  # fmt: skip
    assert [7 in who(examples, step) for step in drawn] == [True, True, False, False]
    assert [len(step) for step in drawn] == [24, 24, 23, 23]


def test_steps_without_anybody_are_noise_alone(
    module: torch.nn.Module, examples: Examples, training: Training,
    noise: NoiseStream, drawn: list[list[Indices]],
) -> None:  # fmt: skip
    """Everybody withdraws before the first step: as many steps, as much noise, nobody's gradient."""
    before = _weights(module)
    everyone = training.model_copy(update={"sampling_rate": 1.0, "steps": 4})
    train_private(
        module, examples, training=everyone, noise=noise, running=Running(withdrawn=lambda: np.arange(24))
    )
    assert [len(step) for step in drawn] == [0] * 4
    expected = 2.0 * training.learning_rate * training.clip_l2 / training.nominal_batch_patients
    assert np.std(_weights(module) - before) == pytest.approx(expected, rel=0.25)


def test_the_comparison_model_forgets_who_withdrew_too(
    module: torch.nn.Module, examples: Examples, training: Training,
    noise: NoiseStream, drawn: list[list[Indices]],
) -> None:  # fmt: skip
    train_local(
        module, examples, training=training, rounds=2, sampling=noise,
        running=Running(withdrawn=lambda: np.arange(23)),
    )  # fmt: skip
    assert len(drawn) == 6 and all(who(examples, step) <= {23} for step in drawn)


def test_an_update_of_distributed_noise_is_the_clipped_sum_alone(
    module: torch.nn.Module, examples: Examples, training: Training, noise: NoiseStream
) -> None:
    """Of everybody, it is what one step without noise moves the weights by, and the weights stay."""
    everyone = training.model_copy(update={"sampling_rate": 1.0, "steps": 1})
    before = _weights(module)
    update = clipped_update(module, examples, training=everyone, noise=noise)
    assert np.array_equal(_weights(module), before) and update.dtype == np.float64
    run_steps(
        module, examples, PatientSampler(examples.patients, rate=1.0, noise=noise),
        training=everyone, noise=None, running=Running(),
    )  # fmt: skip
    np.testing.assert_allclose(update, _weights(module) - before, atol=1e-6)


def test_one_patient_moves_that_update_by_no_more_than_is_declared(
    module: torch.nn.Module, examples: Examples, training: Training, noise: NoiseStream
) -> None:
    """Whoever leaves, with one image or three, however loud: the sensitivity that the noise is scaled by."""
    loud = training.model_copy(update={"sampling_rate": 1.0, "steps": 1, "clip_l2": 0.05})
    most = loud.learning_rate * loud.clip_l2 / loud.nominal_batch_patients
    everyone = clipped_update(module, examples, training=loud, noise=noise)
    for gone in range(24):
        running = Running(withdrawn=lambda gone=gone: np.array([gone]))
        without = clipped_update(module, examples, training=loud, noise=noise, running=running)
        assert most * 0.99 < np.linalg.norm(everyone - without) <= most * (1 + 1e-6)


def test_a_patient_with_five_hundred_images_weighs_as_much_as_one_with_one(
    module: torch.nn.Module, examples: Examples, training: Training, noise: NoiseStream,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(PassLimit, "for_module", lambda *_: PassLimit(64))
    alone = training.model_copy(update={"sampling_rate": 1.0, "steps": 1, "clip_l2": 1e-3})
    one = Examples(examples.inputs[:1], examples.targets[:1], np.zeros(1, np.int64))
    many = Examples(
        np.repeat(one.inputs, 500, axis=0), np.repeat(one.targets, 500, axis=0), np.zeros(500, np.int64)
    )
    first, second = (clipped_update(module, part, training=alone, noise=noise) for part in (one, many))
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-9)
    assert np.linalg.norm(second) <= 0.1 * 1e-3 / 10 * (1 + 1e-6)


def test_memory_that_runs_out_makes_passes_smaller_and_changes_nothing(
    network: Network, data: DataContract, examples: Examples, training: Training, noise: NoiseStream,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    everyone = training.model_copy(update={"sampling_rate": 1.0, "steps": 1})
    module = networks.loaded(network, data, networks.initial(network, data, 0))
    expected = clipped_update(module, examples, training=everyone, noise=noise)
    add, sizes = ClippedSum.add, []

    def scarce(self: ClippedSum, inputs: torch.Tensor, losses: object, patients: list[int]) -> None:
        sizes.append(len(inputs))
        if len(inputs) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
        add(self, inputs, losses, patients)  # type: ignore[arg-type]

    monkeypatch.setattr(ClippedSum, "add", scarce)
    found = clipped_update(module, examples, training=everyone, noise=noise)
    assert max(sizes) > 5 and sizes[-1] <= 5
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_memory_without_room_for_one_item_is_a_coded_error(
    module: torch.nn.Module, examples: Examples, training: Training, noise: NoiseStream,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def none(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ClippedSum, "add", none)
    monkeypatch.setattr(ClippedSum, "add_one", none)
    with pytest.raises(OutOfMemoryError) as caught:
        train_private(
            module, examples, training=training.model_copy(update={"sampling_rate": 1.0}), noise=noise
        )
    assert caught.value.code == "train.memory"


def test_a_proximal_term_keeps_steps_near_the_round_s_model(
    network: Network, data: DataContract, examples: Examples, training: Training
) -> None:
    """Pure noise for many steps: with the pull it wanders less."""
    nobody = training.model_copy(update={"sampling_rate": 1e-9, "steps": 60})
    moved = []
    for proximal in (0.0, 5.0):
        module = networks.loaded(network, data, networks.initial(network, data, 0))
        with NoiseStream() as noise:
            pulled = nobody.model_copy(update={"proximal": proximal})
            moved.append(np.linalg.norm(train_private(module, examples, training=pulled, noise=noise)))
    assert moved[1] < 0.5 * moved[0]


def test_what_is_sent_is_the_moving_average_of_the_steps() -> None:
    """Weights that jump between two values: their average settles between them."""
    parameter = torch.nn.Parameter(torch.zeros(3))
    averaging = Averaging([parameter], decay=0.95)
    expected = 0.0
    for step in range(1, 301):
        value = float(step % 2)
        torch.nn.init.constant_(parameter, value)
        averaging.take(step)
        decay = min(0.95, step / (step + 9))
        expected = decay * expected + (1 - decay) * value
    averaging.put()
    assert parameter.tolist() == pytest.approx([expected] * 3, abs=1e-5) and abs(expected - 0.5) < 0.03


def test_a_round_sends_its_average(
    network: Network,
    data: DataContract,
    examples: Examples,
    training: Training,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[npt.NDArray[np.float32]] = []
    module = networks.loaded(network, data, networks.initial(network, data, 0))
    first = _weights(module)
    averaged = training.model_copy(update={"averaging": 0.5})
    running = Running(on_step=lambda *_: seen.append(_weights(module)))
    with NoiseStream() as noise:
        train_private(module, examples, training=averaged, noise=noise, running=running)
    average = first.astype(np.float64)
    for step, weights in enumerate(seen, 1):
        decay = min(0.5, step / (step + 9))
        average = decay * average + (1 - decay) * weights
    np.testing.assert_allclose(_weights(module), average, atol=1e-5)
