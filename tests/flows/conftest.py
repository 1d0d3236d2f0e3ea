"""Fixtures of the tests of whole rounds."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest

import tasks.validate
from policies.contract import Check
from tasks.train import networks
from tests.consortium import Consortium
from tests.plans import tiny_plan


@pytest.fixture(scope="session", autouse=True)
def imported() -> None:
    """All that a first round imports, which takes half a minute where four processes begin at once: that is not to
    count towards a test's deadlines."""
    for name in ("great_expectations", "mlflow", "tenseal", "scipy.stats", "opendp.prelude"):
        import_module(name)
    plan = tiny_plan()
    networks.build(plan.network, plan.data)


@pytest.fixture(scope="session", autouse=True)
def asked_once() -> Iterator[None]:
    """The same facts under the same checks are asked of Great Expectations once a session, which takes a third of a
    second: nearly every test here has the same four shards. `tests/tasks/test_validate.py` asks every time."""
    asked, answers = tasks.validate._run, dict[str, list[bool]]()

    def run(facts: pd.DataFrame, checks: tuple[Check, ...]) -> list[bool]:
        content = f"{checks}{[*facts.dtypes.items()]}{facts.to_csv()}"
        if content not in answers:
            answers[content] = asked(facts, checks)
        return answers[content]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tasks.validate, "_run", run)
        yield


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    """Four sites with enough patients each, and a cap that no test here reaches by accident."""
    return Consortium.found(tmp_path)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for the ledger are cut to seconds, for tests in which it never answers."""
    monkeypatch.setattr("tasks.site.party.LEDGER_TIMEOUT_S", 25.0)
    monkeypatch.setattr("tasks.coordinator.party.LEDGER_TIMEOUT_S", 25.0)
