"""`wardround gate`: would these plans be admitted? Decided without data, for a build to stop on.

Exit 0: all are admitted; 3: one is refused, with every reason; 2: one cannot be read as a plan. Judging is
`policies.build_gate`'s, the ledger `wardround.gate_ledger`'s, the formats `gate_text`, `gate_junit` and `gate_sarif`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ledger.errors import InputError, PolicyViolation, Violation
from ledger.listing import plain
from wardround.ledger.sources import Serving

if TYPE_CHECKING:
    from policies.build_gate import Running
    from wardround.gate_case import Case
    from wardround.gate_ledger import FoldedLedger

Format = Literal["text", "json", "junit", "sarif"]


class GateOptionError(InputError):
    code = "usage.option"


class GateReportError(InputError):
    code = "gate.report"


def gate(
    plans: Annotated[list[Path], Parameter(help="The plans, as YAML.", negative="")],
    /,
    *,
    ledger: Annotated[
        str | None, Parameter(help="The federation's ledger: a folder, an archive, a database or a URL.")
    ] = None,
    policy: Annotated[
        Path | None, Parameter(help="A folder of Rego rules to judge by, instead of the installed ones.")
    ] = None,
    format: Annotated[Format, Parameter(help="How to say it.")] = "text",
    out: Annotated[
        Path | None, Parameter(help="Write the report here, over an earlier one, instead of to stdout.")
    ] = None,
    edition: Annotated[
        str | None,
        Parameter(help='Judge the plans as this edition; "date" as a nightly run would write it.'),
    ] = None,
    vkey: Annotated[
        str | None, Parameter(help="The log's verifier key. Else the one beside the ledger is trusted.")
    ] = None,
    witness_policy: Annotated[
        Path | None,
        Parameter(help="A tlog-policy file: whose cosignatures count, instead of the ledger's own."),
    ] = None,
    serving: Serving | None = None,
) -> None:
    """Decide, without data, whether plans would be admitted. Exit 0 if all are, 3 if not, 2 for bad input.

    Without --ledger each plan is judged by itself: no budget, consent, phase or approval is looked at.
    """
    from adapters.clock import SystemClock

    if not plans:
        raise GateOptionError("no plan is named", remedy="Name one or more plan files.")
    if ledger is None and (vkey is not None or witness_policy is not None):
        raise GateOptionError(
            "--vkey and --witness-policy say how to trust a ledger", remedy="Give --ledger."
        )
    running = _running(policy)
    folded = None if ledger is None else _ledger(ledger, vkey, witness_policy, serving)
    now_s = SystemClock().now_s()
    cases = [_case(path, edition, running, folded, now_s) for path in plans]
    unreadable = [case for case in cases if case.error is not None]
    exit_code = 2 if unreadable else 0 if all(case.admitted for case in cases) else 3
    notes = () if folded is None else folded.notes
    _write(_report(format, cases, notes, exit_code, policy, ledger is not None), out)
    _refuse(cases, unreadable)


def _refuse(cases: list[Case], unreadable: list[Case]) -> None:
    """Raise with everything that was found, each reason under its file where there are several."""

    def named(case: Case, message: str) -> str:
        # A plan comes from a pull request: the names of its wrong fields may hold what moves a terminal's cursor.
        return plain(message if len(cases) == 1 else f"{case.path}: {message}")

    if unreadable:
        errors = [(case, case.error) for case in unreadable if case.error is not None]
        raise InputError(
            "; ".join(named(case, error.public_message) for case, error in errors),
            remedy=errors[0][1].remedy,
            code=errors[0][1].code,
        )
    found = [Violation(item.code, named(case, item.message)) for case in cases for _, item in case.findings]
    if found:
        raise PolicyViolation(found)


def _running(folder: Path | None) -> Running:
    from policies.build_gate import Running

    return Running.installed() if folder is None else Running.with_rules(folder)


def _ledger(
    where: str, vkey: str | None, witness_policy: Path | None, serving: Serving | None
) -> FoldedLedger:
    from wardround.gate_ledger import fold_ledger

    return fold_ledger(where, vkey=vkey, witness_policy=witness_policy, serving=serving)


def _case(path: Path, edition: str | None, running: Running, folded: FoldedLedger | None, now_s: int) -> Case:
    from policies.build_gate import judge
    from tasks.planning import read_plan
    from wardround.gate_case import Case

    try:
        plan = read_plan(path, edition=edition)
    except InputError as error:
        return Case(path, None, error, _text(path))
    judgement = judge(plan, running, None if folded is None else folded.state, now_s=now_s)
    return Case(path, judgement, None, _text(path))


def _text(path: Path) -> str:
    """For the lines of its fields; nothing if it is no text."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _report(
    chosen: Format,
    cases: Sequence[Case],
    notes: Sequence[str],
    exit_code: int,
    policy: Path | None,
    with_ledger: bool,
) -> str:
    if chosen == "json":
        from wardround.gate_text import json_object

        return json_object(cases, notes, exit_code=exit_code)
    if chosen == "sarif":
        from wardround.gate_sarif import sarif

        return sarif(cases, notes, exit_code=exit_code)
    if chosen == "junit":
        from policies.build_gate import OWN_CODES, codes_of
        from policies.rego import INSTALLED
        from policies.rego_sources import read_sources
        from wardround.gate_junit import junit

        sources = read_sources(policy or INSTALLED)
        own = OWN_CODES if with_ledger else OWN_CODES[:1]
        plan_codes, site_codes = (*codes_of(sources, "plan"), *own), codes_of(sources, "member")
        return junit(cases, notes, plan_codes=plan_codes, site_codes=site_codes)
    from wardround.gate_text import text

    return text(cases, notes)


def _write(report: str, out: Path | None) -> None:
    if out is None:
        sys.stdout.write(report)
        return
    try:
        out.write_text(report, encoding="utf-8")
    except OSError as error:
        raise GateReportError(
            f"cannot write {out}: {os.strerror(error.errno or 0)}", remedy="Choose another --out."
        ) from None
