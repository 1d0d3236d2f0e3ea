"""A coordinator that cheats, one way at a time: the sites do not believe it, and say why."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import flows.coordinator
from adapters import mail, objects
from adapters.exchange import DirectoryExchange
from adapters.home import Home
from ledger.event import read_judged
from policies.events import GateVerdict, ModelRegistered, PlanPublished, parse_body
from policies.plan import Plan
from policies.receipt import Step
from policies.state import FederationState
from tasks.aggregate import lanes_to_bytes
from tasks.coordinator.collect import Sum
from tasks.coordinator.party import Coordinator
from tasks.site.opening import open_sum
from tasks.site.party import opened_site
from tasks.train import network, weights
from tasks.worker.coordinator_session import CoordinatorSession
from tasks.worker.site_session import SiteSession
from tests.consortium import SITES, Consortium, Outcome, coordinator_worker, site_worker
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-2")


def brief_plan() -> Plan:
    """Nobody waits long for what never comes."""
    return tiny_plan(participation={"required": [], "minimum_sites": 3, "deadline_s": 12})


def codes(outcome: Outcome, *parties: str) -> dict[str, str]:
    return {party: outcome.code(party) for party in parties if party in outcome.errors}


async def test_a_model_that_is_not_the_sums_is_followed_by_no_site(consortium: Consortium) -> None:
    class Swapping(CoordinatorSession):
        def next_model(self, plan: Plan, base: bytes, opened: bytes, *, sites: int) -> tuple[bytes, int]:
            return weights.to_bytes(network.initial(plan.network, plan.data.image, plan.seed + 1)), 0

    consortium.coordinator = coordinator_worker(Swapping)
    outcome = await consortium.run(brief_plan())
    assert codes(outcome, *SITES) == dict.fromkeys(SITES, "aggregate.model")
    assert outcome.code("coordinator") == "evaluation.missing"  # nobody evaluates it, so it passes no gate
    assert consortium.registered_versions() == 0


async def test_a_norm_that_is_not_the_sums_is_followed_by_no_site(consortium: Consortium) -> None:
    class Belittling(CoordinatorSession):
        def next_model(self, plan: Plan, base: bytes, opened: bytes, *, sites: int) -> tuple[bytes, int]:
            return super().next_model(plan, base, opened, sites=sites)[0], 0

    consortium.coordinator = coordinator_worker(Belittling)
    outcome = await consortium.run(brief_plan())
    assert codes(outcome, *SITES) == dict.fromkeys(SITES, "aggregate.model")
    assert consortium.registered_versions() == 0


async def test_a_sum_that_the_coordinator_made_up_is_followed_by_no_site(
    consortium: Consortium, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = flows.coordinator.open_sum

    async def invented(
        coordinator: Coordinator, published: PlanPublished, number: int, kind: Step, closed: object
    ) -> Sum:
        honest = await opened(coordinator, published, number, kind, closed)  # type: ignore[arg-type]
        lanes = lanes_to_bytes(np.zeros(len(honest.opened) // 4, np.int32))
        lawless(coordinator)  # its own log lets it pass; nobody else's does
        return Sum(lanes, objects.store(coordinator.exchange, lanes), honest.sites, honest.openings)

    monkeypatch.setattr(flows.coordinator, "open_sum", invented)
    outcome = await consortium.run(brief_plan())
    assert codes(outcome, *SITES) == dict.fromkeys(SITES, "ledger.witness.gate")
    assert consortium.registered_versions() == 0


async def test_an_auc_that_is_not_the_histograms_becomes_final_nowhere(
    consortium: Consortium, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = flows.coordinator.record_evaluation

    async def flattering(coordinator: Coordinator, *arguments: object) -> int | None:
        lawless(coordinator)
        return await recorded(coordinator, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(flows.coordinator, "record_evaluation", flattering)
    monkeypatch.setattr("tasks.coordinator.release.aucs_micro_of", lambda lanes, terms: (999_000, ()))
    outcome = await consortium.run(brief_plan())
    assert codes(outcome, *SITES) == dict.fromkeys(SITES, "ledger.witness.gate")
    assert consortium.registered_versions() == 0


async def test_key_holders_open_no_other_sum_than_the_closed_sets(consortium: Consortium) -> None:
    class Prying(CoordinatorSession):
        def combine(self, plan: Plan, updates: list[bytes], public: bytes) -> bytes:
            return super().combine(plan, updates[:1], public)  # "the sum" of hospital-a alone

    consortium.coordinator = coordinator_worker(Prying)
    plan = brief_plan()
    outcome = await consortium.run(plan, leave=True)
    holders = consortium.founded.federation.key_holders
    assert codes(outcome, *holders) == dict.fromkeys(holders, "opening.sum-mismatch")
    assert outcome.code("coordinator") == "opening.too-few"
    exchange = DirectoryExchange(consortium.founded.exchange)
    assert exchange.names(mail.openings(plan.content_digest(), 1, "training")) == []
    assert consortium.registered_versions() == 0


async def test_a_key_holder_opens_once_and_then_only_repeats_itself(consortium: Consortium) -> None:
    plan = tiny_plan()
    state = (await consortium.run(plan)).state
    digest, holder = plan.content_digest(), consortium.founded.federation.key_holders[0]
    exchange = DirectoryExchange(consortium.founded.exchange)
    place = f"{mail.openings(digest, 1, 'training')}/{holder}"
    answer = exchange.get(place)
    one_update = next(iter(state.receipts.values())).statement.update_digest
    exchange.replace(mail.combined(digest, 1, "training"), one_update.encode())

    class Opening(SiteSession):
        def open_sum(self, *_: object, **__: object) -> bytes:
            raise AssertionError("asked to open a second time")

    home = consortium.founded.sites[holder]
    async with opened_site(home, worker=site_worker(Opening)) as site:
        assert await open_sum(site, state.plans[digest], 1, "training")
    assert answer is not None
    assert exchange.get(place) == answer


@pytest.mark.parametrize(("liars", "passes"), [(1, True), (2, False)])
async def test_one_lying_key_holder_is_outvoted_and_two_that_differ_open_nothing(
    consortium: Consortium, liars: int, passes: bool
) -> None:
    def liar(offset: int) -> type[SiteSession]:
        class Lying(SiteSession):
            def open_sum(self, plan: Plan, *arguments: object, context: bytes) -> bytes:
                honest = super().open_sum(plan, *arguments, context=context)  # type: ignore[arg-type]
                return lanes_to_bytes(np.frombuffer(honest, "<i4").astype(np.int32) + offset)

        return Lying

    holders = consortium.founded.federation.key_holders
    for number, holder in enumerate(holders[:liars]):
        consortium.workers[holder] = site_worker(liar(number + 1))
    outcome = await consortium.run(tiny_plan() if passes else brief_plan(), leave=not passes)
    if passes:
        assert outcome.errors == {}
    else:
        assert outcome.code("coordinator") == "opening.too-few"
    assert consortium.registered_versions() == int(passes)


async def test_without_an_entry_verdict_no_site_spends_anything(
    consortium: Consortium, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def skipped(coordinator: Coordinator, published: PlanPublished) -> None:
        return None

    monkeypatch.setattr(flows.coordinator, "judge_plan", skipped)
    outcome = await consortium.run(
        tiny_plan(participation={"required": [], "minimum_sites": 3, "deadline_s": 1})
    )
    assert outcome.code("coordinator") in ("round.not-open", "verdict.wrong")
    assert codes(outcome, *SITES) == dict.fromkeys(SITES, "deadline.passed")
    assert not outcome.state.spent


class Lawless(FederationState):
    """The state of a coordinator that took the rules out of its own log."""

    def advance(self, index: int, entry: bytes) -> None:
        chain = self.chain.fork()
        signed = chain.take_in(index, entry)
        body = parse_body(signed.event.type, signed.event.body)
        self._apply(index, read_judged(entry), body)
        self.chain = chain
        self.indices[signed.digest] = index


def lawless(coordinator: Coordinator) -> None:
    state = coordinator.state
    bent = coordinator._sequencer.state = Lawless(state.origin)
    for one in fields(state):
        setattr(bent, one.name, getattr(state, one.name))


async def test_a_plan_waved_through_its_gate_halts_every_witness(
    tmp_path: Path, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator runs a log without rules and passes a plan that costs more than the sites' caps."""

    async def waved_through(coordinator: Coordinator, published: PlanPublished) -> None:
        await coordinator.say(
            GateVerdict(plan_digest=published.plan_digest, round=0, passed=True, violations=())
        )

    consortium = Consortium.found(tmp_path, cap=0.2)
    consortium.opened = lawless
    monkeypatch.setattr(flows.coordinator, "judge_plan", waved_through)
    outcome = await consortium.run(tiny_plan())
    assert codes(outcome, *SITES) == dict.fromkeys(SITES, "ledger.witness.gate")
    assert "verdict.wrong" in str(outcome.errors["hospital-a"])
    assert outcome.code("coordinator") == "deadline.passed"  # it never becomes final
    assert not outcome.state.spent


async def test_a_model_registered_without_a_verdict_is_final_nowhere(
    consortium: Consortium, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unjudged(coordinator: Coordinator, published: PlanPublished, number: int) -> None:
        await coordinator.say(
            ModelRegistered(
                plan_digest=published.plan_digest,
                round=number,
                model_digest=coordinator.state.released[published.plan_digest, number].model_digest,
                run_id="0" * 32,
                model_name="tiny-study",
                version=1,
            )
        )

    consortium.opened = lawless
    monkeypatch.setattr(flows.coordinator, "judge_model", unjudged)
    outcome = await consortium.run(tiny_plan())
    assert codes(outcome, *SITES) == dict.fromkeys(SITES, "ledger.witness.gate")
    assert "model.no-verdict" in str(outcome.errors["hospital-b"])
    assert outcome.code("coordinator") == "deadline.passed"
    assert consortium.registered_versions() == 0
    assert Home(consortium.founded.coordinator).root.exists()
