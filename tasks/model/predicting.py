"""What an exported model says of files: a probability an item, or a mask of the item's own size.

Works offline and without a home. Reading files is `adapters.sources.items`'s, the format of a model `exported`'s;
where predictions are printed or written is the command's affair. They are about patients and stay where they were
made.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from adapters.sources.items import Item, Unusable
from tasks.model.exported import ExportedModel
from tasks.segmentation import THRESHOLD
from tasks.train.calibration import CalibrationHead

if TYPE_CHECKING:
    import torch

# Items in memory at once, by how much one of them is.
_BATCH_VALUES = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    name: str
    probability: float | None
    """That the label is the contract's second; None where a mask is predicted."""
    mask: npt.NDArray[np.uint8] | None
    """0 or 1, of the item's stored size."""
    volume_ml: float | None
    """Of the mask, where the file says how large a voxel is."""
    affine: npt.NDArray[np.float64] | None


class Predictor:
    """A model, built once."""

    def __init__(
        self, model: ExportedModel, *, head: CalibrationHead | None = None, device: str = "cpu"
    ) -> None:
        from tasks.train import networks, weights

        about = model.about
        like = networks.template(about.network, about.data)
        known = weights.from_bytes(model.weights, like)
        self._module: torch.nn.Module = networks.loaded(about.network, about.data, known)
        self._data, self._head, self._device = about.data, head, device

    def predict(self, items: Iterable[Item | Unusable]) -> Iterator[Prediction | Unusable]:
        """In the order of the items; a batch is in memory at a time."""
        size = max(1, _BATCH_VALUES // int(np.prod(self._data.shape)))
        source = iter(items)
        while batch := list(itertools.islice(source, size)):
            usable = [one for one in batch if isinstance(one, Item)]
            found = iter(self._of(usable))
            yield from (next(found) if isinstance(one, Item) else one for one in batch)

    def _of(self, items: list[Item]) -> list[Prediction]:
        from tasks.score import score

        if not items:
            return []
        scores = score(self._module, np.stack([item.input for item in items]), self._device)
        if self._data.target == "mask":
            return [_masked(item, one[0]) for item, one in zip(items, scores, strict=True)]
        if self._head is not None:
            scores = self._head.calibrated(scores)
        return [
            Prediction(item.name, float(one), None, None, None)
            for item, one in zip(items, scores, strict=True)
        ]


def _masked(item: Item, probabilities: npt.NDArray[np.float32]) -> Prediction:
    """The mask at the item's stored size: each pixel takes that of the network which covers its centre."""
    mask = (probabilities >= THRESHOLD).astype(np.uint8)
    for axis, (stored, seen) in enumerate(zip(item.size, mask.shape, strict=True)):
        mask = np.take(mask, (np.arange(stored) * 2 + 1) * seen // (2 * stored), axis=axis)
    volume = None
    if item.affine is not None:
        volume = float(mask.sum()) * abs(float(np.linalg.det(item.affine[:3, :3]))) / 1000.0
    return Prediction(item.name, None, mask, volume, item.affine)
