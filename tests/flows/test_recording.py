"""A round is recorded beside the next one, in order, and nothing is judged or ended on a record that is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from adapters.home import Home
from adapters.institution_log import ledger_storage
from adapters.lineage import Lineage, ModelVersion
from ledger.event import parse_entry
from ledger.log import Log
from policies.events import PlanPublished
from tasks.coordinator import recording
from tasks.coordinator.party import Coordinator
from tasks.coordinator.record import record_round
from tasks.step import StepError
from tests.consortium import Consortium
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-3")


def told(consortium: Consortium) -> list[tuple[str, int]]:
    """(type, round) of every event of a round on the coordinator's ledger, in order."""
    storage = ledger_storage(Home(consortium.founded.coordinator))
    try:
        log = Log.open(storage)
        events = [parse_entry(entry).event for entry in log.entries(0, log.size)]
    finally:
        storage.close()
    return [(event.type, number) for event in events if isinstance(number := event.body.get("round"), int)]


async def test_no_model_is_judged_before_the_one_that_its_gate_compares_it_with_is_registered(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:

    async def slowly(
        coordinator: Coordinator,
        published: PlanPublished,
        round_number: int,
        model: bytes,
        lineage: Lineage,
        metrics: Mapping[str, float],
        public_auc: float | None,
    ) -> ModelVersion:
        digest = published.plan_digest
        # The next round goes on meanwhile, up to its own evaluation.
        if round_number == 1:
            await coordinator.until(
                lambda state: state.evaluated.get((digest, 2)), timeout_s=60.0, waiting_for="the next round"
            )
            await asyncio.sleep(0.3)
        return await record_round(coordinator, published, round_number, model, lineage, metrics, public_auc)

    monkeypatch.setattr(recording, "record_round", slowly)
    outcome = await consortium.run(tiny_plan(rounds=2))
    assert outcome.errors == {}
    events = told(consortium)
    assert events.index(("evaluation.recorded", 2)) < events.index(("model.registered", 1))
    assert events.index(("model.registered", 1)) < events.index(("gate.verdict", 2))
    assert [one["round"] for one in consortium.report()["rounds"]] == [1, 2]
    assert len(list((consortium.founded.coordinator / "evidence").glob("*.zip"))) == 2
    assert consortium.registered_versions() == 2


async def test_a_round_that_cannot_be_recorded_ends_the_run_before_the_next_verdict(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        raise OSError("the lineage is full")

    monkeypatch.setattr(recording, "record_round", never)
    outcome = await consortium.run(tiny_plan(rounds=2), leave=True)
    assert isinstance(outcome.errors["coordinator"], StepError)
    events = told(consortium)
    assert ("gate.verdict", 1) in events
    assert ("gate.verdict", 2) not in events
    assert consortium.registered_versions() == 0
