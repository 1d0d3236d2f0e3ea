"""One federated round over an in-memory consortium: what the ledger holds afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.consortium import SITES, Consortium
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-1")


async def test_a_round_registers_a_model_that_leads_back_to_the_ledger(tmp_path: Path) -> None:
    consortium = Consortium.found(tmp_path)
    plan = tiny_plan()
    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    key = (plan.content_digest(), 1)
    assert outcome.state.verdicts[key].passed
    assert outcome.state.registered[key].model_digest == outcome.state.released[key].model_digest
    assert {receipt.site for receipt in outcome.state.receipts.values()} == set(SITES)
    assert len(outcome.state.closed[*key, "training"].receipts) == len(SITES)
