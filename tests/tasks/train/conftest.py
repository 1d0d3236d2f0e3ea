"""Small cohorts, networks and training values that the tests of the training step share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch

from policies.data_contract import DataContract, Image
from policies.training import Network, Training
from privacy.noise import NoiseStream
from tasks.train.examples import Examples


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As a site's process runs, so that timing and summation order are those of a round."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data() -> DataContract:
    return DataContract(
        image=Image(height_px=12, width_px=12, modalities=("CR",)),
        labels=(0, 1),
        minimum_patients=1,
        held_out_fraction=0.2,
    )


@pytest.fixture
def network() -> Network:
    return Network(name="Classifier", norm_groups=2, arguments={"channels": [4, 4], "strides": [2, 2]})


@pytest.fixture
def training() -> Training:
    return Training(
        sampling_rate=0.5,
        steps=3,
        noise_multiplier=1.0,
        clip_l2=0.5,
        learning_rate=0.1,
        nominal_batch_patients=10.0,
    )


@pytest.fixture
def patients() -> npt.NDArray[np.int64]:
    """24 patients with 1 to 3 images each, images of one patient not side by side; (48,)."""
    return np.random.default_rng(5).permutation(np.repeat(np.arange(24), np.arange(24) % 3 + 1))


@pytest.fixture
def labels(patients: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
    return (patients % 2).astype(np.int8)


@pytest.fixture
def images(patients: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """(48, 1, 12, 12) in [0, 1]."""
    return np.random.default_rng(6).random((len(patients), 1, 12, 12), dtype=np.float32)


@pytest.fixture
def noise() -> Iterator[NoiseStream]:
    with NoiseStream() as stream:
        yield stream


@pytest.fixture
def examples(
    images: npt.NDArray[np.float32], labels: npt.NDArray[np.int8], patients: npt.NDArray[np.int64]
) -> Examples:
    return Examples(images, labels.astype(np.float32), patients)
