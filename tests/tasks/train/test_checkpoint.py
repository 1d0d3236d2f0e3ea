"""A training that is cut off goes on where it was, with fresh noise, and says so of every step."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from policies.data_contract import DataContract
from policies.training import Network, Training
from privacy.noise import NoiseStream
from tasks.train import networks, private
from tasks.train.checkpoint import Checkpoint, CheckpointError
from tasks.train.examples import Examples
from tasks.train.private import Running, train_private


@dataclass
class Kept:
    written: list[bytes] = field(default_factory=list)

    def read(self) -> bytes | None:
        return self.written[-1] if self.written else None

    def write(self, data: bytes) -> None:
        self.written.append(data)


class CutError(Exception):
    pass


@pytest.fixture(autouse=True)
def _every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "CHECKPOINT_S", 0.0)


def fresh(network: Network, data: DataContract) -> torch.nn.Module:
    return networks.loaded(network, data, networks.initial(network, data, 0))


def run(
    module: torch.nn.Module, examples: Examples, training: Training, kept: Kept, cut_at: int = 0
) -> list[int]:
    steps: list[int] = []

    def on_step(done: int, _: int) -> None:
        steps.append(done)
        if done == cut_at:
            raise CutError

    with NoiseStream() as noise:
        train_private(
            module,
            examples,
            training=training,
            noise=noise,
            running=Running(on_step=on_step, checkpoints=kept),
        )
    return steps


@pytest.mark.parametrize("averaging", [0.0, 0.5])
def test_training_goes_on_after_its_last_checkpoint(
    network: Network, data: DataContract, examples: Examples, training: Training, averaging: float
) -> None:
    training = training.model_copy(update={"steps": 6, "averaging": averaging})
    kept = Kept()
    with pytest.raises(CutError):
        run(fresh(network, data), examples, training, kept, cut_at=4)
    assert [Checkpoint.from_bytes(one).step for one in kept.written] == [0, 1, 2, 3, 4]
    module = fresh(network, data)
    assert run(module, examples, training, kept) == [5, 6]
    # A run that was cut off after its last step has nothing left to do, and gives the same model.
    again = fresh(network, data)
    assert run(again, examples, training, kept) == []
    assert np.array_equal(
        networks.flatten(networks.extract(module)), networks.flatten(networks.extract(again))
    )


def test_the_steps_that_are_taken_again_have_noise_of_their_own(
    network: Network, data: DataContract, examples: Examples, training: Training
) -> None:
    """Twice from one checkpoint, with nobody sampled: what differs is the noise, in every weight."""
    nobody = training.model_copy(update={"sampling_rate": 1e-9, "steps": 2})
    kept = Kept()
    with pytest.raises(CutError):
        run(fresh(network, data), examples, nobody, kept, cut_at=1)
    found = []
    for _ in range(2):
        module = fresh(network, data)
        run(module, examples, nobody, Kept([kept.written[1]]))
        found.append(networks.flatten(networks.extract(module)))
    assert (found[0] != found[1]).mean() > 0.99


@pytest.mark.parametrize("damage", [b"", b"nonsense", bytes(64)])
def test_a_damaged_checkpoint_is_refused(
    network: Network, data: DataContract, examples: Examples, training: Training, damage: bytes
) -> None:
    with pytest.raises(CheckpointError):
        run(fresh(network, data), examples, training, Kept([damage]))


class OnDisk:
    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> bytes | None:
        return self.path.read_bytes() if self.path.exists() else None

    def write(self, data: bytes) -> None:
        beside = self.path.with_suffix(".new")
        beside.write_bytes(data)
        beside.replace(self.path)


def _until_killed(
    path: Path, network: Network, data: DataContract, examples: Examples, training: Training
) -> None:
    private.CHECKPOINT_S = 0.0  # type: ignore[misc]
    torch.set_num_threads(1)

    def on_step(done: int, _: int) -> None:
        if done == 5:
            os.kill(os.getpid(), signal.SIGKILL)

    with NoiseStream() as noise:
        train_private(
            fresh(network, data), examples, training=training, noise=noise,
            running=Running(on_step=on_step, checkpoints=OnDisk(path)),
        )  # fmt: skip


def test_training_survives_a_kill(
    tmp_path: Path, network: Network, data: DataContract, examples: Examples, training: Training
) -> None:
    path, training = tmp_path / "checkpoint", training.model_copy(update={"steps": 7})
    child = multiprocessing.get_context("spawn").Process(
        target=_until_killed, args=(path, network, data, examples, training)
    )
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    done: list[int] = []
    with NoiseStream() as noise:
        train_private(
            fresh(network, data), examples, training=training, noise=noise,
            running=Running(on_step=lambda step, _: done.append(step), checkpoints=OnDisk(path)),
        )  # fmt: skip
    assert done == [6, 7]
