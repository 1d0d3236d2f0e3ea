"""Phantoms under any contract: items that every site makes in memory, for a dry round without any patient's data.

    images, volumes    noise, brighter in one corner where the label is the contract's second; masks mark that corner
    rows of a table    noise in [-1, 1], its first value shifted by the label

They follow from the contract and the site's name, so that a run that was cut off finds the same ones. Studies that
look like patients' are `phantoms` and `volume_phantoms`; these only have the right shape.
"""

from __future__ import annotations

import hashlib
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adapters.sources.assembly import assemble
from adapters.sources.cohort import Cohort
from policies.data_contract import DataContract

COUNT: Final = 8000
"""So many that a federated figure shows through noise of which nearly nothing would remain of a patient."""
LARGEST_VALUES: Final = 2**25
_SECRET: Final = b"phantoms are nobody: no secret keys them"


class StandInSource:
    def __init__(self, *, site: str) -> None:
        self._site = site

    def load(self, contract: DataContract) -> Cohort:
        shape = contract.shape
        fitting = LARGEST_VALUES // math.prod(shape)
        count = max(2 * contract.minimum_patients, min(COUNT, fitting))
        seed = hashlib.sha256(f"wardround stand-in {self._site}".encode()).digest()
        random = np.random.default_rng(int.from_bytes(seed[:8], "big"))
        positive = np.arange(count) % 2 == 1
        inputs: NDArray[np.float32] = random.random((count, *shape), dtype=np.float32)
        corner = (slice(None), slice(None), *(slice(0, max(1, length // 2)) for length in shape[1:]))
        masks: NDArray[np.uint8] | None = None
        if contract.image is None:
            inputs = 2 * inputs - 1
            inputs[:, 0] = np.clip(0.5 * inputs[:, 0] + np.where(positive, 0.5, -0.5), -1, 1)
        else:
            inputs *= 0.5
            inputs[corner] += np.where(positive, 0.5, 0.0).reshape(-1, *([1] * len(shape))).astype(np.float32)
        if contract.target == "mask":
            masks = np.full((count, *shape), contract.labels[0], np.uint8)
            marked = masks[positive]
            marked[corner] = contract.labels[1]
            masks[positive] = marked
        imaged = contract.image is not None
        return assemble(
            contract,
            site=self._site,
            secret=_SECRET,
            inputs=inputs,
            labels=np.where(positive, contract.labels[1], contract.labels[0]).tolist(),
            identifiers=[f"phantom-{number}" for number in range(count)],
            modalities=None if contract.image is None else [contract.image.modalities[0]] * count,
            bits=[8] * count if imaged else None,
            sexes=["F" if number % 4 < 2 else "M" for number in range(count)],
            masks=masks,
        )
