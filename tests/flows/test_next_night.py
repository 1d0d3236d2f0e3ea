"""A nightly schedule that would overspend stops the night before, with a reason that a person can read."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

import flows.coordinator
from ledger.errors import Violation
from tasks.coordinator.next_night import foresee
from tasks.coordinator.party import opened_coordinator
from tests.consortium import Consortium, coordinator_worker
from tests.plans import tiny_plan
from tests.policies.test_two_studies import CAP

pytestmark = pytest.mark.xdist_group("rounds-2")


async def test_the_last_night_that_fits_says_so(tmp_path: Path) -> None:
    consortium = Consortium.found(tmp_path, cap=CAP)
    plan = tiny_plan()
    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    async with opened_coordinator(consortium.founded.coordinator, worker=coordinator_worker()) as coordinator:
        published = coordinator.state.plans[plan.content_digest()]
        refused = await foresee(coordinator, published)
    assert {violation.code for violation in refused} == {"budget.pool-cap"}
    assert "hospital-a has spent ε=" in refused[0].message and f"of its cap {CAP:g}" in refused[0].message
    kept = json.loads((consortium.founded.coordinator / "next-night.json").read_text())
    assert [item["code"] for item in kept["violations"]] == ["budget.pool-cap"] * 4


@pytest.mark.parametrize("edition", ["date", "7"])
async def test_the_nightly_run_pauses_its_own_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edition: str
) -> None:
    path, paused = tmp_path / "plan.yaml", []
    path.write_text(yaml.safe_dump(tiny_plan().to_json()))

    @asynccontextmanager
    async def opened(home: Path):  # type: ignore[no-untyped-def]
        yield SimpleNamespace(state=None, now_s=0, home=SimpleNamespace(root=home))

    async def none(*_: object, **__: object) -> tuple[()]:
        return ()

    async def ran(coordinator: object, plan: object) -> None:
        return None

    async def refuses(coordinator: object, published: object) -> list[Violation]:
        return [Violation("budget.pool-cap", "hospital-b would have spent ε=9 of 8")]

    async def pauses() -> None:
        paused.append(True)
        await asyncio.sleep(0)

    for name, value in (
        ("opened_coordinator", opened), ("run_plan", ran), ("foresee", refuses), ("pause_schedule", pauses),
        ("nights", none), ("show_nights", none), ("is_done", lambda *_: False),
    ):  # fmt: skip
        monkeypatch.setattr(flows.coordinator, name, value)
    state = await flows.coordinator.federated_round.fn(str(tmp_path), str(path), edition=edition)
    if edition == "date":
        assert paused == [True]
        assert state is not None and state.is_completed()
        assert "The next one is stopped: hospital-b would have spent" in str(state.message)
    else:  # a run by hand has no next night
        assert state is None and not paused
