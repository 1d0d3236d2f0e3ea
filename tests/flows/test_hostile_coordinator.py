"""A coordinator that cheats, one way at a time: the sites do not believe it, and say why."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

import flows.coordinator
from adapters import mail, objects
from adapters.exchange import DirectoryExchange
from adapters.home import Home
from ledger.errors import PolicyViolation
from ledger.event import read_judged
from policies.events import Absence, GateVerdict, ModelRegistered, PlanPublished, RoundClosed, parse_body
from policies.opening import EvaluationFigures, SignedOpening, read_opening
from policies.plan import Plan
from policies.receipt import Step
from policies.state import FederationState
from privacy.protected_sum import Answer
from tasks.aggregate import Aggregate, lanes_to_bytes
from tasks.coordinator import release
from tasks.coordinator.party import Coordinator
from tasks.opening import Opened
from tasks.site.opening import answer, open_sum
from tasks.site.party import opened_site
from tasks.summing import GroupSum
from tasks.train import networks, weights
from tasks.worker.coordinator_session import CoordinatorSession
from tasks.worker.site_session import SiteSession
from tests.consortium import SITES, Consortium, Outcome, coordinator_worker, site_worker
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-2")


def brief_plan() -> Plan:
    """Nobody waits long for what never comes."""
    return tiny_plan(participation={"required": [], "minimum_sites": 3, "deadline_s": 20})


def codes(outcome: Outcome, *parties: str) -> dict[str, str]:
    return {party: outcome.code(party) for party in parties if party in outcome.errors}


@pytest.mark.parametrize("lie", ["model", "norm"])
async def test_what_does_not_follow_from_the_sums_finds_no_key_holder_and_is_released_nowhere(
    consortium: Consortium, lie: str
) -> None:
    """Key holders sign the sums and what follows from them: another model has no word but the coordinator's."""

    class Lying(CoordinatorSession):
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
            honest = super().next_model(
                plan, round_number, base, opened, sizes=sizes, previous=previous, server_state=server_state
            )
            if lie == "norm":
                return replace(honest, norm_l2_micro=0)
            other = networks.initial(plan.network, plan.data, plan.seed + 1)
            return replace(honest, model=weights.to_bytes(other))

    consortium.coordinator = coordinator_worker(Lying)
    outcome = await consortium.run(brief_plan(), leave=True)
    assert outcome.code("coordinator") == "opening.too-few"
    assert not outcome.state.released and consortium.registered_versions() == 0


async def test_a_sum_that_the_coordinator_made_up_is_followed_by_no_site(
    consortium: Consortium, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = release.open_sum

    async def invented(coordinator: Coordinator, published: PlanPublished, number: int, kind: Step) -> Opened:
        honest = await opened(coordinator, published, number, kind)
        lanes = lanes_to_bytes(np.zeros(len(honest.lanes) // 4, np.int32))
        objects.store(coordinator.exchange, lanes)
        lawless(coordinator)  # its own log lets it pass; nobody else's does
        return replace(honest, lanes=lanes)

    async def nobody(*asked: object) -> tuple[SignedOpening, ...]:
        return ()

    monkeypatch.setattr(release, "open_sum", invented)
    monkeypatch.setattr(release, "confirm", nobody)
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
    monkeypatch.setattr(
        "tasks.coordinator.release.figures_micro_of",
        lambda lanes, plan: EvaluationFigures(999_000, (), None, ()),
    )
    outcome = await consortium.run(brief_plan())
    assert codes(outcome, *SITES) == dict.fromkeys(SITES, "ledger.witness.gate")
    assert consortium.registered_versions() == 0


async def test_a_sum_that_the_coordinator_alone_found_is_not_released(
    consortium: Consortium, impatient: None
) -> None:
    """Every holder opens the closed set itself; nobody signs what it was told."""

    class Shifting(CoordinatorSession):
        def open_sums(self, plan: Plan, groups: list[GroupSum]) -> bytes:
            return lanes_to_bytes(np.frombuffer(super().open_sums(plan, groups), "<i4") + 1)

    consortium.coordinator = coordinator_worker(Shifting)
    plan = brief_plan()
    outcome = await consortium.run(plan, leave=True)
    assert outcome.code("coordinator") == "opening.too-few"
    exchange = DirectoryExchange(consortium.founded.exchange)
    holders = consortium.founded.federation.key_holders
    place = mail.openings(plan.content_digest(), 1, "training")
    votes = {
        read_opening(exchange.get(f"{place}/{name}") or b"", consortium.founded.federation, name)
        for name in holders
    }
    # They agree with each other, on what the coordinator did not find.
    found = {vote.sum_digest for vote in votes if vote is not None}
    assert len(found) == 1 and exchange.get(objects.name_of(*found)) is None
    assert not outcome.state.released and consortium.registered_versions() == 0


async def test_a_set_that_drops_a_site_which_reported_is_closed_nowhere(
    consortium: Consortium, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum without hospital-a beside the one with it would be hospital-a's update. The witnesses refuse it,
    so that it is never final, and no site answers for it."""

    async def dropping(
        coordinator: Coordinator, published: PlanPublished, number: int, kind: Step, missing: object
    ) -> None:
        lawless(coordinator)
        receipts = coordinator.state.usable_receipts(published.plan_digest, number, kind)
        await coordinator.say(
            RoundClosed(
                plan_digest=published.plan_digest,
                round=number,
                step=kind,
                receipts=tuple(one.entry_digest for one in receipts if one.site != "hospital-a"),
                missing=(Absence(site="hospital-a", code="site.silent"),),
            )
        )

    monkeypatch.setattr(flows.coordinator, "close", dropping)
    plan = brief_plan()
    outcome = await consortium.run(plan)
    assert codes(outcome, *SITES) == dict.fromkeys(SITES, "ledger.witness.gate")
    assert "round.receipts" in str(outcome.errors["hospital-b"])
    exchange = DirectoryExchange(consortium.founded.exchange)
    assert exchange.names(mail.answers(plan.content_digest(), 1, "training")) == []


async def test_a_site_answers_and_a_holder_opens_once_and_then_they_only_repeat_themselves(
    consortium: Consortium,
) -> None:
    plan = tiny_plan()
    state = (await consortium.run(plan)).state
    digest, holder = plan.content_digest(), consortium.founded.federation.key_holders[0]
    exchange = DirectoryExchange(consortium.founded.exchange)
    places = [
        f"{place}/{holder}"
        for place in (mail.openings(digest, 1, "training"), mail.answers(digest, 1, "training"))
    ]
    said = [exchange.get(place) for place in places]
    for place in places:
        (consortium.founded.exchange / place).unlink()

    class Asked(SiteSession):
        def open_sums(self, plan: Plan, groups: list[GroupSum]) -> bytes:
            raise AssertionError("asked to open a second time")

        def answer(self, *_: object, **__: object) -> Answer | None:
            raise AssertionError("asked to answer a second time")

    home = consortium.founded.sites[holder]
    async with opened_site(home, worker=site_worker(Asked)) as site:
        assert await open_sum(site, state.plans[digest], 1, "training")
        assert await answer(site, state.plans[digest], 1, "training")
    assert None not in said
    assert [exchange.get(place) for place in places] == said


async def test_a_site_takes_no_ledgers_word_for_a_set_that_leaves_somebody_out(
    consortium: Consortium,
) -> None:
    """Even if every witness had let it pass: a site answers for all reports that it knows of, and only with its own
    among them."""
    plan = tiny_plan()
    digest, name = plan.content_digest(), SITES[0]
    published = (await consortium.run(plan)).state.plans[digest]
    (consortium.founded.sites[name] / "answers" / digest / "1-training").unlink()
    place = consortium.founded.exchange / mail.answers(digest, 1, "training") / name
    place.unlink()

    class Asked(SiteSession):
        def answer(self, *_: object, **__: object) -> Answer | None:
            raise AssertionError("answered")

    async with opened_site(consortium.founded.sites[name], worker=site_worker(Asked)) as site:
        await site.until(lambda state: state.registered or None, timeout_s=20.0, waiting_for="the ledger")
        honest = site.state.closed[digest, 1, "training"]
        own = site.state.receipts[digest, 1, "training", name].entry_digest
        others = [entry for entry in honest.receipts if entry != own]
        for receipts in ([own, *others[:2]], [own], [own, "ab" * 32]):
            site.state.closed[digest, 1, "training"] = honest.with_fields({"receipts": receipts})
            with pytest.raises(PolicyViolation) as refused:
                await answer(site, published, 1, "training")
            assert refused.value.code == "opening.set"
        site.state.closed[digest, 1, "training"] = honest.with_fields({"receipts": others})
        assert not await answer(site, published, 1, "training")
    assert not place.exists()


@pytest.mark.parametrize(("liars", "passes"), [(1, True), (2, False)])
async def test_one_lying_key_holder_is_outvoted_and_two_that_differ_open_nothing(
    consortium: Consortium, liars: int, passes: bool
) -> None:
    def liar(offset: int) -> type[SiteSession]:
        class Lying(SiteSession):
            def open_sums(self, plan: Plan, groups: list[GroupSum]) -> bytes:
                honest = super().open_sums(plan, groups)
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
    """From now on; a turn of the log's thread that is under way would put the lawful state back."""
    sequencer = coordinator._sequencer
    take_in = sequencer._take_in

    def bend() -> None:
        if isinstance(sequencer.state, Lawless):
            return
        state, bent = sequencer.state, Lawless(sequencer.state.origin)
        for one in fields(state):
            setattr(bent, one.name, getattr(state, one.name))
        sequencer.state = bent

    def take_in_anything() -> bool:
        bend()
        return take_in()

    sequencer._take_in = take_in_anything  # type: ignore[method-assign]
    bend()


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
