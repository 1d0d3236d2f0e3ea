"""Which items of a batch belong to which patient.

Patients with equally many items lie side by side in bands, so that most work is one operation a band. A batch whose
patients do not lie so is put in that order for the pass; the order of patients means nothing to a sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from privacy.clipping.errors import BatchInvalidError


@dataclass(frozen=True, slots=True)
class Band:
    """Neighbouring patients with `items` items each."""

    first_patient: int
    patients: int
    first_item: int
    items: int

    @property
    def rows(self) -> slice:
        """Its patients among all."""
        return slice(self.first_patient, self.first_patient + self.patients)

    def of(self, batch: Tensor) -> Tensor:
        """(n, ...) of the batch to (patients * items, ...) of the band; a view."""
        count = self.patients * self.items
        return batch if count == batch.shape[0] else batch.narrow(0, self.first_item, count)

    def by_patient(self, batch: Tensor) -> Tensor:
        """(n, ...) of the batch to (patients, items, ...) of the band; a view."""
        part = self.of(batch)
        return part.reshape(self.patients, self.items, *part.shape[1:])

    def sum_items(self, batch: Tensor) -> Tensor:
        """(n, ...) of the batch to (patients, ...), summed over each patient's items."""
        return self.of(batch) if self.items == 1 else self.by_patient(batch).sum(1)


@dataclass(frozen=True, slots=True)
class Patients:
    """The patients of one batch: `counts[i]` items of the i-th patient, in the order of the pass."""

    counts: tuple[int, ...]
    bands: tuple[Band, ...]
    order: tuple[int, ...] | None
    """Where the items of the pass lie in the batch as given; None if just so."""

    @classmethod
    def of(cls, given: Sequence[int], *, items: int) -> Patients:
        """`given` items of each patient, neighbours in a batch of `items`."""
        if any(count < 1 for count in given) or sum(given) != items:
            raise BatchInvalidError("every patient of a batch has items, and every item a patient")
        ranks = sorted(range(len(given)), key=lambda patient: given[patient])
        counts = tuple(given[patient] for patient in ranks)
        order = None if list(ranks) == list(range(len(given))) else tuple(_items(given, ranks))
        return cls(counts, tuple(_bands(counts)), order)

    @property
    def items(self) -> int:
        return sum(self.counts)

    def arrange(self, batch: Tensor) -> Tensor:
        """The batch as given, in the order of the pass."""
        if self.order is None:
            return batch
        return batch.index_select(0, torch.tensor(self.order, device=batch.device))

    def restore(self, batch: Tensor) -> Tensor:
        """The outputs of the pass, in the order as given."""
        if self.order is None:
            return batch
        places = torch.tensor(self.order, device=batch.device)
        return batch.index_select(0, torch.argsort(places))

    def shares(self) -> Tensor:
        """(items,) float64 in the order of the pass: one over the number of the item's patient's items."""
        counts = torch.tensor(self.counts)
        return counts.double().reciprocal().repeat_interleave(counts)


def _items(given: Sequence[int], ranks: Sequence[int]) -> Iterator[int]:
    starts = [0]
    for count in given:
        starts.append(starts[-1] + count)
    for patient in ranks:
        yield from range(starts[patient], starts[patient + 1])


def _bands(counts: Sequence[int]) -> Iterator[Band]:
    patient = item = 0
    for items, group in groupby(counts):
        number = len(list(group))
        yield Band(patient, number, item, items)
        patient, item = patient + number, item + number * items
