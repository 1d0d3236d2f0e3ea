"""`wardround demo` on a folder that is there already: it says what can be done, by the very command."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from ledger.errors import PolicyViolation, Violation
from tests.consortium import tiny_plan
from tests.wardround.conftest import Command
from wardround import demo
from wardround.demo import MARKER


def test_an_earlier_run_is_named_with_the_command_that_goes_on(wardround: Command, tmp_path: Path) -> None:
    out = tmp_path / "my run"
    out.mkdir()
    (out / MARKER).touch()
    begun = wardround("demo", "--out", out)
    assert begun.code == 2 and "--overwrite" in begun.error and "--resume" not in begun.error  # never founded
    (out / "plan.yaml").write_text(yaml.safe_dump(tiny_plan().to_json()))
    command = f"wardround demo --out {shlex.quote(str(out))} --resume"
    there = wardround("demo", "--data", tmp_path, "--out", out)
    assert (
        there.code == 2
        and there.error.startswith("[out.exists]")
        and f"go on with it: {command}." in there.error
    )
    changed = wardround("demo", "--data", tmp_path, "--out", out, "--resume")
    assert changed.code == 2 and changed.error.startswith("[usage.option]")
    assert changed.error.endswith(f"Write: {command}")


def test_a_folder_of_somebody_else_s_is_offered_to_no_option(wardround: Command, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    refused = wardround("demo", "--out", tmp_path)
    assert refused.code == 2 and refused.error.startswith("[out.exists]")
    assert "--overwrite" not in refused.error and "--resume" not in refused.error


def test_a_failed_run_names_where_each_site_says_why(
    wardround: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PolicyViolation([Violation("participation.too-few", "1 sites reported in round 1")])

    (tmp_path / MARKER).touch()
    (tmp_path / "sites").mkdir()
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(tiny_plan().to_json()))
    monkeypatch.setattr(demo, "_finished", lambda out, plan: False)
    monkeypatch.setattr(demo, "_run", fail)
    failed = wardround("demo", "--out", tmp_path, "--resume")
    assert failed.code == 3 and failed.error.endswith(f"Each site's reason: {tmp_path}/sites/*/site.log")
