"""Running a command as people do, but in this process: what it printed and its exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.consortium import Consortium, tiny_plan
from wardround.__main__ import run


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of an error; fails if there is none, more than one, or a traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("wardround: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err + self.out
        assert self.err.splitlines()[-1] == lines[0]
        return lines[0].removeprefix("wardround: ")


Command = Callable[..., Done]


@pytest.fixture
def wardround(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)

    def command(*arguments: object) -> Done:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return command


@pytest.fixture(scope="package")
def run_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a federation that ran one plan, in which hospital-d had too few patients. Read-only."""
    root = tmp_path_factory.mktemp("run")
    outcome = asyncio.run(Consortium.found(root, patients={"hospital-d": 12}).run(tiny_plan()))
    assert outcome.errors == {}
    return root
