"""Models, opened sums and server states of a plan, from the exchange. What is longer than it can be is not read
(`exchange.too-large`); within that the digest decides (`adapters.objects`).

The coordinator and every site come here. What the bytes mean lives with `tasks.train` and `tasks.aggregate`, how long
they can be in `tasks.object_sizes`.
"""

from __future__ import annotations

from adapters import objects
from policies.events import PlanPublished
from policies.protection import opened_groups
from tasks.object_sizes import ObjectSizes
from tasks.opening import Opener
from tasks.worker.model_session import ModelSession


async def load_model(party: Opener, published: PlanPublished, model_digest: str) -> bytes:
    """A model of the plan's network."""
    sizes = await _sizes(party, published)
    return objects.load(party.exchange, model_digest, at_most_bytes=sizes.model)


async def load_sum(party: Opener, published: PlanPublished, round_number: int, sum_digest: str) -> bytes:
    """The opened sums of a round's training, one behind the other."""
    sizes = await _sizes(party, published)
    groups = len(opened_groups(party.state, published.plan_digest, round_number, "training"))
    return objects.load(party.exchange, sum_digest, at_most_bytes=groups * sizes.group_sum)


async def previous_model(party: Opener, published: PlanPublished, round_number: int) -> bytes | None:
    """The model before the last round, from which a compressed round's coordinates follow; None where none do."""
    if published.plan.compression is None or round_number == 1:
        return None
    before = party.state.model_before(published.plan_digest, round_number - 1)
    return None if before is None else await load_model(party, published, before)


async def server_state(party: Opener, published: PlanPublished, round_number: int) -> bytes | None:
    """The state with which the server's optimiser begins a round, as the ledger names it; None where it has none:
    an average never has, and every plan begins without."""
    if round_number == 1 or not published.plan.update.server.keeps_state:
        return None
    released = party.state.released.get((published.plan_digest, round_number - 1))
    if released is None or released.server_state_digest is None:
        return None
    sizes = await _sizes(party, published)
    return objects.load(party.exchange, released.server_state_digest, at_most_bytes=sizes.server_state)


async def _sizes(party: Opener, published: PlanPublished) -> ObjectSizes:
    return await party.worker.call(ModelSession.object_sizes, published.plan)
