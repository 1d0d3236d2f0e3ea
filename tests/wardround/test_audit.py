"""`wardround audit privacy`: what it prints, and what it raises for the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from cyclopts import CycloptsError

from ledger.errors import CodedError, PolicyViolation
from tests.plans import tiny_plan
from wardround.audit import app


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    fields = {"sampling_rate": 0.25, "steps": 24, "noise_multiplier": 3.0, "nominal_batch_patients": 40.0}
    tiny = tiny_plan()
    value = tiny.model_copy(update={"training": tiny.training.model_copy(update=fields)}).to_json()
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def run(*arguments: object) -> None:
    app([str(one) for one in ("privacy", *arguments)], exit_on_error=False, result_action="return_value")


def test_a_plan_that_keeps_its_claim(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--plan", plan, "--canaries", 300, "--json")
    captured = capsys.readouterr()
    value = json.loads(captured.out)
    assert value["ok"] is True and value["noise"] is True and value["canaries"] == 300
    assert 0 <= value["epsilon_audited"] < value["epsilon_claimed"] < value["epsilon_detectable"]
    assert value["confidence"] == 0.95 and 0 <= value["correct"] <= value["guesses"] <= 150
    assert "audit" in captured.err and "train" in captured.err


def test_without_noise_it_prints_its_findings_and_refuses(
    plan: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PolicyViolation) as refusal:
        run("--plan", plan, "--canaries", 300, "--without-noise")
    assert refusal.value.code == "audit.claim-exceeded" and refusal.value.kind == "policy"
    out = capsys.readouterr().out
    assert "its noise left out" in out and "above the claim" in out and "150 guessed" in out


def test_the_table_of_a_plan_that_keeps_its_claim(plan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("--plan", plan, "--canaries", 300)
    out = capsys.readouterr().out
    assert "below the claim" in out and "tiny" in out and "95% confidence" in out


@pytest.mark.parametrize("canaries", [9, -1, 20_001])
def test_a_number_of_canaries_out_of_range_is_usage(canaries: int) -> None:
    with pytest.raises(CodedError) as refusal:
        run("--canaries", canaries)
    assert refusal.value.code == "usage.option" and refusal.value.kind == "input"


def test_what_cannot_be_read_or_understood_is_named(plan: Path, tmp_path: Path) -> None:
    with pytest.raises(CodedError) as refusal:
        run("--plan", tmp_path / "nothing.yaml")
    assert refusal.value.code == "plan.unreadable"
    with pytest.raises(CodedError) as refusal:
        run("--plan", plan, "--canaries", 10)
    assert refusal.value.code == "audit.too-few-canaries" and refusal.value.kind == "input"
    with pytest.raises(CycloptsError):
        run("--canaries", "many")
