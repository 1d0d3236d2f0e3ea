"""A rehearsal is a real federation, and nothing of it is left."""

from __future__ import annotations

import pytest

from flows.rehearsal import rehearsing
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-1")


async def test_a_rehearsal_is_played_and_gone() -> None:
    plan = tiny_plan()
    with rehearsing(("hospital-a", "hospital-b", "hospital-c")) as rehearsal:
        outcome = await rehearsal.run(plan)
        root = rehearsal.founded.exchange.parent
        assert outcome.errors == {} and outcome.missing(plan, 1) == {}
        assert outcome.state.verdicts[plan.content_digest(), 1].passed
        assert rehearsal.state().size == outcome.state.size
        assert (root / "coordinator").is_dir()
    assert not root.exists()
