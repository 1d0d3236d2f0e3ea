"""After an upgrade the rules are others: the sites adopt them by vote, and receipts say under which they ran."""

from __future__ import annotations

import pytest

import tasks.site.accept
from adapters.home import Home, SiteConfig
from policies.code import running_policy_digest
from tests.consortium import SITES, Consortium
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-2")

NEXT = "ab" * 32


@pytest.fixture
def upgraded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.site.accept, "running_policy_digest", lambda: NEXT)


async def test_receipts_name_the_policy_that_the_members_founded_with(consortium: Consortium) -> None:
    outcome = await consortium.run(tiny_plan(rounds=1))
    assert outcome.errors == {}
    named = {receipt.statement.predicate.policy_digest for receipt in outcome.state.receipts.values()}
    assert named == {running_policy_digest()} == {outcome.state.founded().policy_digest}


async def test_upgraded_sites_adopt_the_policy_before_they_take_part(
    consortium: Consortium, upgraded: None
) -> None:
    outcome = await consortium.run(tiny_plan(rounds=1))
    assert outcome.errors == {}
    assert outcome.state.policy_digest == NEXT
    named = {receipt.statement.predicate.policy_digest for receipt in outcome.state.receipts.values()}
    assert named == {NEXT}


async def test_a_steward_who_lists_policies_is_asked_first(consortium: Consortium, upgraded: None) -> None:
    plan = tiny_plan(rounds=1, participation={"required": [], "minimum_sites": 3, "deadline_s": 60})
    home = Home(consortium.founded.sites[SITES[3]])
    cautious = home.read(SiteConfig).with_fields({"approval": "listed", "approved_plans": []})
    home.write(cautious, home.federation)
    outcome = await consortium.run(plan)
    assert {violation.code for violation in outcome.errors[SITES[3]].violations} == {  # type: ignore[attr-defined]
        "plan.not-approved",
        "policy.not-approved",
    }
    assert outcome.missing(plan, 1)[SITES[3]] == "plan.not-approved"
    assert outcome.state.policy_digest == NEXT  # three of four are a quorum
