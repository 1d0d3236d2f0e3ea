"""What the server makes of a round's mean update: FedAvg, FedAdam or FedYogi, and the state that goes with them.

Pure functions over float64 vectors. Every party computes the same step and compares digests, so that additions,
multiplications, divisions, square roots and comparisons of IEEE 754 doubles are all that is used, one after the other
and coordinate by coordinate: each is rounded the same on all machines. With x the weights, d the mean update of the
round (zero where a compressed round sent nothing) and e the learning rate of the round:

    average     x <- x + e d                                                            (McMahan et al. 2017)
    adam, yogi  m <- beta1 m + (1 - beta1) d                 m = 0 before round 1       (Reddi et al. 2021,
                x <- x + e m / (sqrt(v) + tau)               v = tau^2 before round 1    arXiv:2003.00295,
    adam        v <- beta2 v + (1 - beta2) d^2                                           algorithm 2)
    yogi        v <- v - (1 - beta2) d^2 sign(v - d^2)

As in the paper there is no correction of the bias towards m = 0, and tau stands where Adam has its epsilon. v is
moved before x. The weights are rounded to float32 once a round; m and v are never rounded.

The state after a round is safetensors bytes of two float64 rows of all weights in the order of `weights.flatten`:

    {"m": (n,), "v": (n,)}

It follows from opened sums alone, as the model does, and tells nothing beyond them. A plan begins without one, on
whatever model it begins. Which state belongs to a round is `tasks.model_objects`' affair.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as _load
from safetensors.numpy import save as _save

from ledger.errors import InputError
from policies.training import Server

Row: TypeAlias = npt.NDArray[np.float64]
"""(n,) one value a weight."""
_HEADER_BYTES = 512
"""Of the state's file, and more than it can take."""


class ServerStateError(InputError):
    """Bytes that are not the state of this plan's server, or a state where there should be none."""

    code = "server.state"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """What an adaptive optimiser remembers: means of the updates and of their squares, both (n,) float64."""

    m: Row
    v: Row

    @classmethod
    def fresh(cls, terms: Server, size: int) -> ServerState:
        """Before the first round of a plan."""
        return cls(m=np.zeros(size), v=np.full(size, terms.tau * terms.tau))

    def to_bytes(self) -> bytes:
        data: bytes = _save({"m": np.ascontiguousarray(self.m), "v": np.ascontiguousarray(self.v)})
        return data

    @classmethod
    def from_bytes(cls, data: bytes, *, size: int) -> ServerState:
        """Read received bytes: exactly m and v, float64, (size,), finite, no v below zero."""
        try:
            rows: dict[str, npt.NDArray[np.generic]] = _load(data)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ServerStateError(
                "the server's state is not a safetensors file", diagnostics=str(error)
            ) from None
        if set(rows) != {"m", "v"}:
            raise ServerStateError("the server's state is not that of m and v")
        for name, row in rows.items():
            if row.dtype != np.float64 or row.shape != (size,):
                raise ServerStateError(
                    f"{name} has type {row.dtype} and shape {row.shape}, expected float64 ({size},)"
                )
            if not np.isfinite(row).all():
                raise ServerStateError(f"{name} holds values that are not finite")
        state = cls(m=rows["m"].astype(np.float64), v=rows["v"].astype(np.float64))
        if (state.v < 0).any():
            raise ServerStateError("v holds a mean of squares that is below zero")
        return state


def most_bytes(size: int) -> int:
    """How long the state of an optimiser of `size` weights can be: m, v, and a header."""
    return 16 * size + _HEADER_BYTES


def learning_rate_at(terms: Server, learning_rate: float, *, round_number: int, rounds: int) -> float:
    """The server's learning rate in a round, counted from 1."""
    if terms.schedule == "constant":
        return learning_rate
    return learning_rate * float(rounds - round_number + 1) / float(rounds)


def step(
    base: Row, update: Row, state: ServerState | None, *, terms: Server, learning_rate: float
) -> tuple[Row, ServerState | None]:
    """The weights after a round, (n,), and the state to go on with; None where the optimiser has none.

    `base` and `update` are (n,), `learning_rate` that of the round. Nothing is changed in place. What overflows
    comes back as infinities, which no model is made of (`weights.unflatten`).
    """
    if (state is not None) != terms.keeps_state:
        raise ServerStateError("an average has no state, any other optimiser one")
    if state is None:
        return base + learning_rate * update, None
    if not base.shape == update.shape == state.m.shape == state.v.shape:
        raise ServerStateError("weights, update and state are of different sizes")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        square = update * update
        m = terms.beta1 * state.m + (1.0 - terms.beta1) * update
        if terms.optimizer == "adam":
            v = terms.beta2 * state.v + (1.0 - terms.beta2) * square
        else:
            v = state.v - (1.0 - terms.beta2) * square * np.sign(state.v - square)
        moved = base + learning_rate * m / (np.sqrt(v) + terms.tau)
    return moved, ServerState(m=m, v=v)
