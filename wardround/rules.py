"""`wardround rules`: what the rules refuse, and whether their own tests pass.

The rules themselves are `policies/rules`; how a compliance officer changes them is in docs/rules.md.
"""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

app = App(name="rules", help="Read and test the rules by which plans, sites, reports and models are judged.")


@app.command
def test(
    folder: Path | None = None,
    /,
    *,
    json: Annotated[bool, Parameter(help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Check the rules and run their tests (`*_test.rego`). Exit 3 if a test fails, 2 if the rules are not valid.

    Parameters
    ----------
    folder
        A folder of rules; by default the installed ones.
    """
    from ledger.errors import PolicyViolation, Violation
    from policies.rego_tests import run_tests

    results = run_tests(folder)
    failed = [result for result in results if not result.passed]
    if json:
        listed = [{"file": each.file, "test": each.name, "passed": each.passed} for each in results]
        sys.stdout.write(f"{json_text.dumps({'tests': listed, 'passed': not failed})}\n")
    else:
        for each in failed:
            sys.stdout.write(f"FAILED {each.file}: {each.name}\n")
        files = len({each.file for each in results})
        sys.stdout.write(f"{len(results) - len(failed)} of {len(results)} tests passed, in {files} files\n")
    if failed:
        names = ", ".join(f"{each.file}: {each.name}" for each in failed)
        raise PolicyViolation([Violation("rules.test-failed", f"these tests of rules fail: {names}")])


@app.command(name="list")
def list_rules(
    folder: Path | None = None,
    /,
    *,
    json: Annotated[bool, Parameter(help="Print one JSON array instead of a table.")] = False,
) -> None:
    """List every decision with the codes by which it refuses, and the file that says when.

    Parameters
    ----------
    folder
        A folder of rules; by default the installed ones.
    """
    from policies.rego import INSTALLED, Rules
    from policies.rego_sources import read_sources
    from policies.rego_subset import refusals

    folder = INSTALLED if folder is None else folder
    digest = Rules.load(folder).digest
    rows = refusals(read_sources(folder))
    if json:
        listed = [
            {"decision": one, "code": code, "rule": rule, "file": file} for one, code, rule, file in rows
        ]
        sys.stdout.write(f"{json_text.dumps({'digest': digest, 'rules': listed})}\n")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for heading in ("decision", "code", "rule that must hold", "file"):
        table.add_column(heading, overflow="fold")
    before = ""
    for decision, code, rule, file in rows:
        if before not in ("", decision):
            table.add_section()
        table.add_row("" if decision == before else decision, code, rule, file)
        before = decision
    console = Console(highlight=False)
    console.print(table)
    console.print(f"digest of these rules: {digest}", soft_wrap=True)
