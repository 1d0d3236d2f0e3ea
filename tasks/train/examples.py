"""What a site trains on: inputs, what is to be learned of them, and whose they are.

Nothing of it is printed: logs and tracebacks print their arguments. Reading data lives in `adapters.sources`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Examples:
    """`inputs` float32 (n, *shape); `targets` float32 of 0 and 1, (n,) labels or (n, 1, *spatial) masks; `patients`
    (n,) names each item's patient by any integer, in any order."""

    inputs: npt.NDArray[np.float32]
    targets: npt.NDArray[np.float32]
    patients: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if not len(self.inputs) == len(self.targets) == len(self.patients):
            raise ValueError("inputs, targets and patients are as many")

    def __repr__(self) -> str:
        return "Examples(...)"
