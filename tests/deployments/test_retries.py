"""Which steps may be tried again: a second try must never draw noise, spend a budget, sign or decide."""

from __future__ import annotations

import ast
import gc
import inspect
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from prefect import Flow, Task, flow
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_DEFAULT_RETRIES,
    PREFECT_TASKS_DEFAULT_RETRIES,
    temporary_settings,
)

from ledger.errors import PolicyViolation, Violation
from tasks.step import RETRIES, StepError, repeatable_step, step

ROOT = Path(__file__).resolve().parents[2]
REPEATABLE = {
    "open_lineage",
    "finish_lineage",
    "record_evidence",
    "show_nights",
    "settle_champions",
    "sweep_once",
}
"""Each writes beside the ledger, under names that follow from the plan: a second time changes nothing."""
NEVER = {"say", "send", "call", "submit", "reserve", "give_back", "draw", "begin", "put", "journal", "sign"}
"""How a step speaks on the ledger, draws, signs, or has a process compute."""
PACKAGES = ("flows", "tasks", "wardround")


def ours() -> tuple[dict[str, Task[..., object]], dict[str, Flow[..., object]]]:
    """Every task and flow that any module makes, wherever it is kept."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if path.stem != "__main__":
                import_module(
                    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
                )
    found = [value for value in gc.get_objects() if issubclass(type(value), Task | Flow)]
    mine = [value for value in found if value.fn.__module__.split(".")[0] in PACKAGES]
    tasks = {value.name: value for value in mine if isinstance(value, Task)}
    flows = {value.name: value for value in mine if isinstance(value, Flow)}
    return tasks, flows


def test_only_what_reads_or_writes_beside_the_ledger_is_tried_again() -> None:
    tasks, flows = ours()
    assert {
        "reserve",
        "train",
        "protect",
        "protect_figures",
        "settle",
        "accept",
        "record_round",
    } <= tasks.keys()
    assert {"coordinator", "site", "statistics"} <= flows.keys()
    assert {name for name, task in tasks.items() if task.retries} == REPEATABLE
    assert {task.retries for task in tasks.values() if task.retries} == {RETRIES}
    assert tasks["open_lineage"].retry_delay_seconds == [2.0, 4.0, 8.0]
    assert not [name for name, made in flows.items() if made.retries]
    # Nothing that ran is taken from a cache either, nor kept as a pickle.
    assert {task.persist_result for task in tasks.values()} == {False}


def test_what_is_tried_again_neither_speaks_nor_draws_nor_computes() -> None:
    tasks, _ = ours()
    for name in REPEATABLE:
        function = inspect.unwrap(tasks[name].fn)
        called = set(attributes(ast.parse(textwrap.dedent(inspect.getsource(function)))))
        assert not called & NEVER, (name, called & NEVER)


def attributes(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
        if isinstance(node, ast.Attribute):
            yield node.attr


def test_no_setting_of_an_operator_makes_a_step_or_a_flow_run_again() -> None:
    settings = {PREFECT_TASKS_DEFAULT_RETRIES: 5, PREFECT_FLOWS_DEFAULT_RETRIES: 5}
    with temporary_settings(settings):

        @step
        async def drawn(party: Party) -> None:
            party.tried += 1

        assert [task.retries for task in gc.get_objects() if type(task) is Task and task.name == "drawn"] == [
            0
        ]
    for path in (ROOT / "flows").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "flow":
                said = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert said.get("retries") == "0" and said.get("persist_result") == "False", path


def test_the_deployments_ask_for_no_retries() -> None:
    text = (ROOT / "deployments" / "prefect.yaml").read_text()
    assert "retries" not in yaml.safe_dump(yaml.safe_load(text)).lower()


class Party:
    name = "coordinator"

    def __init__(self) -> None:
        self.tried, self.kept = 0, list[str]()

    def keep_diagnostics(self, text: str) -> None:
        self.kept.append(text)


@repeatable_step
async def fails_twice(party: Party) -> int:
    party.tried += 1
    if party.tried < 3:
        raise OSError("the disk is not there")
    return party.tried


@repeatable_step
async def refuses(party: Party) -> None:
    party.tried += 1
    raise PolicyViolation([Violation("plan.refused", "no")])


@step
async def fails(party: Party) -> None:
    party.tried += 1
    raise OSError("the disk is not there")


@pytest.mark.slow
async def test_a_step_is_tried_again_after_a_fault_and_never_after_a_refusal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from adapters.prefect_server import PrefectServer

    for name in ("PREFECT_API_URL", "PREFECT_HOME"):
        monkeypatch.setenv(name, "")
    server = PrefectServer(tmp_path / "prefect")
    server.start()
    try:
        server.wait()
        for one in gc.get_objects():
            if type(one) is Task and one.name in ("fails_twice", "refuses"):
                one.retry_delay_seconds = [0.1, 0.1, 0.1]
        parties = Party(), Party(), Party()

        @flow(name="trial", retries=0)
        async def trial() -> int:
            with pytest.raises(PolicyViolation):
                await refuses(parties[1])
            with pytest.raises(StepError):
                await fails(parties[2])
            return await fails_twice(parties[0])

        with temporary_settings({PREFECT_API_URL: server.url}):
            assert await trial() == 3
        assert [party.tried for party in parties] == [3, 1, 1]
    finally:
        server.stop()
