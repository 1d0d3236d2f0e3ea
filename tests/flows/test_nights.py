"""Nights of a schedule: fired twice they are run once, cut off they go on, and one that was missed is named."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import yaml

import flows.coordinator
import tasks.coordinator.nights
from adapters.exchange import DirectoryExchange
from adapters.home import Home, HomeError
from adapters.institution_log import read_state
from flows.coordinator import federated_round
from flows.site import take_part
from ledger import canonical
from ledger.errors import PolicyViolation
from policies.cost import plan_cost
from policies.nights import Night, judged
from policies.state import FederationState
from tasks.coordinator.nights import newly_missed, nights
from tasks.coordinator.party import opened_coordinator
from tasks.nightly import schedules
from tasks.progress import Progress, listen
from tasks.site.party import opened_site
from tests.consortium import SITES, Consortium, PowerCut, coordinator_worker, site_worker
from tests.flows.test_resume import at
from tests.plans import tiny_plan
from tests.wardround.conftest import Command, wardround

__all__ = ["wardround"]
pytestmark = pytest.mark.xdist_group("rounds-2")
DAY_S = 86_400


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan's file; and the coordinator's process is a thread."""
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(tiny_plan(rounds=2).to_json()))
    monkeypatch.setattr(
        flows.coordinator, "opened_coordinator", partial(opened_coordinator, worker=coordinator_worker())
    )
    return path


async def fire(consortium: Consortium, plan: Path, **options: str) -> str | None:
    """One firing of the nightly deployment; what its final state says."""
    state = await federated_round.fn(
        str(consortium.founded.coordinator), str(plan), edition="date", **options
    )
    return None if state is None else str(state.message)


async def with_sites(
    consortium: Consortium, *firings: Callable[[], object], cut_at: Callable[[Progress], bool] | None = None
) -> list[object]:
    """What the firings, all at once, return or raise while every site takes part; a power cut ends all."""

    def watch(progress: Progress) -> None:
        if cut_at is not None and cut_at(progress):
            raise PowerCut

    stop = listen(watch)
    shared = DirectoryExchange(consortium.founded.exchange)
    try:
        async with AsyncExitStack() as stack:
            parts = [
                asyncio.create_task(
                    take_part(
                        await stack.enter_async_context(
                            opened_site(home, exchange=shared, worker=site_worker())
                        ),
                        plan_digest=None,
                        wait_s=20.0,
                    )
                )
                for home in consortium.founded.sites.values()
            ]
            told = await asyncio.gather(*(one() for one in firings), return_exceptions=True)  # type: ignore[arg-type]
            if any(isinstance(one, PowerCut) for one in told):
                for part in parts:
                    part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            return list(told)
    finally:
        stop()


def spent_once(state: FederationState) -> bool:
    (published,) = state.plans.values()
    return {site: state.spent_by(site) for site in SITES} == dict.fromkeys(SITES, plan_cost(published.plan))


async def test_a_scheduler_that_fires_twice_at_once_runs_one_round(
    consortium: Consortium, plan: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", "nightly")
    once = partial(fire, consortium, plan)
    told = await with_sites(consortium, once, once)
    assert sorted(map(str, told)) == [
        "Another run is under way with this home; this one did nothing.", "None",
    ]  # fmt: skip
    assert spent_once(consortium.state()) and consortium.registered_versions() == 2
    # Again, hours later: it finds the night done.
    night = f"{datetime.now(UTC).date()}"
    assert (
        await fire(consortium, plan) == f"The run of {night} was done before: nothing was trained or spent."
    )
    assert spent_once(consortium.state()) and consortium.registered_versions() == 2
    assert len(consortium.state().plans) == 1


async def test_two_runs_by_hand_are_told_apart(consortium: Consortium, plan: Path) -> None:
    with Home(consortium.founded.coordinator).alone(), pytest.raises(HomeError) as refused:
        await fire(consortium, plan)
    assert refused.value.code == "home.in-use"


def test_another_process_keeps_the_home_until_it_is_killed(consortium: Consortium, plan: Path) -> None:
    held = "import sys, time; from pathlib import Path; from adapters.home import Home\n"
    held += "with Home(Path(sys.argv[1])).alone(): print('held', flush=True); time.sleep(60)"
    other = subprocess.Popen(
        [sys.executable, "-c", held, str(consortium.founded.coordinator)],
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )  # fmt: skip
    try:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(HomeError, match=r"home\.in-use|under way"):
            asyncio.run(opened(consortium))
    finally:
        other.kill()
        other.wait()
    asyncio.run(opened(consortium))


async def opened(consortium: Consortium) -> None:
    async with opened_coordinator(consortium.founded.coordinator, worker=coordinator_worker()):
        pass


@pytest.mark.parametrize(
    ("step", "number"), [("publish the plan", 0), ("release the model", 1), ("record", 2)]
)
async def test_a_night_that_was_cut_off_goes_on_when_it_is_fired_again(
    consortium: Consortium, plan: Path, step: str, number: int
) -> None:
    (cut,) = await with_sites(
        consortium, partial(fire, consortium, plan), cut_at=at("coordinator", step, number)
    )
    assert isinstance(cut, PowerCut)
    (told,) = await with_sites(consortium, partial(fire, consortium, plan))
    assert told is None, told
    assert spent_once(consortium.state()) and consortium.registered_versions() == 2


async def test_a_refused_night_stays_refused_when_it_is_fired_again(
    consortium: Consortium, plan: Path
) -> None:
    """Although what spoke against it was mended: no site comes to an edition that failed its entry gate."""
    bad = tiny_plan(consent={"policy_version": "2099-9", "purpose": "research"})
    plan.write_text(yaml.safe_dump(bad.to_json()))
    (first,) = await with_sites(consortium, partial(fire, consortium, plan))
    assert isinstance(first, PolicyViolation)

    def mended(*_: object, **__: object) -> list[object]:
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.coordinator.publish.plan_violations", mended)
        began = time.monotonic()
        with pytest.raises(PolicyViolation, match="was refused at its entry gate") as second:
            await fire(consortium, plan)
    assert {one.code for one in second.value.violations} == {one.code for one in first.violations}
    assert time.monotonic() - began < 20


async def test_a_missed_night_is_named_where_operators_look_and_not_made_up_for(
    consortium: Consortium, plan: Path, monkeypatch: pytest.MonkeyPatch, wardround: Command
) -> None:
    home = consortium.founded.coordinator
    today, shown = datetime.now(UTC).date(), []
    # The schedule has held for three days; nothing ran in the first two nights.
    since = (
        int(datetime.combine(today - timedelta(days=2), datetime.min.time(), tzinfo=UTC).timestamp()) - 3600
    )
    kept = {"cron": "0 0 * * *", "time_zone": "UTC", "plan": "tiny", "study": "tiny-study", "since_s": since}
    (home / "nightly.json").write_bytes(canonical.encode({"schedules": [kept]}))
    missed = [f"{today - timedelta(days=days)}" for days in (2, 1)]

    done = await asyncio.to_thread(wardround, "coordinator", "nights", "--home", home)
    early = (datetime.now(UTC) - datetime.combine(today, datetime.min.time(), tzinfo=UTC)).seconds < 1800
    assert done.code == (0 if early else 1) and (early or done.error.startswith("[nightly.missed]"))
    assert all(day in done.out for day in missed)

    async def artifact(table: list[dict[str, str]], **_: object) -> None:
        shown.extend(table)

    monkeypatch.setattr(tasks.coordinator.nights, "acreate_table_artifact", artifact)
    monkeypatch.setattr(tasks.coordinator.nights, "_in_a_flow", lambda: True)
    monkeypatch.setattr(tasks.coordinator.nights, "get_run_logger", lambda: Logged())
    (told,) = await with_sites(consortium, partial(fire, consortium, plan, cron="0 0 * * *", time_zone="UTC"))
    assert told == f"Missed since the last run: {', '.join(missed)}."
    assert [row["came to"] for row in shown[-2:]] == ["missed", "missed"]
    assert f"missed since the last run: {', '.join(missed)}" in (home / "site.log").read_text()
    assert Logged.lines == [f"missed since the last run: {', '.join(missed)}"]

    # Nothing was made up for, and the table says what came of each.
    assert len(consortium.state().plans) == 1 and len(schedules(home)) == 1
    done = await asyncio.to_thread(wardround, "coordinator", "nights", "--home", home, "--json")
    assert done.code == 0, done.err
    assert [row["came to"] for row in json.loads(done.out)["nights"]] == ["missed", "missed", "done"]
    # The next night has nothing new to tell of them.
    state, _ = read_state(Home(home))
    listed = await nights(home, state, now_s=int(time.time()) + DAY_S)
    assert newly_missed(listed, f"{today + timedelta(days=1)}") == []
    assert [night.date for night in newly_missed(listed, f"{today}")] == [
        today - timedelta(days=2), today - timedelta(days=1),
    ]  # fmt: skip


class Logged:
    lines: list[str] = []  # noqa: RUF012

    def warning(self, text: str) -> None:
        self.lines.append(text)


async def test_what_came_of_a_night_is_read_off_the_ledger(consortium: Consortium) -> None:
    days = [date(2026, 11, day) for day in (1, 2, 3, 4)]
    good = tiny_plan(edition="2026-11-01")
    assert (await consortium.run(good)).errors == {}
    refused = tiny_plan(edition="2026-11-02", consent={"policy_version": "2099-9", "purpose": "research"})
    await consortium.run(refused)
    failed = tiny_plan(
        edition="2026-11-03", participation={"required": ["hospital-a"], "minimum_sites": 3, "deadline_s": 5}
    )
    await consortium.run(failed, absent=("hospital-a",))
    await consortium.run(tiny_plan(edition="by-hand"))
    found = judged(consortium.state(), plan="tiny", study="tiny-study", dates=days)
    assert [night.outcome for night in found] == ["done", "refused", "failed", "missed"]
    assert found[0] == Night(days[0], "done", good.content_digest(), 1)
    assert found[1].codes and "participation.required-missing" in found[2].codes
    assert judged(consortium.state(), plan="other", study="tiny-study", dates=days[:1])[0].outcome == "missed"


async def test_before_anything_was_scheduled_nothing_was_missed(
    consortium: Consortium, wardround: Command
) -> None:
    home = consortium.founded.coordinator
    assert await nights(home, consortium.state(), now_s=int(time.time())) == ()
    done = await asyncio.to_thread(wardround, "coordinator", "nights", "--home", home)
    assert done.code == 0 and "no nightly run was scheduled" in done.out
