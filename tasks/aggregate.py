"""What follows from an opened sum: the next model. The same bytes at every party.

Plain functions over lanes and weights, used by the coordinator to release a model and by each site to check
it: a site that arrives at another digest refuses the round. Opening sums lives in `privacy.homomorphic`.
"""

from __future__ import annotations

import numpy as np

from ledger.errors import InputError
from policies.plan import Plan
from privacy.encoding import Encoding
from privacy.packing import Lanes
from tasks.train import weights
from tasks.train.weights import Weights


class LanesError(InputError):
    code = "aggregate.lanes"


def encoding_of(plan: Plan) -> Encoding:
    """The plan's fixed-point encoding; an update's L2 clip bounds every coordinate."""
    return Encoding(
        lane_bits=plan.update.lane_bits, bound=plan.update.clip_l2, maximum_sites=plan.update.maximum_sites
    )


def lanes_to_bytes(lanes: Lanes) -> bytes:
    """Little-endian int32, the form in which an opened sum is named by digest."""
    return lanes.astype("<i4").tobytes()


def lanes_from_bytes(data: bytes, *, count: int) -> Lanes:
    if len(data) != 4 * count:
        raise LanesError(f"an opened sum holds {len(data) // 4} lanes, expected {count}")
    return np.frombuffer(data, dtype="<i4").astype(np.int32)


def apply_sum(base: Weights, opened: Lanes, *, plan: Plan, sites: int) -> Weights:
    """base + server_learning_rate * sum / sites, in float64 and rounded once to float32.

    Each site weighs 1/sites: a weight by patients would release the number of patients. Only additions,
    multiplications and divisions of IEEE 754 doubles are used, so that all machines agree on every bit.
    """
    mean = encoding_of(plan).decode_sum(opened, sites=sites) / float(sites)
    moved = weights.flatten(base).astype(np.float64) + plan.update.server_learning_rate * mean
    return weights.unflatten(moved.astype(np.float32), base)
