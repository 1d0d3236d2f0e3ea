"""A point from which a round's training goes on after a crash: the weights and the steps that they have behind them.

No noise and no choice of patients is in it. Steps after it are taken anew, with fresh noise and a fresh sample; those
that the crash lost never left the process, so the round's reservation still covers all that will. Safetensors:

    step             int64   (1,)      steps behind it
    weight/<name>    float32           as in the model
    average/<number> float32           of the moving average, if the plan has one

Where checkpoints are kept, and that they are encrypted there, is the session's affair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ledger.errors import InputError
from tasks.train.weights import Weights


class CheckpointError(InputError):
    code = "train.checkpoint"


class Checkpoints(Protocol):
    """Keeps the newest checkpoint of one round's training."""

    def read(self) -> bytes | None: ...

    def write(self, data: bytes) -> None:
        """Durable when it returns."""
        ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    step: int
    weights: Weights
    average: tuple[npt.NDArray[np.float32], ...]

    def to_bytes(self) -> bytes:
        tensors: dict[str, npt.NDArray[np.generic]] = {"step": np.array([self.step], np.int64)}
        tensors |= {f"weight/{name}": value for name, value in self.weights.items()}
        tensors |= {f"average/{number}": value for number, value in enumerate(self.average)}
        data: bytes = save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> Checkpoint:
        try:
            tensors = load(data)
            step = int(tensors.pop("step")[0])
        except (SafetensorError, KeyError, IndexError, ValueError):
            raise CheckpointError(
                "the checkpoint of a training is damaged",
                remedy="Remove it: the round is then trained and paid for anew.",
            ) from None
        named = {
            name.removeprefix("weight/"): value
            for name, value in tensors.items()
            if name.startswith("weight/")
        }
        average = [tensors[f"average/{number}"] for number in range(len(tensors) - len(named))]
        return cls(step, named, tuple(average))
