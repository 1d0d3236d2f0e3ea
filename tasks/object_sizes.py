"""How long the models, opened sums and server states of a plan can be.

As the lengths of reports (`privacy.message_sizes`) they follow from the plan and its network: whoever can write to
the exchange could lay gigabytes under a digest that everybody reads. Loading them is `tasks.model_objects`.
"""

from __future__ import annotations

from dataclasses import dataclass

from policies.plan import Plan
from tasks.aggregate import lane_count, model_size
from tasks.train import networks, server_optimizer, weights

_LANE_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectSizes:
    """Bytes at most."""

    model: int
    server_state: int
    group_sum: int
    """Of one group's training."""


def object_sizes(plan: Plan) -> ObjectSizes:
    """Takes the plan's network: for a party's process."""
    return ObjectSizes(
        model=weights.most_bytes(networks.template(plan.network, plan.data)),
        server_state=server_optimizer.most_bytes(model_size(plan)),
        group_sum=_LANE_BYTES * lane_count(plan, "training"),
    )
