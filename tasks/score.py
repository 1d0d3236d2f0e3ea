"""Scores of a model: probabilities per image, one score per patient, the exact AUC, and noised counts of scores.

The exact AUC of patients' scores depends on patients: it may be shown at the site, or computed on a public
test split. What leaves a site is `evaluation_counts` or `mask_counts`, whose noise is `privacy.histogram`'s and whose
cost is `policies.cost`'s, and nothing else from here.

A score that is not a number counts as `UNSCORED`, and no score is refused: whether a network overflows on somebody
is that patient's, and an evaluation that failed over it would tell it without any noise.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from policies.plan import Evaluation
from privacy.histogram import SUBGROUPS, noised, score_histogram
from privacy.noise import NoiseStream
from tasks.segmentation import Segmented

if TYPE_CHECKING:
    import torch

# Items scored at once, and how many values they may have together: volumes are larger than images.
_BATCH, _BATCH_VALUES = 512, 1 << 24
_PLACES = 8
"""Items in each batch of `score_apart`."""
UNSCORED = 0.5
"""The probability of an item of which the network says nothing."""


def score(
    module: torch.nn.Module, inputs: npt.NDArray[np.float32], device: torch.device | str = "cpu"
) -> npt.NDArray[np.float32]:
    """Probability of the second label for each item, (n, *shape of the contract) -> (n,), or for each pixel of its
    mask, (n, 1, *spatial)."""
    import torch

    if not len(inputs):
        return np.zeros(0, np.float32)
    module.to(device).eval()
    many, parts = max(1, min(_BATCH, _BATCH_VALUES // inputs[0].size)), []
    with torch.inference_mode():
        for start in range(0, len(inputs), many):
            batch = torch.from_numpy(np.ascontiguousarray(inputs[start : start + many], np.float32))
            parts.append(torch.sigmoid(module(batch.to(device))).to("cpu", torch.float32).numpy())
    return np.concatenate(parts)


def score_apart(
    module: torch.nn.Module, inputs: npt.NDArray[np.float32], device: torch.device | str = "cpu"
) -> npt.NDArray[np.float32]:
    """The same, so that an item's score is a function of the item and the model, whoever else is there.

    Rounding depends on the size of a batch and on the place in it. Here all batches have one size, and an item's
    place follows from its own content: one item more or less changes in which batch others are, and nothing else.
    What stays empty is zeros.
    """
    import torch

    if not len(inputs):
        return np.zeros(0, np.float32)
    module.to(device).eval()
    size = max(1, min(_PLACES, _BATCH_VALUES // inputs[0].size))
    waiting: list[list[int]] = [[] for _ in range(size)]
    for number, item in enumerate(inputs):
        waiting[zlib.crc32(item.tobytes()) % size].append(number)
    found: dict[int, npt.NDArray[np.float32]] = {}
    with torch.inference_mode():
        for turn in range(max(map(len, waiting))):
            there = {place: line[turn] for place, line in enumerate(waiting) if turn < len(line)}
            batch = torch.zeros(size, *inputs.shape[1:])
            for place, number in there.items():
                batch[place] = torch.from_numpy(np.ascontiguousarray(inputs[number], np.float32))
            scores = torch.sigmoid(module(batch.to(device))).to("cpu", torch.float32).numpy()
            found.update((number, scores[place]) for place, number in there.items())
    return np.stack([found[number] for number in range(len(inputs))])


def patient_scores(
    scores: npt.NDArray[np.float32], labels: npt.NDArray[np.integer], patients: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Mean score and label of each patient, in ascending order of the patient's integer; each (n_patients,).

    A patient with any positive image counts as positive; an image without a score, as `UNSCORED`.
    """
    scores = np.where(np.isnan(scores), UNSCORED, scores)
    unique, index = np.unique(patients, return_inverse=True)
    counts = np.bincount(index, minlength=len(unique))
    means = np.bincount(index, weights=scores, minlength=len(unique)) / counts
    patient_labels = np.zeros(len(unique), np.int64)
    np.maximum.at(patient_labels, index, labels.astype(np.int64))
    return means.astype(np.float32), patient_labels


def exact_auc(scores: npt.NDArray[np.floating], labels: npt.NDArray[np.integer]) -> float | None:
    """Area under the ROC curve; None where only one label is present and the area is undefined."""
    if len(np.unique(labels)) < 2:
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores))


def evaluation_counts(
    scores: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    members: npt.NDArray[np.integer],
    evaluation: Evaluation,
    noise: NoiseStream,
) -> npt.NDArray[np.int64]:
    """The noised histogram of (n,) patients' scores, labels 0 or 1 and groups (indices into the plan's SUBGROUPS, not
    looked at where it has none), in the order of lanes that `policies.opening` reads: (group, label, bin), or
    (label, bin) without subgroups.

    Every cell gets its own noise. A patient is in one cell of them all, whatever their number: a sensitivity of 1.
    """
    return _noised_by_group(scores, labels, members, evaluation, noise)


def mask_counts(
    found: Segmented, members: npt.NDArray[np.integer], evaluation: Evaluation, noise: NoiseStream
) -> npt.NDArray[np.int64]:
    """The same of masks: (group, Dice or distance, bin). A patient is in one cell of each of the two rows: a
    sensitivity of √2, which `policies.cost` charges."""
    zeros, ones = np.zeros(len(members), np.int64), np.ones(len(members), np.int64)
    values, rows = np.concatenate([found.dice, found.distance]), np.concatenate([zeros, ones])
    return _noised_by_group(values, rows, np.concatenate([members, members]), evaluation, noise)


def _noised_by_group(
    values: npt.NDArray[np.floating],
    rows: npt.NDArray[np.integer],
    members: npt.NDArray[np.integer],
    evaluation: Evaluation,
    noise: NoiseStream,
) -> npt.NDArray[np.int64]:
    values = np.clip(np.nan_to_num(values, nan=UNSCORED), 0.0, 1.0)
    whole = np.ones(len(values), dtype=np.bool_)
    groups = SUBGROUPS[evaluation.subgroups]
    parts = [members == group for group in range(len(groups))] if groups else [whole]
    return np.concatenate(
        [
            noised(
                score_histogram(values[part], rows[part], evaluation.bins), evaluation.noise_std, noise
            ).ravel()
            for part in parts
        ]
    )
