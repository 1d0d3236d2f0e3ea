"""Sites that are gone at the wrong moment: before they report, before they answer, too many at once, too late.

A sum is opened without them as long as its threshold of answers is there (`privacy.sum_context.threshold_of`); where
it is not, nothing is opened and the run says whose answers it lacks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import pytest

import flows.coordinator
from adapters.home import Home, SiteConfig
from policies.events import PlanPublished, RoundClosed, SiteQuarantined
from policies.plan import Plan
from policies.receipt import Step
from privacy.protected_sum import Answer
from tasks.coordinator.party import Coordinator
from tasks.summing import SumTerms
from tasks.worker.process import InlineWorker
from tasks.worker.site_session import SiteSession
from tests.consortium import SITES, Consortium, site_worker
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-2")

P = ParamSpec("P")
R = TypeVar("R")
A, B, C, D = SITES


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that do not come are waited for half a second."""
    monkeypatch.setattr("tasks.opening.GRACE_S", 0.5)


def patient_for(deadline_s: int, **fields: object) -> Plan:
    return tiny_plan(participation={"required": [], "minimum_sites": 3, "deadline_s": deadline_s}, **fields)


def gone_in_round_1(*, before: str) -> type[SiteSession]:
    """Fails before it has reported its training, or afterwards before it has answered."""

    class Gone(SiteSession):
        def train(self, plan: Plan, base: bytes, round_number: int, attempt: int) -> float:
            if before == "report" and round_number == 1:
                raise OSError("the disk is full")
            return super().train(plan, base, round_number, attempt)

        def answer(self, plan: Plan, terms: SumTerms, *rest: object) -> Answer | None:
            if before == "answer" and terms.context.round == 1:
                raise OSError("the disk is full")
            return super().answer(plan, terms, *rest)

    return Gone


async def test_two_of_seven_drop_one_before_and_one_after_it_reported_and_both_come_back(
    tmp_path: Path, short_grace: None
) -> None:
    """Of seven sites five answers open a sum: exactly those that are left."""
    names = tuple(f"hospital-{letter}" for letter in "abcdefg")
    consortium = Consortium.found(tmp_path, sites=names, patients=dict.fromkeys(names, 60))
    consortium.workers["hospital-e"] = site_worker(gone_in_round_1(before="report"))
    consortium.workers["hospital-g"] = site_worker(gone_in_round_1(before="answer"))
    plan = tiny_plan(rounds=2)
    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    assert outcome.missing(plan, 1) == {"hospital-e": "site.withheld"}
    assert outcome.missing(plan, 2) == {}
    answered = {
        number: {
            path.name for path in (consortium.founded.exchange / "answers").rglob(f"{number}-training/*")
        }
        for number in (1, 2)
    }
    assert answered == {1: set(names) - {"hospital-e", "hospital-g"}, 2: set(names)}
    assert "no answer in round 1 (training)" in consortium.site_log("hospital-g")
    assert consortium.registered_versions() == 2


async def test_without_enough_answers_nothing_is_opened_until_the_sites_are_back(
    consortium: Consortium, short_grace: None
) -> None:
    for name in (C, D):
        consortium.workers[name] = site_worker(gone_in_round_1(before="answer"))
    plan = patient_for(6)
    outcome = await consortium.run(plan, leave=True)
    assert outcome.code("coordinator") == "opening.too-few"
    assert f"{C}, {D}" in str(outcome.errors["coordinator"])
    assert not outcome.state.released and not outcome.state.verdicts.get((plan.content_digest(), 1))
    assert consortium.registered_versions() == 0

    consortium.workers.clear()
    again = await consortium.run(plan)
    assert again.errors == {}
    assert len(again.state.closed[plan.content_digest(), 1, "training"].receipts) == len(SITES)
    assert consortium.registered_versions() == 1


async def test_fewer_reports_than_the_scheme_needs_end_the_round_with_a_verdict_for_all(
    tmp_path: Path,
) -> None:
    """The plan would do with three of five sites, masked sums do not: nobody waits for what cannot come."""
    consortium = Consortium.found(tmp_path, sites=(*SITES, "hospital-e"))
    for name in (C, D):
        consortium.workers[name] = site_worker(gone_in_round_1(before="report"))
    plan = tiny_plan(participation={"required": [], "minimum_sites": 3, "deadline_s": 30})
    outcome = await consortium.run(plan)
    assert {party: outcome.code(party) for party in outcome.errors} == {"coordinator": "round.too-few"}
    verdict = outcome.state.verdicts[plan.content_digest(), 1]
    assert (verdict.passed, verdict.violations) == (False, ("aggregate.missing",))
    assert not outcome.state.closed and not outcome.state.released
    assert not list((consortium.founded.exchange).glob("answers/*"))


async def test_a_site_that_approves_after_the_roster_was_fixed_is_named_in_every_round(
    consortium: Consortium,
) -> None:
    def late(home: Home, config: SiteConfig) -> InlineWorker[SiteSession]:
        class Late(InlineWorker[SiteSession]):
            async def call(
                self, method: Callable[Concatenate[SiteSession, P], R], *args: P.args, **kwargs: P.kwargs
            ) -> R:
                if method.__name__ == "announce":
                    await asyncio.sleep(9.0)
                return await super().call(method, *args, **kwargs)

        return Late(SiteSession, home.root, party=config.name, log=home.log)

    consortium.workers[D] = late
    plan = patient_for(6)
    digest = plan.content_digest()
    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    assert outcome.state.rosters[digest] == (A, B, C)
    assert D in outcome.state.approvals[digest]
    for step in ("training", "evaluation"):
        assert outcome.missing(plan, 1, step) == {D: "roster.absent"}
    assert D not in outcome.state.spent


async def test_a_site_in_quarantine_has_no_place_in_the_roster_and_one_that_comes_there_counts_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One before the roster is fixed, one between its report and the closing of the round: of six."""
    names = (*SITES, "hospital-e", "hospital-f")
    consortium = Consortium.found(tmp_path, sites=names)
    fixed, closed = flows.coordinator.fix_roster, flows.coordinator.close

    async def fix_without_e(coordinator: Coordinator, published: PlanPublished) -> frozenset[str]:
        await coordinator.say(SiteQuarantined(site="hospital-e", code="incident.reported", evidence=None))
        return await fixed(coordinator, published)

    async def close_without_d(
        coordinator: Coordinator, published: PlanPublished, number: int, kind: Step, missing: dict[str, str]
    ) -> RoundClosed:
        if kind == "training":
            await coordinator.say(SiteQuarantined(site=D, code="incident.reported", evidence=None))
        return await closed(coordinator, published, number, kind, missing)

    monkeypatch.setattr(flows.coordinator, "fix_roster", fix_without_e)
    monkeypatch.setattr(flows.coordinator, "close", close_without_d)
    plan = tiny_plan()
    outcome = await consortium.run(plan)
    digest = plan.content_digest()
    assert "coordinator" not in outcome.errors
    assert outcome.state.rosters[digest] == (*SITES, "hospital-f")
    assert (digest, 1, "training", D) in outcome.state.receipts  # it had reported
    for step in ("training", "evaluation"):
        assert outcome.missing(plan, 1, step) == {D: "incident.reported", "hospital-e": "incident.reported"}
    assert not list(consortium.founded.exchange.glob(f"answers/{digest}/*/{D}"))
    assert consortium.registered_versions() == 1
