"""How well masks were found: Dice and Hausdorff distance, one of each a patient. Exact: they stay at the site.

Dice is 2·|A∩B| / (|A|+|B|); of two empty masks it is 1. The distance is the 95 % Hausdorff distance (Huttenlocher,
Klanderman and Rucklidge 1993; the 95th percentile of each direction's surface distances, the larger of the two, as
MONAI takes it) in pixels of the contract's grid over the grid's diagonal, so that it lies in [0, 1]: 0 of two empty
masks, 1 where only one is empty. A pixel whose probability is not a number is not found. Several images of a patient
are averaged. What leaves a site is `tasks.score`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

THRESHOLD = 0.5
_PERCENTILE = 95.0
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Segmented:
    """Each (n_patients,) in [0, 1], in ascending order of the patient's integer. Printing one shows nothing."""

    dice: npt.NDArray[np.float64]
    distance: npt.NDArray[np.float64]

    def numbers(self) -> dict[str, float]:
        """Means over patients; nothing where there are none."""
        if not len(self.dice):
            return {}
        return {"dice": float(self.dice.mean()), "hausdorff": float(self.distance.mean())}


def segmented(
    probabilities: npt.NDArray[np.floating],
    targets: npt.NDArray[np.floating],
    patients: npt.NDArray[np.integer],
) -> Segmented:
    """Of (n, 1, *spatial) probabilities and targets 0 or 1, and each item's patient (n,)."""
    unique, index = np.unique(patients, return_inverse=True)
    pairs = [
        (found[0] >= THRESHOLD, drawn[0] > THRESHOLD)
        for found, drawn in zip(probabilities, targets, strict=True)
    ]
    counts = np.bincount(index, minlength=len(unique))
    sums = [
        np.bincount(index, weights=[figure(*pair) for pair in pairs], minlength=len(unique))
        for figure in (dice, hausdorff)
    ]
    return Segmented(*(total / np.maximum(counts, 1) for total in sums))


def dice(found: Mask, drawn: Mask) -> float:
    both = int(found.sum()) + int(drawn.sum())
    return 1.0 if both == 0 else 2.0 * int((found & drawn).sum()) / both


def hausdorff(found: Mask, drawn: Mask) -> float:
    """Over the diagonal of the grid."""
    if not found.any() or not drawn.any():
        return float(found.any() != drawn.any())
    surfaces = _surface(found), _surface(drawn)
    diagonal = float(np.sqrt(sum((length - 1) ** 2 for length in found.shape)))
    return max(_one_way(*surfaces), _one_way(*reversed(surfaces))) / max(diagonal, 1.0)


def _surface(mask: Mask) -> Mask:
    from scipy.ndimage import binary_erosion

    inner: Mask = binary_erosion(mask)
    return mask & ~inner


def _one_way(origin: Mask, target: Mask) -> float:
    """The 95th percentile of the distances from the points of one surface to the other."""
    from scipy.ndimage import distance_transform_edt

    away: npt.NDArray[np.float64] = distance_transform_edt(~target)
    return float(np.percentile(away[origin], _PERCENTILE))
