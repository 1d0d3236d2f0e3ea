"""What a site sends of an update under distributed noise: whole numbers with its share of the noise on each.

Clipping, rounding to the nearest and noise, in this order and nothing else: what stochastic rounding or error
feedback adds is not in the price. Deciding when, and protecting what comes of it, is `tasks.worker.site_session`.
"""

from __future__ import annotations

import numpy as np

from ledger.errors import InputError
from policies.plan import Plan
from privacy.encoding import Vector, clip_coordinates, clip_l2
from privacy.noise import NoiseStream
from privacy.packing import Lanes
from tasks.aggregate import check_resolution, encoding_of


class NotDistributedError(InputError):
    code = "protect.not-distributed"


def noised_update(plan: Plan, update: Vector) -> Lanes:
    """(n_weights,) lanes of a plan with distributed noise, drawn once. `update` is float64: a difference of weights
    in single precision is rounded more coarsely than the plan pays for.

    Raises `ResolutionError` before any noise where the lanes are too narrow for the network.
    """
    share = plan.noise_share
    if share is None or update.dtype != np.float64:
        raise NotDistributedError(
            "shares of noise are for plans with distributed noise and updates in doubles"
        )
    check_resolution(plan)
    encoding = encoding_of(plan)
    sent = clip_l2(update.astype(np.float64, copy=False), plan.update.clip_l2)
    if encoding.bound < plan.update.clip_l2:
        clip_coordinates(sent, encoding.bound)
    lanes = encoding.encode(sent)
    with NoiseStream() as stream:
        return share.added(lanes, stream, packing=encoding.packing)
