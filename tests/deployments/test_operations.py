"""The runbook: every code by which something is refused is in its table, and every command that it gives exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from policies.drift import PERFORMANCE
from policies.rego import INSTALLED
from policies.rego_sources import read_sources
from policies.rego_subset import refusals
from wardround.__main__ import app

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = (ROOT / "docs" / "operations.md").read_text()
WHERE = (
    "adapters/home.py", "adapters/pool_journal.py", "adapters/unsaid.py", "flows/rollout", "policies/drift.py",
    "policies/rollout", "tasks/nightly.py", "tasks/rollout", "tasks/site", "wardround/phase",
    "wardround/quarantine.py", "wardround/site_records.py",
)  # fmt: skip
"""What a night operator meets of code that refuses, beside the rules."""
CODE = re.compile(r"[a-z][a-z0-9-]*(\.[a-z0-9-]+)+")


def table() -> frozenset[str]:
    """The codes of the table's first column."""
    rows = [line.split("|")[1] for line in RUNBOOK.splitlines() if line.startswith("| `")]
    return frozenset(code for row in rows for code in re.findall(r"`([^`]+)`", row))


def raised(path: Path) -> Iterator[str]:
    """Codes that a module gives to errors and violations."""
    for node in ast.walk(ast.parse(path.read_text())):
        found: list[ast.expr] = []
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("Violation", "Error")):
            named = [word.value for word in node.keywords if word.arg == "code"]
            found = named + (node.args[:1] if ast.unparse(node.func).endswith("Violation") else [])
        if isinstance(node, ast.ClassDef):
            found = [
                line.value
                for line in node.body
                if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "code"
            ]
        for value in found:
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.value


def modules() -> Iterator[Path]:
    for place in WHERE:
        path = ROOT / place
        yield from path.rglob("*.py") if path.is_dir() else [path]


def test_every_code_of_the_rules_is_in_the_table() -> None:
    codes = {code for _, code, _, _ in refusals(read_sources(INSTALLED))}
    assert codes and codes <= table(), sorted(codes - table())


def test_every_code_of_the_rollout_and_of_a_night_is_in_the_table() -> None:
    codes = {code for path in modules() for code in raised(path) if CODE.fullmatch(code)}
    assert len(codes) > 50 and codes <= table(), sorted(codes - table())


def test_every_code_of_quarantine_is_in_the_table() -> None:
    codes = {code for code in raised(ROOT / "policies" / "membership.py") if code.startswith("quarantine.")}
    assert len(codes) > 5 and codes | {PERFORMANCE} <= table(), sorted(codes - table())


def test_no_code_is_in_the_table_twice() -> None:
    rows = [line.split("|")[1] for line in RUNBOOK.splitlines() if line.startswith("| `")]
    codes = [code for row in rows for code in re.findall(r"`([^`]+)`", row)]
    assert len(codes) == len(set(codes)), sorted({code for code in codes if codes.count(code) > 1})


@pytest.mark.parametrize("command", sorted(set(re.findall(r"wardround ((?:[a-z-]+ ?)+)", RUNBOOK))))
def test_every_command_of_the_runbook_exists(command: str) -> None:
    place = app
    for word in command.split():
        if word not in place:
            break  # an argument, or what there is no such command of
        place = place[word]
    assert all(name.startswith("-") for name in place), command
