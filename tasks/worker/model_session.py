"""What every party computes of a plan's models and sums, in its own process, out of what is public.

The coordinator and each site compute the same and compare digests. What a site adds of its patients and its keys is
in `site_session` and `sum_session`, what the coordinator checks in `coordinator_session`.
"""

from __future__ import annotations

from policies.inquiry import AnyPlan
from policies.plan import Plan
from privacy.message_sizes import MessageSizes
from tasks.aggregate import Aggregate, aggregate, check_resolution
from tasks.object_sizes import ObjectSizes, object_sizes
from tasks.summing import GroupSum, SumTerms, open_groups, sizes_of
from tasks.train import networks, weights
from tasks.train.weights import Weights


class ModelSession:
    def initial_model(self, plan: Plan) -> bytes:
        return weights.to_bytes(networks.initial(plan.network, plan.data, plan.seed))

    def check_network(self, plan: Plan) -> None:
        """Raise what the plan's numbers have against the network that it names."""
        check_resolution(plan)

    def message_sizes(self, plan: AnyPlan, terms: SumTerms) -> MessageSizes:
        """How long the messages of one sum can be."""
        return sizes_of(plan, terms)

    def object_sizes(self, plan: Plan) -> ObjectSizes:
        """How long what follows from sums can be."""
        return object_sizes(plan)

    def open_sums(self, plan: AnyPlan, groups: list[GroupSum]) -> bytes:
        """The opened sums of all groups, one behind the other, as this party finds them."""
        return open_groups(plan, groups)

    def next_model(
        self,
        plan: Plan,
        round_number: int,
        base: bytes,
        opened: bytes,
        *,
        sizes: tuple[int, ...],
        previous: bytes | None,
        server_state: bytes | None = None,
    ) -> Aggregate:
        """What follows from a round's opened sums."""
        return aggregate(
            plan, round_number, base, opened, sizes=sizes, previous=previous, server_state=server_state
        )

    def _weights(self, plan: Plan, data: bytes) -> Weights:
        return weights.from_bytes(data, networks.template(plan.network, plan.data))
