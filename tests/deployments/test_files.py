"""The files that people copy: they parse, name what exists, and the gate's script gates."""

from __future__ import annotations

import configparser
import inspect
import io
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from prefect.cli.deploy._config import _load_deploy_configs_and_actions
from prefect.client.schemas.schedules import CronSchedule
from rich.console import Console

from policies.federation import PHASES
from tests.consortium import tiny_plan
from wardround.__main__ import app

DEPLOYMENTS = Path(__file__).resolve().parents[2] / "deployments"


def test_the_deployments_name_the_flows_and_their_parameters() -> None:
    value = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text())
    assert value["pull"] == [] and not value["build"]
    found = {}
    for item in value["deployments"]:
        module, _, name = item["entrypoint"].rpartition(".")
        flow = getattr(import_module(module), name)
        found[f"{flow.name}/{item['name']}"] = item
        assert set(item["parameters"]) <= set(inspect.signature(flow.fn).parameters)
        assert item["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
    assert {"coordinator/nightly", "site/round"} <= set(found)
    (nightly,) = found["coordinator/nightly"]["schedules"]
    assert nightly["cron"] == "0 2 * * *" and ZoneInfo(nightly["timezone"])
    (often,) = found["site/round"]["schedules"]
    assert found["site/round"]["parameters"]["wait_s"] < often["interval"]
    parameters = found["coordinator/nightly"]["parameters"]
    assert parameters["edition"] == "date"
    # What the home is told of its nights is what the scheduler does.
    assert (parameters["cron"], parameters["time_zone"]) == (nightly["cron"], nightly["timezone"])


def test_prefect_reads_the_file_as_it_is_meant() -> None:
    """Its loader skips a file with one wrong field, and ignores what it does not know, both without an error."""
    said = io.StringIO()
    file = DEPLOYMENTS / "prefect.yaml"
    read, actions = _load_deploy_configs_and_actions(file, console=Console(file=said))
    assert said.getvalue() == "" and actions == {"build": [], "push": [], "pull": []}
    written = yaml.safe_load(file.read_text())["deployments"]
    assert [set(item) for item in read] == [set(item) for item in written]
    for item in read:
        assert item["concurrency_limit"] == {"limit": 1, "collision_strategy": "CANCEL_NEW"}
        for schedule in item.get("schedules", []):
            if "cron" in schedule:  # read by the scheduler's own class
                assert CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"]).timezone


def test_every_phase_has_its_deployment_and_none_starts_by_itself() -> None:
    listed = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text())["deployments"]
    nightly, *others = listed
    phases = {item["name"]: item for item in others if item["entrypoint"].startswith("flows.rollout.")}
    files = {path.stem for path in (DEPLOYMENTS.parent / "flows" / "rollout").glob("*.py")}
    assert set(phases) == files & set(PHASES)
    for name, item in phases.items():
        assert item["entrypoint"] == f"flows.rollout.{name}.{name}"
        assert {"home", "terms", "plan"} <= set(item["parameters"])
        for schedule in item.get("schedules", []):
            assert not schedule["active"]
            assert (schedule["cron"], schedule["timezone"]) == (
                item["parameters"]["cron"],
                item["parameters"]["time_zone"],
            )
            assert schedule["cron"] == nightly["schedules"][0]["cron"]


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    (tmp_path / "plans").mkdir()
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "wardround"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m wardround "$@"\n')
    command.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("fields", "code"), [({}, 0), ({"rounds": 0}, 2), ({"budget": {"epsilon_cap": 100.0, "delta": 1e-5}}, 3)]
)
def test_the_ci_gate_fails_a_build_with_the_commands_code(
    gate: Path, fields: dict[str, object], code: int
) -> None:
    job = yaml.safe_load((DEPLOYMENTS / "ci" / "gate.yaml").read_text())["jobs"]["gate"]
    scripts = [step["run"] for step in job["steps"] if "run" in step]
    assert any("wardround doctor" in script for script in scripts)
    (script,) = (script for script in scripts if "plan validate" in script)
    plan = tiny_plan().to_json()
    (gate / "plans" / "a.yaml").write_text(yaml.safe_dump({**plan, **fields}))
    (gate / "plans" / "b.yaml").write_text(yaml.safe_dump(plan))
    cap = "0.5" if code == 3 else "8"
    root = str(DEPLOYMENTS.parent)
    environment = {**os.environ, "PATH": f"{gate / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": root}
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=gate, capture_output=True, text=True, check=False,
        env={**environment, "EPSILON_CAP": cap, "SITES": "4"},
    )  # fmt: skip
    assert done.returncode == code, done.stderr


@pytest.mark.parametrize("unit", sorted(path.name for path in (DEPLOYMENTS / "systemd").glob("*.service")))
def test_a_unit_parses_and_starts_a_command_that_exists(unit: str) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOYMENTS / "systemd" / unit)
    assert {"Unit", "Service", "Install"} <= set(parser.sections())
    called = re.search(r"bin/wardround (\w+) (\w+)", parser["Service"]["ExecStart"])
    if called:
        assert called[2] in app[called[1]]


@pytest.mark.parametrize(
    "path", sorted((DEPLOYMENTS / "examples").glob("*.yaml")), ids=lambda path: path.stem
)
def test_an_example_s_delta_is_one_that_a_hospital_of_the_demo_admits(path: Path) -> None:
    """Its patients are ten thousand at the most, and δ may be 1/(10 · patients)."""
    budget = yaml.safe_load(path.read_text()).get("budget")
    assert budget is None or budget["delta"] <= 1e-5
