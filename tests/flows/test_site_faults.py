"""What goes wrong at sites, and what a round makes of it: it goes on without them, and says who and why."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import pytest

from adapters.home import Home, SiteConfig
from ledger.canonical import JsonValue
from policies.budget import given_back
from policies.cost import epsilon_micro, plan_cost
from policies.plan import Plan
from privacy.masked_sum import MaskedSum
from privacy.packing import Lanes
from privacy.protected_sum import Report
from tasks.aggregate import encoding_of
from tasks.progress import listen
from tasks.summing import SumTerms
from tasks.worker.process import InlineWorker
from tasks.worker.site_session import SiteSession
from tasks.worker.sum_session import SealedKey
from tests.consortium import SITES, Consortium, site_worker
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-1")

P = ParamSpec("P")
R = TypeVar("R")
RAISED_TEXT = "Jane Doe, born 1970-01-01"


class TroubledSession(SiteSession):
    """Fails in another way in each of the first six rounds."""

    _earlier = Report(update=b"")

    def train(self, plan: Plan, base: bytes, round_number: int, attempt: int) -> float:
        if round_number == 1:
            raise ValueError(RAISED_TEXT)
        return super().train(plan, base, round_number, attempt)

    def _report(self, plan: Plan, terms: SumTerms, lanes: Lanes, sealed: SealedKey | None) -> Report:
        number = terms.context.round if terms.context.step == "training" else 0
        if number == 4:  # a whole, well-formed update of fewer lanes than the network has
            masks = self._masking(terms.context.plan_digest).secrets(terms.context)
            short = MaskedSum(terms.context, encoding_of(plan).packing, 8, secrets=masks)
            return short.protect(np.zeros(8, np.int32))
        report = super()._report(plan, terms, lanes, sealed)
        if number == 2:
            self._earlier = report
            return replace(report, update=report.update[:-1])
        if number == 3:
            return replace(report, update=b"")
        if number == 5:  # what it made three rounds ago
            return self._earlier
        if number == 6:
            return replace(report, shares=os.urandom(len(report.shares)))
        return report


async def test_a_site_that_fails_is_named_with_its_code_and_takes_part_in_the_next_round(
    consortium: Consortium,
) -> None:
    consortium.workers["hospital-d"] = site_worker(TroubledSession)
    plan = tiny_plan(rounds=7)
    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    assert [outcome.missing(plan, number) for number in range(1, 8)] == [
        {"hospital-d": "site.withheld"},
        {"hospital-d": "privacy.masked-update"},
        {"hospital-d": "privacy.masked-update"},
        {"hospital-d": "privacy.masked-update"},
        {"hospital-d": "privacy.other-context"},
        {"hospital-d": "privacy.shares-malformed"},
        {},
    ]
    assert consortium.registered_versions() == 7
    # What it spent is spent: each training was begun, and only evaluations that never began are given back.
    assert outcome.state.spent_by("hospital-d") == plan_cost(plan) - given_back(
        plan, 1, ("training",)
    ).scaled(6)
    # The report says the same to people, and the reason itself stays where it happened.
    assert consortium.report()["rounds"][0]["sites_missing"] == {"hospital-d": "site.withheld"}
    assert RAISED_TEXT in consortium.site_log("hospital-d")
    everywhere_else = b"".join(
        path.read_bytes()
        for folder in (consortium.founded.exchange, consortium.founded.coordinator)
        for path in folder.rglob("*")
        if path.is_file()
    )
    assert RAISED_TEXT.encode() not in everywhere_else


async def test_a_comparison_that_fails_ends_nothing_but_itself(consortium: Consortium) -> None:
    """It is the site's own affair and comes last: by then the model's registration is witnessed and the plan's keys
    are gone."""
    masking = Home(consortium.founded.sites["hospital-b"]).root / "masking"
    left: list[list[Path]] = []

    class Comparing(SiteSession):
        def compare(self, plan: Plan, model: bytes) -> dict[str, JsonValue]:
            left.append(list(masking.iterdir()))
            raise ValueError(RAISED_TEXT)

    consortium.workers["hospital-b"] = site_worker(Comparing)
    plan, told = tiny_plan(), []
    stop_listening = listen(lambda now: told.append(now.step) if now.party == "hospital-b" else None)
    outcome = await consortium.run(plan)
    stop_listening()
    assert outcome.errors == {}
    assert (plan.content_digest(), 1) in outcome.state.registered
    assert left == [[]]
    assert told[-2:] == ["no comparison with a local model", "done"]
    assert RAISED_TEXT in consortium.site_log("hospital-b")
    assert RAISED_TEXT not in "".join(told)


async def test_a_site_with_too_few_patients_spends_nothing_and_the_round_goes_on(tmp_path: Path) -> None:
    consortium = Consortium.found(tmp_path, patients={"hospital-b": 12})
    plan = tiny_plan()
    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    assert outcome.missing(plan, 1) == {"hospital-b": "site.withheld"}
    assert outcome.missing(plan, 1, "evaluation") == {"hospital-b": "site.withheld"}
    assert "hospital-b" not in outcome.state.spent
    assert consortium.registered_versions() == 1


async def test_a_required_site_that_fails_fails_the_plan_with_the_reason(tmp_path: Path) -> None:
    consortium = Consortium.found(tmp_path, patients={"hospital-b": 12})
    plan = tiny_plan(participation={"required": ["hospital-b"], "minimum_sites": 3, "deadline_s": 30})
    outcome = await consortium.run(plan)
    assert outcome.code("coordinator") == "participation.required-missing"
    assert "hospital-b" in str(outcome.errors["coordinator"])
    verdict = outcome.state.verdicts[plan.content_digest(), 1]
    assert (verdict.passed, verdict.violations) == (False, ("participation.required-missing",))
    assert set(outcome.errors) == {"coordinator"}
    assert consortium.registered_versions() == 0


async def test_fewer_sites_than_the_minimum_end_the_plan_for_everybody(tmp_path: Path) -> None:
    consortium = Consortium.found(tmp_path, patients={"hospital-b": 12, "hospital-c": 12})
    plan = tiny_plan()
    outcome = await consortium.run(plan)
    assert outcome.code("coordinator") == "participation.too-few"
    assert set(outcome.errors) == {"coordinator"}
    assert (plan.content_digest(), 1, "training") not in outcome.state.closed
    assert not outcome.state.released
    assert consortium.registered_versions() == 0


async def test_a_site_that_never_approved_is_named_at_the_deadline(consortium: Consortium) -> None:
    plan = tiny_plan(participation={"required": [], "minimum_sites": 3, "deadline_s": 8})
    outcome = await consortium.run(plan, absent=("hospital-d",))
    assert outcome.errors == {}
    assert outcome.missing(plan, 1) == {"hospital-d": "roster.absent"}
    assert outcome.missing(plan, 1, "evaluation") == {"hospital-d": "roster.absent"}
    assert consortium.registered_versions() == 1


async def test_a_site_that_hangs_is_waited_for_until_the_deadline_and_comes_back(
    consortium: Consortium,
) -> None:
    late_s, round_s = 16.0, 8
    consortium.workers["hospital-d"] = hanging_in_round_1(late_s)
    plan = tiny_plan(rounds=2, participation={"required": [], "minimum_sites": 3, "deadline_s": round_s})
    closed_after: list[float] = []
    began = time.monotonic()
    outcome = await consortium.run(
        plan,
        cut_at=lambda now: (
            (now.party, now.step) == ("coordinator", "open the sum")
            and bool(closed_after.append(time.monotonic()))
        ),
    )
    assert outcome.errors == {}
    assert outcome.missing(plan, 1) == {"hospital-d": "site.silent"}
    assert closed_after[0] - began < late_s
    # Its report came late and is nowhere; its reservation stands, and it catches up.
    assert (plan.content_digest(), 1, "training", "hospital-d") not in outcome.state.receipts
    assert outcome.state.attempts[plan.content_digest(), 1, "hospital-d"] == 1
    assert consortium.registered_versions() == 2


def hanging_in_round_1(late_s: float) -> Callable[[Home, SiteConfig], InlineWorker[SiteSession]]:
    class HangingWorker(InlineWorker[SiteSession]):
        async def call(
            self, method: Callable[Concatenate[SiteSession, P], R], *args: P.args, **kwargs: P.kwargs
        ) -> R:
            if method.__name__ == "train" and args[2] == 1:
                await asyncio.sleep(late_s)
            return await super().call(method, *args, **kwargs)

    return lambda home, config: HangingWorker(SiteSession, home.root, party=config.name, log=home.log)


async def test_without_a_quorum_of_witnesses_nothing_is_said_to_be_done(
    consortium: Consortium, impatient: None
) -> None:
    plan = tiny_plan()
    outcome = await consortium.run(plan, absent=SITES[2:], wait_s=4.0)
    assert outcome.code("coordinator") == "deadline.passed"
    assert not outcome.state.spent
    assert consortium.registered_versions() == 0


async def test_a_plan_over_a_sites_cap_is_refused_before_anybody_trains(tmp_path: Path) -> None:
    consortium = Consortium.found(tmp_path, cap=0.2)
    plan = tiny_plan()
    outcome = await consortium.run(plan)
    assert outcome.code("coordinator") == "budget.pool-cap"
    assert all(site in str(outcome.errors["coordinator"]) for site in SITES)  # every reason, not the first
    verdict = outcome.state.verdicts[plan.content_digest(), 0]
    assert (verdict.passed, verdict.violations) == (False, ("budget.pool-cap",) * len(SITES))
    assert not outcome.state.spent
    assert consortium.registered_versions() == 0


async def test_a_cap_that_an_earlier_plan_spent_refuses_the_next(tmp_path: Path) -> None:
    first = tiny_plan()
    cost = epsilon_micro(plan_cost(first), 1e-5)
    consortium = Consortium.found(tmp_path, cap=1.1 * cost / 1_000_000)
    assert (await consortium.run(first)).errors == {}
    outcome = await consortium.run(tiny_plan(edition="2"))
    assert outcome.code("coordinator") == "budget.pool-cap"
    assert "has spent" in str(outcome.errors["coordinator"])
    assert outcome.state.spent_by("hospital-a") == plan_cost(first)
    assert consortium.registered_versions() == 1


async def test_code_that_the_plan_does_not_approve_runs_nowhere(consortium: Consortium) -> None:
    plan = tiny_plan().with_fields({"code_digests": ["0" * 64]})
    outcome = await consortium.run(plan)
    assert {party: outcome.code(party) for party in outcome.errors} == {
        "coordinator": "participation.too-few",
        **dict.fromkeys(SITES, "plan.code"),
    }
    refusals = {key[3]: code for key, code in outcome.state.refusals.items()}
    assert refusals == dict.fromkeys(SITES, "plan.code")
    assert not outcome.state.approvals
    assert not outcome.state.spent


async def test_a_steward_who_lists_plans_takes_part_in_those_alone(consortium: Consortium) -> None:
    plan = tiny_plan()
    for name, approved in (("hospital-c", (plan.content_digest(),)), ("hospital-d", ())):
        home = Home(consortium.founded.sites[name])
        config = home.read(SiteConfig)
        home.write(
            config.model_copy(update={"approval": "listed", "approved_plans": approved}),
            consortium.founded.federation,
        )
    outcome = await consortium.run(plan)
    assert {party: outcome.code(party) for party in outcome.errors} == {"hospital-d": "plan.not-approved"}
    assert outcome.missing(plan, 1) == {"hospital-d": "plan.not-approved"}
    assert "hospital-d" not in outcome.state.spent


async def test_an_update_far_beyond_the_clip_fails_the_round(tmp_path: Path) -> None:
    """One site sends lanes as large as its encoding takes. The sum's norm shows it, though nobody sees the update."""

    class Poisoning(SiteSession):
        def _report(self, plan: Plan, terms: SumTerms, lanes: Lanes, sealed: SealedKey | None) -> Report:
            if terms.context.step == "training":
                lanes = np.full(len(lanes), encoding_of(plan).packing.site_limit, np.int32)
            return super()._report(plan, terms, lanes, sealed)

    consortium = Consortium.found(tmp_path)
    consortium.workers["hospital-d"] = site_worker(Poisoning)
    outcome = await consortium.run(tiny_plan())
    assert outcome.code("coordinator") == "update.norm"
    assert "than 4 updates within the plan's clip can be" in str(outcome.errors["coordinator"])
    assert consortium.registered_versions() == 0
