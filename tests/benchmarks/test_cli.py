"""How long `wardround --help` takes, from the shell's view: a new process every time."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.benchmark(group="cli")
@pytest.mark.parametrize("arguments", [("--help",), ("plan", "--help"), ("ledger", "--help")], ids=" ".join)
def test_help(benchmark: BenchmarkFixture, arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "wardround", *arguments]
    done = benchmark.pedantic(
        subprocess.run,
        args=(command,),
        kwargs={"capture_output": True, "check": True},
        rounds=5,
        warmup_rounds=1,
    )
    assert b"Usage: wardround" in done.stdout
