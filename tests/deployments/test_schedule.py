"""A served coordinator is scheduled for two at night, by the server that institutions run themselves.

The scheduler is Prefect's own; it fails silently (in the server's log alone) under versions that do not fit each
other, and then nothing ever runs: hence a test of the whole chain.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml

from adapters.prefect_server import _free_port, answers
from tests.consortium import Consortium, tiny_plan

PATIENCE_S = 120.0

pytestmark = pytest.mark.slow


@contextmanager
def running(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *command], stdout=file, stderr=file, env={**os.environ, **environment}
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def test_a_served_coordinator_is_scheduled_at_two_at_night(tmp_path: Path) -> None:
    import httpx

    home = Consortium.found(tmp_path / "federation").founded.coordinator
    plan = tmp_path / "plan.yaml"
    plan.write_text(yaml.safe_dump(tiny_plan().to_json()))
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_UI_ENABLED": "false",
    }
    serve = ["wardround", "coordinator", "serve", "--home", str(home), "--plan", str(plan)]
    serve += ["--time-zone", "Europe/Berlin"]
    server = ["prefect", "server", "start", "--port", str(port)]
    deadline = time.monotonic() + PATIENCE_S
    with running(server, tmp_path / "server.log", environment):
        while not answers(url) and time.monotonic() < deadline:
            time.sleep(0.2)
        with running(serve, tmp_path / "serve.log", environment):
            runs: list[dict[str, str]] = []
            while not runs and time.monotonic() < deadline:
                time.sleep(0.5)
                runs = httpx.post(f"{url}/flow_runs/filter", json={}, timeout=10).json()
    errors = [line for line in (tmp_path / "server.log").read_text().splitlines() if "ERROR" in line]
    assert runs, f"nothing was scheduled; the server says: {errors[:3]}"
    due = datetime.fromisoformat(runs[0]["expected_start_time"]).astimezone(ZoneInfo("Europe/Berlin"))
    assert (due.hour, due.minute) == (2, 0) and runs[0]["state_name"] == "Scheduled"
