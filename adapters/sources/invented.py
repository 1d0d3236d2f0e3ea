"""Shards of invented patients, as small as images go: for rehearsals and tests, never mixed with anybody's data.

A label shows in an image's brightness, so that a model of a hundred parameters learns it in a round. Studies that
look like patients' are `phantoms`; what a site makes up without a file is `stand_in`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIDE_PX = 8


def write_shard(
    path: Path,
    *,
    patients: int = 200,
    seed: int = 0,
    width_px: int = SIDE_PX,
    inverted: bool = False,
    sexes: bool = False,
) -> None:
    """A shard of `patients` images, one each, of 8 x 8 pixels with labels 0 and 1 in turn: the first `width_px`
    columns are brighter where the label is 1. Of a whole image's brightness a network with norms sees little.
    `inverted`: what a scanner's new software makes of the same patients. `sexes`: they are told, two F and two M in
    turn."""
    random = np.random.default_rng(seed)
    labels = np.arange(patients) % 2
    images = random.integers(0, 120, (patients, SIDE_PX, SIDE_PX))
    images[:, :, :width_px] += labels[:, None, None] * 100
    path.parent.mkdir(parents=True, exist_ok=True)
    told: dict[str, NDArray[np.generic]] = {
        "images": (255 - images if inverted else images).astype(np.uint8),
        "labels": labels.astype(np.int64),
        "patients": np.array([f"invented-{seed}-{number}" for number in range(patients)]),
        "modality": np.array("CR"),
    }
    if sexes:
        told["sexes"] = np.array(["F", "F", "M", "M"])[np.arange(patients) % 4]
    np.savez(path, allow_pickle=False, **told)
