"""Poisson sampling of patients: who takes part in a step, and with which image.

Each patient is drawn independently with the plan's rate, and one of a drawn patient's images is chosen
uniformly, so that one patient gives at most one gradient a step: this is what makes the patient, not the
image, the unit of privacy (subsampled Gaussian mechanism of Mironov, Talwar and Zhang, arXiv:1908.10530). A patient
who withdraws is excluded from the next step on; the rate of the others stays, as it is a constant of the plan.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from privacy.noise import NoiseStream

Indices = npt.NDArray[np.int64]


class PatientSampler:
    """Draws image indices, at most one a patient, for one site's cohort."""

    def __init__(self, patients: npt.NDArray[np.integer], *, rate: float, noise: NoiseStream) -> None:
        """`patients`, shape (n_images,), holds a patient's index for each image, in any order."""
        self._rate = rate
        self._noise = noise
        self._images: Indices = np.argsort(patients, kind="stable").astype(np.int64)
        names, starts, counts = np.unique(patients[self._images], return_index=True, return_counts=True)
        self._names: Indices = names.astype(np.int64)
        self._present = np.ones(len(names), dtype=np.bool_)
        self._starts: Indices = starts.astype(np.int64)
        self._counts: Indices = counts.astype(np.int64)

    @property
    def patients(self) -> int:
        """How many can be drawn."""
        return int(np.count_nonzero(self._present))

    def exclude(self, patients: npt.NDArray[np.integer]) -> None:
        """Never draw these patients again, with any of their images; `patients` are integers as at the start, in any
        number and order. The others are drawn at the same rate as before."""
        self._present &= ~np.isin(self._names, patients)

    def draw(self) -> Indices:
        """One Poisson sample: indices of images, shape (patients drawn,), possibly empty."""
        drawn = np.flatnonzero(self._noise.bernoulli(self._rate, len(self._counts)) & self._present)
        images: Indices = self._images[self._starts[drawn] + self._noise.choices(self._counts[drawn])]
        return images
