"""`wardround rules`: what a compliance officer sees of the rules, and what a build sees of their tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from policies.build_gate import codes_of
from policies.rego import DECISIONS, INSTALLED, installed_rules
from policies.rego_sources import read_sources
from tests.wardround.conftest import Command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(INSTALLED, tmp_path / "rules"))


def test_the_installed_rules_pass_their_tests(wardround: Command) -> None:
    done = wardround("rules", "test")
    assert done.code == 0 and "tests passed" in done.out and "FAILED" not in done.out


def test_a_rule_that_is_changed_fails_the_tests_that_say_otherwise(wardround: Command, folder: Path) -> None:
    budget = folder / "budget.rego"
    assert "<= input.pool.cap_rdp_micro" in budget.read_text()
    budget.write_text(
        budget.read_text().replace("<= input.pool.cap_rdp_micro", ">= input.pool.cap_rdp_micro")
    )
    done = wardround("rules", "test", folder)
    assert done.code == 3
    assert "FAILED budget_test.rego: test_a_pool_is_never_drawn_over_its_cap" in done.out
    assert "[rules.test-failed]" in done.error
    told = json.loads(wardround("rules", "test", folder, "--json").out)
    assert told["passed"] is False
    assert {"file": "norm_test.rego", "test": "test_a_larger_one_is_not", "passed": True} in told["tests"]


def test_rules_that_are_not_valid_are_named_by_file_and_line(wardround: Command, folder: Path) -> None:
    with (folder / "norm.rego").open("a") as file:
        file.write("\nlate if time.now_ns() > 0\n")
    for command in ("test", "list"):
        done = wardround("rules", command, folder)
        assert done.code == 2
        assert done.error.startswith("[rules.built-in] norm.rego, line 15: time.now_ns")


def test_a_folder_that_is_none_is_an_error(wardround: Command, tmp_path: Path) -> None:
    assert wardround("rules", "test", tmp_path).code == 2
    assert wardround("rules", "list", tmp_path / "none").error.startswith("[rules.none]")


def test_the_list_has_every_code_of_every_decision_with_its_file(wardround: Command) -> None:
    told = json.loads(wardround("rules", "list", "--json").out)
    assert told["digest"] == installed_rules().digest
    sources = read_sources(INSTALLED)
    for decision in DECISIONS:
        listed = [rule["code"] for rule in told["rules"] if rule["decision"] == decision]
        assert tuple(listed) == codes_of(sources, decision) != ()
    assert {rule["file"] for rule in told["rules"]} == sources.keys() - {"decisions.rego", "typed.rego"}
    row = {"decision": "plan", "code": "phase.risk-tier", "rule": "phase.permits_tier", "file": "phase.rego"}
    assert row in told["rules"]


def test_the_table_names_codes_and_files(wardround: Command) -> None:
    done = wardround("rules", "list")
    assert done.code == 0
    assert (
        "budget.pool-cap" in done.out
        and "quarantine.rego" in done.out
        and installed_rules().digest in done.out
    )
