"""The gate that people copy into their builds: the workflow's script, and the pre-commit hook."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ledger.export import POLICY, VKEY
from tests.wardround.gated import gated, here, write_plan

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gated(cap=12.0).published_at(tmp_path_factory.mktemp("ledger") / "ledger")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Where somebody keeps plans, with `wardround` on the path."""
    (tmp_path / "plans").mkdir()
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "wardround"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m wardround "$@"\n')
    command.chmod(0o755)
    return tmp_path


def environment(repository: Path, **values: str) -> dict[str, str]:
    path = f"{repository / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **values}


@pytest.mark.parametrize(
    ("fields", "with_ledger", "code"),
    [
        ({}, True, 0),
        ({"rounds": 0}, True, 2),
        ({"rounds": 60, "budget": {"epsilon_cap": 100.0, "delta": 1e-5}}, True, 3),
        ({"code_digests": ["0" * 64]}, False, 3),
    ],
)
def test_the_workflow_stops_a_build_with_the_gates_code_and_leaves_the_findings(
    repository: Path, ledger: Path, fields: dict[str, object], with_ledger: bool, code: int
) -> None:
    job = yaml.safe_load((ROOT / "deployments/ci/gate.yaml").read_text())["jobs"]["gate"]
    (script,) = (step["run"] for step in job["steps"] if "wardround gate" in step.get("run", ""))
    write_plan(repository / "plans" / "a.yaml", here(), fields)  # type: ignore[arg-type]
    write_plan(repository / "plans" / "b.yaml", here(edition="other"))
    (repository / job["env"]["LEDGER_POLICY"]).write_bytes((ledger / POLICY).read_bytes())
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=repository, capture_output=True, text=True, check=False,
        env=environment(
            repository,
            LEDGER=str(ledger) if with_ledger else "",
            LEDGER_VKEY=(ledger / VKEY).read_text().strip(),
            LEDGER_POLICY=job["env"]["LEDGER_POLICY"],
        ),
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert ("judged by itself" in done.stdout) == (not with_ledger) and "were believed" not in done.stdout
    (run,) = json.loads((repository / "gate.sarif").read_text())["runs"]
    assert run["invocations"][0]["exitCode"] == code and bool(run["results"]) == (code != 0)
    uris = {r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in run["results"]}
    assert uris <= {"plans/a.yaml"}


def test_the_workflow_gates_after_a_failed_check_and_uploads_what_it_found() -> None:
    job = yaml.safe_load((ROOT / "deployments/ci/gate.yaml").read_text())["jobs"]["gate"]
    upload = job["steps"][-1]
    assert "upload-sarif" in upload["uses"] and upload["with"]["sarif_file"] == "gate.sarif"
    gates = [step for step in job["steps"] if "wardround gate" in step.get("run", "")]
    assert all("!cancelled()" in step["if"] for step in (*gates, upload))


@pytest.mark.parametrize(("fields", "code"), [({}, 0), ({"code_digests": []}, 3), ({"rounds": "x"}, 2)])
def test_the_pre_commit_hook_is_the_gate(repository: Path, fields: dict[str, object], code: int) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert {"id", "name", "entry", "language", "files"} <= hook.keys() and hook["language"] == "system"
    changed = ["plans/a.yaml", "plans/deep/a.yaml", "README.md", "deployments/ci/gate.yaml"]
    taken = [path for path in changed if re.search(hook["files"], path)]
    assert taken == ["plans/a.yaml"]
    write_plan(repository / "plans" / "a.yaml", here(), fields)  # type: ignore[arg-type]
    done = subprocess.run(
        [*shlex.split(hook["entry"]), *taken], cwd=repository, capture_output=True, text=True, check=False,
        env=environment(repository),
    )  # fmt: skip
    assert done.returncode == code, done.stderr
