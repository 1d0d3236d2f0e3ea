"""The power fails; the same command is run again. Nothing is repeated, lost, or paid for twice without cause."""

from __future__ import annotations

import asyncio
import shutil
from collections import defaultdict
from collections.abc import Callable

import pytest

import flows.site
from adapters.clock import SystemClock
from adapters.home import Home
from adapters.outbox import Outbox, Slot
from ledger.errors import CodedError
from ledger.event import entry_digest
from policies.cost import plan_cost, round_cost
from policies.events import PlanPublished
from policies.plan import Plan
from policies.receipt import Step
from tasks.progress import Progress
from tasks.site.contribute import submit, withhold
from tasks.site.party import Site
from tasks.site.release import Release
from tasks.train.private import TrainingDivergedError
from tasks.worker.site_session import SiteSession
from tests.consortium import SITES, Consortium, PowerCut, site_worker
from tests.flows.test_crashes import Recording, updates_by_sum
from tests.institution import configure
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-3")


def at(party: str, step: str, round_number: int = 1) -> Callable[[Progress], bool]:
    return lambda now: (now.party, now.step, now.round) == (party, step, round_number)


@pytest.mark.parametrize(
    ("step", "round_number"),
    [
        ("wait for openings", 1),
        ("release the model", 1),
        ("collect (evaluation)", 2),
        ("judge", 1),
        ("record", 2),
    ],
)
async def test_a_run_continues_wherever_it_was_cut_off(
    consortium: Consortium, step: str, round_number: int
) -> None:
    plan = tiny_plan(rounds=2)
    cut = await consortium.run(plan, cut_at=at("coordinator", step, round_number))
    assert isinstance(cut.errors["coordinator"], PowerCut)
    assert consortium.registered_versions() == round_number - 1

    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    assert consortium.registered_versions() == 2
    assert [one["round"] for one in consortium.report()["rounds"]] == [1, 2]
    # Every site had built its release before the cut, so every round was paid for once.
    assert {site: outcome.state.spent_by(site) for site in SITES} == dict.fromkeys(SITES, plan_cost(plan))
    assert set(outcome.state.attempts.values()) == {1}


async def test_a_release_that_was_built_is_sent_again_byte_for_byte(consortium: Consortium) -> None:
    plan = tiny_plan()
    cut = await consortium.run(plan, cut_at=at("hospital-b", "submit"))
    assert isinstance(cut.errors["hospital-b"], PowerCut)
    slot = Slot(plan.content_digest(), 1, "training", 1)
    outbox = Outbox(Home(consortium.founded.sites["hospital-b"]).outbox)
    built = outbox.kept(slot)
    assert built is not None
    assert entry_digest(built[2]) not in consortium.state().indices  # it had not been sent

    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    assert outbox.kept(slot) == built
    receipt = outcome.state.receipts[plan.content_digest(), 1, "training", "hospital-b"]
    assert receipt.entry_digest == entry_digest(built[2])
    assert outcome.state.spent_by("hospital-b") == round_cost(plan, 1)


async def test_a_training_that_was_cut_off_goes_on_under_its_reservation(consortium: Consortium) -> None:
    """Nothing of it had left the site: its checkpoint is taken up, and the budget is spent once."""
    plan = tiny_plan()
    cut = await consortium.run(plan, cut_at=at("hospital-b", "train"))
    assert isinstance(cut.errors["hospital-b"], PowerCut)
    assert consortium.state().spent_by("hospital-b") == round_cost(plan, 1)
    training = Home(consortium.founded.sites["hospital-b"]).root / "training"
    kept = [path.read_bytes() for path in training.rglob("*") if path.is_file()]
    assert kept and all(data.startswith(b"WRSF") and b"weight/" not in data for data in kept)

    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    assert outcome.state.spent_by("hospital-b") == round_cost(plan, 1)
    receipt = outcome.state.receipts[plan.content_digest(), 1, "training", "hospital-b"]
    assert receipt.statement.predicate.attempt == 1
    assert not [path for path in training.rglob("*") if path.is_file()]


async def test_a_training_that_was_cut_off_before_its_first_checkpoint_is_paid_for_once(
    consortium: Consortium,
) -> None:
    plan = tiny_plan()
    await consortium.run(plan, cut_at=at("hospital-b", "train"))
    training = Home(consortium.founded.sites["hospital-b"]).root / "training"
    checkpoints = [path for path in training.rglob("*") if path.is_file() and path.suffix != ".patients"]
    assert checkpoints
    for path in checkpoints:
        path.unlink()

    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    assert outcome.state.spent_by("hospital-b") == round_cost(plan, 1)


async def test_a_training_of_which_nothing_is_left_is_paid_for_again(consortium: Consortium) -> None:
    """Not even with whom it began is known, as in a home that was put back: what was reserved stays spent."""
    plan = tiny_plan()
    await consortium.run(plan, cut_at=at("hospital-b", "train"))
    shutil.rmtree(Home(consortium.founded.sites["hospital-b"]).root / "training")

    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    assert outcome.state.spent_by("hospital-b") == round_cost(plan, 1).scaled(2)
    receipt = outcome.state.receipts[plan.content_digest(), 1, "training", "hospital-b"]
    assert receipt.statement.predicate.attempt == 2


async def test_a_training_goes_on_under_no_other_state_of_consents_than_it_was_reserved_under(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The site comes back the next day and publishes the new state of its consents. What it trains then is reserved
    anew, under that one; the first reservation stays spent."""
    plan, site = tiny_plan(), "hospital-b"
    cut = await consortium.run(plan, cut_at=at(site, "train"))
    first = cut.state.consent_states[site].root
    now_s = SystemClock.now_s
    monkeypatch.setattr(SystemClock, "now_s", lambda clock: now_s(clock) + 86_400)

    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    assert outcome.state.spent_by(site) == round_cost(plan, 1).scaled(2)
    told = outcome.state.receipts[plan.content_digest(), 1, "training", site].statement.predicate
    assert (told.attempt, told.consent_root) == (2, outcome.state.consent_states[site].root)
    assert told.consent_root != first


async def test_a_checkpoint_of_another_attempt_or_model_is_not_taken_up(consortium: Consortium) -> None:
    plan = tiny_plan()
    await consortium.run(plan, cut_at=at("hospital-b", "train"))
    for kept in tuple((Home(consortium.founded.sites["hospital-b"]).root / "training").rglob("1-1-*")):
        kept.rename(kept.with_name("1-1-" + "0" * 64 + kept.suffix))

    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    assert outcome.state.spent_by("hospital-b") == round_cost(plan, 1).scaled(2)


async def test_a_training_that_was_refused_is_not_done_again(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It diverged, which the ledger knows; nothing of a round without an evaluation is settled. Each further try
    would tell whether it diverges again, for nothing."""
    home = Home(consortium.founded.sites["hospital-b"]).root
    plan, sent = tiny_plan(rounds=2, evaluation={"bins": 4, "noise_std": 3.0, "every": 2}), defaultdict(set)
    trained: list[int] = []

    class Diverging(SiteSession):
        def train(self, plan: Plan, base: bytes, round_number: int, attempt: int) -> float:
            trained.append(round_number)
            super().train(plan, base, round_number, attempt)
            assert list((home / "training").rglob("1-1-*"))
            raise TrainingDivergedError("diverged")

    async def last_word(
        site: Site, published: PlanPublished, round_number: int, kind: Step, error: CodedError
    ) -> None:
        await withhold(site, published, round_number, kind, error)
        raise PowerCut

    async def slow(site: Site, published: PlanPublished, slot: Slot, ready: Release, parent: str) -> int:
        if site.name == "hospital-c":
            await asyncio.sleep(3600.0)  # so that the round stays open
        return await submit(site, published, slot, ready, parent)

    consortium.workers["hospital-b"] = site_worker(Diverging)
    consortium.exchanges["hospital-b"] = lambda shared: Recording(shared, sent, "")
    with monkeypatch.context() as patch:
        patch.setattr(flows.site, "withhold", last_word)
        patch.setattr(flows.site, "submit", slow)
        cut = await consortium.run(plan)
    assert isinstance(cut.errors["hospital-b"], PowerCut)
    assert trained == [1]
    assert not [path for path in (home / "training").rglob("*") if path.is_file()]

    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    assert outcome.missing(plan, 1) == {"hospital-b": "site.withheld"}
    assert trained == [1, 2]
    assert outcome.state.attempts[plan.content_digest(), 1, "hospital-b"] == 1
    assert updates_by_sum(sent) == {}


async def test_a_home_that_was_restored_from_an_image_lets_no_second_release_out(
    consortium: Consortium,
) -> None:
    """The site's disk is copied while it trains; its update leaves, of which the coordinator tells nobody. With the
    copy in its place the site would train on and mask what comes of it as it masked the first: the difference of the
    two is bare. The register's journal, which is not in the home, knows that the first one left."""
    site, plan, sent = "hospital-b", tiny_plan(), defaultdict(set)
    home = consortium.founded.sites[site]
    image = home.with_name("image")
    configuration = home / "institution.yaml"
    configure(configuration, pool=str(home.parent / "register"))
    await consortium.run(plan, cut_at=at(site, "train"))
    shutil.copytree(home, image)

    consortium.exchanges[site] = lambda shared: Recording(shared, sent, "inbox/")  # nobody is told
    cut = await consortium.run(plan)
    assert isinstance(cut.errors[site], PowerCut)
    assert list(updates_by_sum(sent).values()) == [1]
    assert (plan.content_digest(), 1, "training", site) not in consortium.state().receipts
    # But for the witness's state, by which the site notices that it was restored once the ledger has moved on.
    for witness in home.glob("witness.sqlite*"):
        shutil.copy(witness, image / witness.name)
    shutil.rmtree(home)
    shutil.copytree(image, home)
    consortium.exchanges[site] = lambda shared: Recording(shared, sent, "")

    class Training(SiteSession):
        def train(self, plan: Plan, base: bytes, round_number: int, attempt: int) -> float:
            raise AssertionError("it trained again")

    consortium.workers[site] = site_worker(Training)
    outcome = await consortium.run(plan)
    assert list(updates_by_sum(sent).values()) == [1]
    assert outcome.missing(plan, 1) == {site: "budget.release-lost"}
    assert outcome.state.spent_by(site) == round_cost(plan, 1)
