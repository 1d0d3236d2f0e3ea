"""Fixtures of the tests of whole rounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.consortium import Consortium


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    """Four sites with enough patients each, and a cap that no test here reaches by accident."""
    return Consortium.found(tmp_path)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits for the ledger are cut to seconds, for tests in which it never answers."""
    monkeypatch.setattr("tasks.site.party.LEDGER_TIMEOUT_S", 20.0)
    monkeypatch.setattr("tasks.coordinator.party.LEDGER_TIMEOUT_S", 20.0)
