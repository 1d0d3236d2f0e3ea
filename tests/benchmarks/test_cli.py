"""How long commands take from the shell's view, a new process every time: `--help`, and a build's gate."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.wardround.gated import gated, here, write_plan


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


@pytest.mark.benchmark(group="cli")
def test_gate(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Cold, over a ledger that holds a whole round: to stay under 1.5 s."""
    ledger = gated("registered").published_at(tmp_path / "ledger")
    plan = write_plan(tmp_path / "plan.yaml", here(rounds=2, edition="next"))
    command = [sys.executable, "-m", "wardround", "gate", str(plan), "--ledger", str(ledger)]
    done = benchmark.pedantic(
        subprocess.run,
        args=(command,),
        kwargs={"capture_output": True, "check": True},
        rounds=5,
        warmup_rounds=1,
    )
    assert b"ADMITTED" in done.stdout
