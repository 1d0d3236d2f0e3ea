"""A flow started through its deployment does the same as the command: it registers a model.

Everything is real and as in an institution, but that one Prefect server and one worker serve all of them here:
the file is deployed with the `prefect` command, runs are triggered by name, the worker starts each as a process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from adapters.home import Home
from adapters.institution_log import read_state
from adapters.prefect_server import PrefectServer
from tests.consortium import SITES, Consortium, tiny_plan

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deployments" / "prefect.yaml"
PATIENCE_S = 240.0
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PrefectServer]:
    for name in ("PREFECT_API_URL", "PREFECT_HOME"):  # what the server sets is undone afterwards
        monkeypatch.setenv(name, "")
    running = PrefectServer(tmp_path / "prefect")
    running.start()
    try:
        running.wait()
        yield running
    finally:
        running.stop()


def prefect(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_deployed_flows_register_a_model(tmp_path: Path, server: PrefectServer) -> None:
    consortium = Consortium.found(tmp_path / "federation")
    plan = tiny_plan(participation={"required": [], "minimum_sites": 4, "deadline_s": 120})
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan.to_json()))
    home = {name: str(path) for name, path in consortium.founded.sites.items()}

    # 1. The file as it is, both deployments; then one site/round more for each other hospital, as each of
    #    them would deploy it on its own server.
    prefect("work-pool", "create", "wardround", "--type", "process")
    deployed = prefect(
        "deploy", "--prefect-file", str(FILE), "--all",
        WARDROUND_COORDINATOR_HOME=str(consortium.founded.coordinator),
        WARDROUND_PLAN=str(tmp_path / "plan.yaml"),
        WARDROUND_SITE_HOME=home[SITES[0]],
    )  # fmt: skip
    assert "coordinator/nightly" in deployed and "site/round" in deployed
    others = yaml.safe_load(FILE.read_text())
    (site,) = (item for item in others["deployments"] if item["name"] == "round")
    others["deployments"] = [
        {**site, "name": name, "parameters": {**site["parameters"], "home": home[name]}} for name in SITES[1:]
    ]
    (tmp_path / "others.yaml").write_text(yaml.safe_dump(others))
    prefect("deploy", "--prefect-file", str(tmp_path / "others.yaml"), "--all")

    # 2. A worker, and the runs.
    with (tmp_path / "worker.log").open("w") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "prefect", "worker", "start", "--pool", "wardround"],
            stdout=log, stderr=log, cwd=tmp_path,
        )  # fmt: skip
        try:
            for name in ("site/round", *(f"site/{name}" for name in SITES[1:]), "coordinator/nightly"):
                prefect("deployment", "run", name)
            states = wait_for_runs(server.url, count=5)
        finally:
            worker.terminate()
            worker.wait(timeout=30)
    assert set(states.values()) == {"COMPLETED"}, (states, (tmp_path / "worker.log").read_text()[-4000:])

    # 3. What the command would have left: the plan of today's edition, with a registered model.
    state, _ = read_state(Home(consortium.founded.coordinator))
    (published,) = state.plans.values()
    assert published.plan.edition == time.strftime("%Y-%m-%d", time.gmtime())
    registered = state.registered[published.plan_digest, 1]
    assert registered.model_digest == state.released[published.plan_digest, 1].model_digest
    assert {receipt.site for receipt in state.receipts.values()} == set(SITES)


def wait_for_runs(url: str, *, count: int) -> dict[str, str]:
    """{run name: state} of all flow runs, once `count` of them have ended."""
    import httpx

    deadline = time.monotonic() + PATIENCE_S
    states: dict[str, str] = {}
    while time.monotonic() < deadline:
        runs = httpx.post(f"{url}/flow_runs/filter", json={}, timeout=10).json()
        states = {run["name"]: run["state_type"] for run in runs}
        if len(states) >= count and set(states.values()) <= FINAL:
            break
        time.sleep(0.5)
    return states
