"""Poisson sampling of patients: who takes part in a step, with all of their items.

Each patient is drawn independently with the plan's rate, and all items of a drawn patient make one gradient, which is
clipped as one: this is what makes the patient, not the image, the unit of privacy (subsampled Gaussian mechanism of
Mironov, Talwar and Zhang, arXiv:1908.10530). A patient who withdraws is excluded from the next step on; the rate of
the others stays, as it is a constant of the plan.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from privacy.noise import NoiseStream

Indices = npt.NDArray[np.int64]


class PatientSampler:
    """Draws patients of one site's cohort, each as the indices of all their items."""

    def __init__(self, patients: npt.NDArray[np.integer], *, rate: float, noise: NoiseStream) -> None:
        """`patients`, shape (n_items,), holds a patient's number for each item, in any order."""
        self._rate = rate
        self._noise = noise
        order: Indices = np.argsort(patients, kind="stable").astype(np.int64)
        names, starts = np.unique(patients[order], return_index=True)
        self._names: Indices = names.astype(np.int64)
        self._items: list[Indices] = np.split(order, starts[1:]) if len(order) else []
        self._present = np.ones(len(names), dtype=np.bool_)

    @property
    def patients(self) -> int:
        """How many can be drawn."""
        return int(np.count_nonzero(self._present))

    def exclude(self, patients: npt.NDArray[np.integer]) -> None:
        """Never draw these patients again, with any of their items; `patients` are integers as at the start, in any
        number and order. The others are drawn at the same rate as before."""
        self._present &= ~np.isin(self._names, patients)

    def draw(self) -> list[Indices]:
        """One Poisson sample: the items of each patient drawn, possibly of nobody."""
        coins = self._noise.bernoulli(self._rate, len(self._items)) & self._present
        return [self._items[number] for number in np.flatnonzero(coins)]
