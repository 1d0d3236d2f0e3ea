"""Who can write to the exchange lays gigabytes where a model, a sum or a state belongs: nobody reads them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

import tasks.model_objects
from adapters import objects
from adapters.exchange import DirectoryExchange, ExchangeTooLargeError
from policies.events import PlanPublished
from policies.plan import Plan
from tasks.aggregate import lane_count, lanes_to_bytes, model_size
from tasks.model_objects import load_model, load_sum, previous_model, server_state
from tasks.object_sizes import object_sizes
from tasks.opening import Opener
from tasks.train.server_optimizer import ServerState
from tasks.worker.model_session import ModelSession
from tests.plans import tiny_plan

SERVER = {"optimizer": "adam", "beta1": 0.9, "beta2": 0.99, "tau": 0.01, "schedule": "constant"}
UPDATE = {"clip_l2": 8.0, "lane_bits": 22, "maximum_sites": 50, "server_learning_rate": 1.0}
Load = Callable[[Opener, PlanPublished, str], Awaitable[bytes | None]]
LOADS: dict[str, Load] = {
    "model": load_model,
    "sum": lambda party, published, digest: load_sum(party, published, 2, digest),
    "previous model": lambda party, published, _: previous_model(party, published, 2),
    "state": lambda party, published, _: server_state(party, published, 2),
}
GROUPS = 1


@pytest.fixture
def plan() -> Plan:
    return tiny_plan(rounds=2, update=UPDATE | {"server": SERVER}, compression={"keep": 0.5})


def whole(plan: Plan, what: str) -> bytes:
    """The honest object."""
    size = model_size(plan)
    if what == "sum":
        return lanes_to_bytes(np.zeros(GROUPS * lane_count(plan, "training"), np.int32))
    if what == "state":
        return ServerState(m=np.zeros(size), v=np.ones(size)).to_bytes()
    return ModelSession().initial_model(plan)


def opener(plan: Plan, exchange: DirectoryExchange, digest: str) -> Opener:
    """A party whose ledger names that digest wherever it names one."""

    class Worker:
        async def call(self, method: Callable[[ModelSession, Plan], object], plan: Plan) -> object:
            return method(ModelSession(), plan)

    released = {(plan.content_digest(), 1): SimpleNamespace(server_state_digest=digest)}
    state = SimpleNamespace(released=released, model_before=lambda *_: digest)
    return cast(Opener, SimpleNamespace(exchange=exchange, state=state, worker=Worker()))


@pytest.mark.parametrize("what", LOADS)
async def test_what_is_longer_than_it_can_be_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: Plan, what: str
) -> None:
    monkeypatch.setattr(tasks.model_objects, "opened_groups", lambda *_: ((0, ("a", "b", "c")),) * GROUPS)
    published = cast(PlanPublished, SimpleNamespace(plan=plan, plan_digest=plan.content_digest()))
    exchange = DirectoryExchange(tmp_path)
    data = whole(plan, what)
    digest = objects.store(exchange, data)
    party = opener(plan, exchange, digest)
    assert await LOADS[what](party, published, digest) == data
    with (tmp_path / objects.name_of(digest)).open("r+b") as there:
        there.truncate(2**30)
    with pytest.raises(ExchangeTooLargeError):
        await LOADS[what](party, published, digest)


@pytest.mark.parametrize("what", LOADS)
def test_the_longest_is_hardly_longer_than_it_is(plan: Plan, what: str) -> None:
    sizes = object_sizes(plan)
    most = {"sum": GROUPS * sizes.group_sum, "state": sizes.server_state}.get(what, sizes.model)
    assert 0 <= most - len(whole(plan, what)) < 4096
