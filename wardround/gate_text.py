"""The gate's verdict for people, as text, and for scripts, as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ledger.canonical import JsonValue
from ledger.listing import plain
from policies.forecast import PLAN, PoolOutlook
from policies.gates import epsilon_text
from privacy.accounting import MICRO

if TYPE_CHECKING:
    from wardround.gate_case import Case

_COLUMNS = 118


def text(cases: Sequence[Case], notes: Sequence[str], *, width: int | None = None) -> str:
    """Per plan: the verdict, every reason, the pools; then what all of it rests on."""
    out = StringIO()
    console = Console(file=out, highlight=False, markup=False, width=width or _COLUMNS)
    for case in cases:
        verdict = "ADMITTED" if case.admitted else "REFUSED" if case.error is None else "UNREADABLE"
        named = "" if case.judgement is None else f", plan {case.judgement.plan.name}"
        console.print(f"{verdict}  {plain(str(case.path))}{named}", soft_wrap=True)
        for site, item in case.findings:
            where = f"{site}: " if site != PLAN else ""
            console.print(f"  {where}{plain(item.message)} ({item.code})", soft_wrap=True)
        if case.judgement is not None:
            if case.judgement.pools:
                console.print(_pools(case.judgement.pools))
            if case.judgement.runs_left is not None:
                console.print(
                    f"  runs of this plan that fit into every pool: {case.judgement.runs_left}",
                    soft_wrap=True,
                )
            for note in case.judgement.notes:
                console.print(f"  note: {plain(note)}", soft_wrap=True)
    for note in notes:
        console.print(f"note: {plain(note)}", soft_wrap=True)
    return out.getvalue()


def json_object(cases: Sequence[Case], notes: Sequence[str], *, exit_code: int) -> str:
    """{admitted, exit_code, notes[], plans[]}: epsilon in units, as everywhere in the command line's JSON."""
    value: dict[str, JsonValue] = {
        "admitted": all(case.admitted for case in cases),
        "exit_code": exit_code,
        "notes": list(notes),
        "plans": [_case(case) for case in cases],
    }
    return f"{json.dumps(value)}\n"


def _case(case: Case) -> JsonValue:
    judgement = case.judgement
    return {
        "file": str(case.path),
        "readable": judgement is not None,
        "admitted": case.admitted,
        "plan": None if judgement is None else judgement.plan.name,
        "digest": None if judgement is None else judgement.plan_digest,
        "violations": [
            {
                "code": item.code,
                "message": item.message,
                "site": site if site != PLAN else None,
                "line": case.line(item),
            }
            for site, item in case.findings
        ],
        "pools": [] if judgement is None else [_pool(pool) for pool in judgement.pools],
        "runs_left": None if judgement is None else judgement.runs_left,
        "notes": [] if judgement is None else list(judgement.notes),
    }


def _pool(pool: PoolOutlook) -> JsonValue:
    return {
        "site": pool.site,
        "epsilon_spent": pool.spent_micro / MICRO,
        "epsilon_with_plan": pool.with_plan_micro / MICRO,
        "epsilon_cap": pool.cap_micro / MICRO,
        "delta": pool.delta,
        "runs_left": pool.runs_left,
    }


def _pools(pools: Sequence[PoolOutlook]) -> Table:
    table = Table()
    table.add_column("site", overflow="fold")
    for heading in ("ε spent", "with this plan", "cap", "δ", "runs after it"):
        table.add_column(heading, justify="right")
    for pool in pools:
        table.add_row(
            pool.site,
            epsilon_text(pool.spent_micro),
            epsilon_text(pool.with_plan_micro),
            f"{pool.cap_micro / MICRO:g}",
            f"{pool.delta:g}",
            "-" if pool.runs_left is None else str(pool.runs_left),
        )
    return table
