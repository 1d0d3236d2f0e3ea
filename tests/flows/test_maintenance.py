"""A hospital in its maintenance window: it waits or says that it will not report, and what had begun is finished."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from adapters.home import Home
from policies.cost import round_cost
from policies.inquiry import Inquiry
from policies.plan import Plan
from tasks.worker.site_session import SiteSession
from tests.consortium import SITES, Consortium, PowerCut, site_worker
from tests.flows.test_resume import at
from tests.flows.test_statistics import tabled
from tests.inquiries import heart_inquiry
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-3")
SITE = "hospital-b"


class SetClock:
    """A hospital's clock that shows a whole minute `seconds` from now, and then goes on."""

    def __init__(self, seconds: float) -> None:
        now = time.time()
        self.minute_s = int(now // 60 + 1) * 60
        self._ahead_s = self.minute_s - (now + seconds)

    def now_s(self) -> int:
        return int(time.time() + self._ahead_s)


def windows(consortium: Consortium, *, from_s: float, to_s: float) -> None:
    """Write one window into the hospital's institution.yaml, in UTC."""
    path = Home(consortium.founded.sites[SITE]).root / "institution.yaml"
    value = yaml.safe_load(path.read_text())
    start, end = (f"{datetime.fromtimestamp(at_s, UTC):%H:%M}" for at_s in (from_s, to_s))
    value["policy"]["maintenance"] = [{"start": start, "end": end, "time_zone": "UTC"}]
    path.write_text(yaml.safe_dump(value))


async def test_a_round_waits_for_the_end_of_a_window_and_reserves_after_it(consortium: Consortium) -> None:
    clock = SetClock(3.0)
    consortium.clocks[SITE] = clock
    windows(consortium, from_s=clock.minute_s - 3600, to_s=clock.minute_s)
    trained: list[int] = []

    class Watched(SiteSession):
        def prepare(self, plan: Plan):  # type: ignore[no-untyped-def]
            trained.append(clock.now_s())
            return super().prepare(plan)

    consortium.workers[SITE] = site_worker(Watched)
    plan = tiny_plan()
    outcome = await consortium.run(plan)
    assert outcome.errors == {} and outcome.missing(plan, 1) == {}
    assert trained and min(trained) >= clock.minute_s  # not even its data were opened before
    assert outcome.state.spent_by(SITE) == round_cost(plan, 1)
    assert "in its maintenance window until" in consortium.site_log(SITE)


async def test_a_window_that_is_too_long_declines_the_plan_by_its_code_and_reserves_nothing(
    consortium: Consortium,
) -> None:
    now = time.time()
    windows(consortium, from_s=now - 3600, to_s=now + 3600)
    plan = tiny_plan()
    outcome = await consortium.run(plan)
    assert outcome.code(SITE) == "site.maintenance"
    assert outcome.missing(plan, 1) == {SITE: "site.maintenance"}
    assert SITE not in outcome.state.spent and outcome.state.rosters[plan.content_digest()] == tuple(
        name for name in SITES if name != SITE
    )
    assert consortium.registered_versions() == 1
    assert "in its maintenance window until" in consortium.site_log(SITE)


async def test_a_window_that_begins_finishes_the_round_and_withholds_the_next(consortium: Consortium) -> None:
    clock = SetClock(4.0)
    consortium.clocks[SITE] = clock
    windows(consortium, from_s=clock.minute_s, to_s=clock.minute_s + 3600)

    class Slow(SiteSession):
        def train(self, plan: Plan, base: bytes, round_number: int, attempt: int) -> float:
            seconds = super().train(plan, base, round_number, attempt)
            while clock.now_s() < clock.minute_s:  # the window begins while it trains
                time.sleep(0.05)
            return seconds

    consortium.workers[SITE] = site_worker(Slow)
    plan = tiny_plan(rounds=2)
    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    assert [outcome.missing(plan, number) for number in (1, 2)] == [{}, {SITE: "site.maintenance"}]
    assert outcome.missing(plan, 1, "evaluation") == {}
    assert (plan.content_digest(), 2, SITE) not in outcome.state.attempts
    assert outcome.state.spent_by(SITE) == round_cost(plan, 1)
    # Nor was a model of its own trained in the window, for its report.
    assert "auc_local_only" not in Home(consortium.founded.sites[SITE]).report.read_text()
    assert consortium.registered_versions() == 2


async def test_a_training_that_was_cut_off_is_finished_in_a_window_under_its_reservation(
    consortium: Consortium,
) -> None:
    plan = tiny_plan()
    cut = await consortium.run(plan, cut_at=at(SITE, "train"))
    assert isinstance(cut.errors[SITE], PowerCut)
    now = time.time()
    windows(consortium, from_s=now - 3600, to_s=now + 3600)

    outcome = await consortium.run(plan)
    assert outcome.errors == {} and outcome.missing(plan, 1) == {}
    assert outcome.state.spent_by(SITE) == round_cost(plan, 1)
    assert outcome.state.attempts[plan.content_digest(), 1, SITE] == 1


async def test_a_training_that_would_be_paid_for_anew_is_not_begun_in_a_window(
    consortium: Consortium,
) -> None:
    plan = tiny_plan()
    await consortium.run(plan, cut_at=at(SITE, "train"))
    root = Home(consortium.founded.sites[SITE]).root
    for kept in (root / "training").rglob("1-1-*"):
        kept.unlink()
    now = time.time()
    windows(consortium, from_s=now - 3600, to_s=now + 3600)

    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    assert outcome.missing(plan, 1) == {SITE: "site.maintenance"}
    assert outcome.state.spent_by(SITE) == round_cost(plan, 1)  # what was reserved stays spent, and no more


async def test_an_inquiry_waits_like_a_round(tmp_path: Path) -> None:
    consortium, _ = tabled(tmp_path)
    clock = SetClock(3.0)
    consortium.clocks[SITE] = clock
    windows(consortium, from_s=clock.minute_s - 3600, to_s=clock.minute_s)
    read: list[int] = []

    class Watched(SiteSession):
        def prepare_table(self, inquiry: Inquiry):  # type: ignore[no-untyped-def]
            read.append(clock.now_s())
            return super().prepare_table(inquiry)

    consortium.workers[SITE] = site_worker(Watched)
    outcome = await consortium.run(heart_inquiry())
    assert outcome.errors == {} and read and min(read) >= clock.minute_s
