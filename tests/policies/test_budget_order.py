"""A pool counts at the order that it pinned, whatever another order would flatter it with."""

from __future__ import annotations

import pytest

from policies.cost import round_cost
from policies.document import MalformedDocumentError
from policies.federation import Pool
from privacy import accounting
from privacy.accounting import ORDERS, Curve
from tests.policies.assembly import plan
from tests.policies.founding import pool


def test_a_pool_pins_its_order() -> None:
    cost = round_cost(plan(), 1)
    told = {order: Pool(epsilon_cap_micro=1, delta=1e-5, order=order).epsilon_micro(cost) for order in ORDERS}
    assert len(set(told.values())) > len(ORDERS) // 2
    assert min(told.values()) == accounting.epsilon_micro(cost, 1e-5)
    for order in (2, 8, 64):
        assert told[order] == accounting.epsilon_micro_at(cost, 1e-5, order=order)
    assert pool().epsilon_micro(Curve.zero()) == 0


@pytest.mark.parametrize("order", [1, 0, -3, 65, 2000])
def test_an_order_is_one_of_the_published(order: int) -> None:
    with pytest.raises(MalformedDocumentError) as refused:
        Pool.from_value({"epsilon_cap_micro": 1, "delta": 1e-5, "order": order}, what="pool")
    assert "order" in refused.value.public_message


def test_what_the_cap_admits_is_what_its_epsilon_says() -> None:
    """The rule compares Rényi divergence at the order, people read epsilon: they never disagree."""
    cost, mine = round_cost(plan(), 1), pool(12.0)
    spent = Curve.zero()
    while mine.rdp_micro(spent + cost) <= mine.rdp_cap_micro:
        spent = spent + cost
    assert mine.epsilon_micro(spent) <= mine.epsilon_cap_micro < mine.epsilon_micro(spent + cost)
