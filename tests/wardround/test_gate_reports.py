"""What a build system reads of the gate: JUnit and SARIF that their own readers take."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from tests.policies.founding import SITES
from tests.wardround.conftest import Command
from tests.wardround.gated import gated, here, write_plan

A = SITES[0]
DEAR = {"epsilon_cap": 1.0, "delta": 1e-5}

SARIF = {
    "type": "object",
    "required": ["$schema", "version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {"type": "array", "minItems": 1, "maxItems": 1, "items": {"$ref": "#/$defs/run"}},
    },
    "$defs": {
        "message": {
            "type": "object",
            "required": ["text"],
            "additionalProperties": False,
            "properties": {"text": {"type": "string", "minLength": 1}},
        },
        "run": {
            "type": "object",
            "required": ["tool", "results"],
            "additionalProperties": False,
            "properties": {
                "tool": {
                    "type": "object",
                    "required": ["driver"],
                    "additionalProperties": False,
                    "properties": {
                        "driver": {
                            "type": "object",
                            "required": ["name"],
                            "additionalProperties": False,
                            "properties": {
                                "name": {"type": "string"},
                                "version": {"type": "string"},
                                "rules": {
                                    "type": "array",
                                    "uniqueItems": True,
                                    "items": {"$ref": "#/$defs/rule"},
                                },
                            },
                        }
                    },
                },
                "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                "invocations": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["executionSuccessful"],
                        "additionalProperties": False,
                        "properties": {
                            "executionSuccessful": {"type": "boolean"},
                            "exitCode": {"type": "integer"},
                            "toolExecutionNotifications": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "required": ["message"],
                                    "additionalProperties": False,
                                    "properties": {
                                        "level": {"enum": ["none", "note", "warning", "error"]},
                                        "message": {"$ref": "#/$defs/message"},
                                    },
                                },
                            },
                        },
                    },
                },
                "results": {"type": "array", "items": {"$ref": "#/$defs/result"}},
            },
        },
        "rule": {
            "type": "object",
            "required": ["id"],
            "additionalProperties": False,
            "properties": {"id": {"type": "string"}, "shortDescription": {"$ref": "#/$defs/message"}},
        },
        "result": {
            "type": "object",
            "required": ["message"],
            "additionalProperties": False,
            "properties": {
                "ruleId": {"type": "string"},
                "ruleIndex": {"type": "integer", "minimum": -1},
                "level": {"enum": ["none", "note", "warning", "error"]},
                "message": {"$ref": "#/$defs/message"},
                "locations": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "physicalLocation": {
                                "type": "object",
                                "additionalProperties": False,
                                "properties": {
                                    "artifactLocation": {
                                        "type": "object",
                                        "additionalProperties": False,
                                        "properties": {"uri": {"type": "string", "pattern": "^[!-~]+$"}},
                                    },
                                    "region": {
                                        "type": "object",
                                        "additionalProperties": False,
                                        "properties": {"startLine": {"type": "integer", "minimum": 1}},
                                    },
                                },
                            },
                            "logicalLocations": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "additionalProperties": False,
                                    "properties": {"name": {"type": "string"}, "kind": {"type": "string"}},
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}
"""What of the OASIS schema the gate uses, and nothing beyond it; names, types and enumerations are the standard's."""


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with four pools that nothing has drawn on. Read-only."""
    return gated().published_at(tmp_path_factory.mktemp("founded") / "ledger")


@pytest.fixture(scope="module")
def one_round(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger whose pools held one round of a plan and a little more. Read-only."""
    made = gated("registered", plan=here(rounds=1), cap=10.3)
    return made.published_at(tmp_path_factory.mktemp("one-round") / "ledger")


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    return write_plan(tmp_path / "plan.yaml", here())


def test_junit_has_a_test_case_for_every_rule_and_site(
    wardround: Command, founded: Path, plan: Path, tmp_path: Path
) -> None:
    dear = write_plan(tmp_path / "dear <&>\"'.yaml", here(budget=DEAR))
    wrong = write_plan(tmp_path / "wrong.yaml", here(), {"<b>&\x07": 1})
    done = wardround("gate", plan, dear, wrong, "--ledger", founded, "--format", "junit")
    assert done.code == 2
    root = ElementTree.fromstring(done.out.encode())  # noqa: S314 - our own
    assert root.tag == "testsuites" and (root.get("failures"), root.get("errors")) == ("1", "1")
    suites = {suite.get("name"): suite for suite in root}
    assert set(suites) == {str(plan), str(dear), str(wrong)}
    for suite in suites.values():
        assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
    cases = {(case.get("classname"), case.get("name")) for case in suites[str(plan)].findall("testcase")}
    assert {("plan", "budget.plan-cap"), ("plan", "plan.code"), ("plan", "policy.not-adopted")} <= cases
    assert {(site, "budget.pool-cap") for site in SITES} <= cases
    (failed,) = (case for case in suites[str(dear)].findall("testcase") if case.find("failure") is not None)
    assert (failed.get("classname"), failed.get("name")) == ("plan", "budget.plan-cap")
    failure = failed.find("failure")
    assert failure is not None and failure.get("type") == "budget.plan-cap" and "ε=" in (failure.text or "")
    assert suites[str(wrong)].find("testcase/error") is not None


def test_sarif_names_rule_file_and_line(
    wardround: Command, founded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plans of ε").mkdir()
    dear = write_plan(tmp_path / "plans of ε" / "dear.yaml", here(budget=DEAR, risk_tier="high"))
    wrong = write_plan(tmp_path / "wrong.yaml", here(), {"rounds": 0})
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: x\nstudy: [\n")
    done = wardround("gate", dear, wrong, broken, "--ledger", founded, "--format", "sarif")
    assert done.code == 2
    value = json.loads(done.out)
    jsonschema.validate(value, SARIF)
    (run,) = value["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    lines = dear.read_text().splitlines()
    found = {}
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"] and result["level"] == "error"
        place = result["locations"][0]["physicalLocation"]
        found[result["ruleId"], place["artifactLocation"]["uri"]] = place["region"]["startLine"]
    here_uri = "plans%20of%20%CE%B5/dear.yaml"
    assert lines[found["budget.plan-cap", here_uri] - 1].strip().startswith("epsilon_cap:")
    assert lines[found["phase.risk-tier", here_uri] - 1].startswith("risk_tier:")
    assert wrong.read_text().splitlines()[found["plan.malformed", "wrong.yaml"] - 1] == "rounds: 0"
    assert found["plan.malformed", "broken.yaml"] == 3
    assert run["invocations"][0]["exitCode"] == 2
    assert wardround("gate", write_plan(tmp_path / "p.yaml", here()), "--format", "sarif").code == 0
    clean = json.loads(wardround("gate", tmp_path / "p.yaml", "--format", "sarif").out)
    jsonschema.validate(clean, SARIF)
    assert clean["runs"][0]["results"] == []
