"""A plan that takes fewer sites than approve it: who is left out goes home with its whole budget."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.cost import plan_cost
from privacy.accounting import Curve
from tests.consortium import Consortium
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-2")

SIX = tuple(f"hospital-{letter}" for letter in "abcdef")


async def test_the_ledger_selects_and_who_is_not_selected_draws_nothing(tmp_path: Path) -> None:
    """Four of six: a quorum of five has to cosign, so that one of those left out witnesses to the end."""
    consortium = Consortium.found(tmp_path, sites=SIX, patients=dict.fromkeys(SIX, 80))
    fields = {"participation": {"required": [], "minimum_sites": 3, "deadline_s": 30, "select": 4}}
    plan = tiny_plan(rounds=2, **fields)
    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    digest, state = plan.content_digest(), outcome.state
    picked = state.rosters[digest]
    left = sorted({*SIX} - {*picked})
    assert len(picked) == 4 and (digest, 2) in state.registered
    for number in (1, 2):
        for step in ("training", "evaluation"):
            assert outcome.missing(plan, number, step) == dict.fromkeys(left, "roster.not-selected")  # type: ignore[arg-type]
    for site in SIX:
        assert state.spent_by(site) == (plan_cost(plan) if site in picked else Curve.zero())
        assert ("patients_by_round" in (consortium.founded.sites[site] / "report.json").read_text()
                if site in picked else not (consortium.founded.sites[site] / "report.json").exists())  # fmt: skip
