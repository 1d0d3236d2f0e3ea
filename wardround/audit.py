"""`wardround audit`: does the code that is installed here keep what a plan claims? Measured, without any patient.

The audit itself is `tasks.audit`; here are its options and its words.
"""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from ledger.canonical import JsonValue
from ledger.errors import InputError

if TYPE_CHECKING:
    from tasks.audit import Audit

app = App(name="audit", help="Measure what training gives away, and hold it against what is claimed.")


class AuditOptionError(InputError):
    code = "usage.option"


@app.command
def privacy(
    *,
    plan: Annotated[Path | None, Parameter(help="Whose training to audit. Else the phantom example.")] = None,
    canaries: Annotated[
        int, Parameter(help="Planted patients, 10 to 20,000. More of them show a larger ε.")
    ] = 1000,
    without_noise: Annotated[
        bool,
        Parameter(negative="", help="Leave the noise out, to see that the audit catches it: exit 3."),
    ] = False,
    json: Annotated[bool, Parameter(help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Train once on random images with planted patients, and show how much ε the result gives away at least.

    Exit 0 if that is below what the plan's training claims, 3 if it is above. No patient's data are read. Being
    below proves nothing; being above proves that noise, clipping or sampling is not what the plan says.
    """
    if not 10 <= canaries <= 20_000:
        raise AuditOptionError("--canaries must be 10 to 20000")
    from tasks.audit import audit
    from tasks.planning import read_plan
    from wardround.display import Display
    from wardround.examples import EXAMPLES

    read = read_plan(EXAMPLES / "phantom.yaml" if plan is None else plan)
    with Display():
        found = audit(read, canaries=canaries, with_noise=not without_noise)
    if json:
        sys.stdout.write(json_text.dumps(_json(read.name, found)) + "\n")
    else:
        _show(read.name, found)
    found.require()


def _json(plan: str, found: Audit) -> dict[str, JsonValue]:
    return {
        "plan": plan,
        "ok": not found.exceeded,
        "epsilon_claimed": found.claimed_epsilon_micro / 1_000_000,
        "epsilon_audited": found.bound.epsilon,
        "epsilon_detectable": found.detectable,
        "delta": found.delta,
        "confidence": found.confidence,
        "canaries": found.canaries,
        "guesses": found.bound.guesses,
        "correct": found.bound.correct,
        "noise": found.with_noise,
    }


def _show(plan: str, found: Audit) -> None:
    table = Table(show_header=False)
    table.add_row("plan", plan if found.with_noise else f"{plan}, [bold]its noise left out[/bold]")
    table.add_row(
        "claimed", f"ε={found.claimed_epsilon_micro / 1_000_000:.2f} at δ={found.delta:g} for all training"
    )
    table.add_row(
        "audited", f"ε≥{found.bound.epsilon:.2f} at {found.confidence:.0%} confidence, one training run"
    )
    table.add_row("canaries", f"{found.canaries}, about half of them trained on")
    table.add_row("recognised", f"{found.bound.correct} of {found.bound.guesses} guessed")
    table.add_row("could show", f"ε≥{found.detectable:.2f} if every guess were right")
    verdict = "[bold red]above the claim[/bold red]" if found.exceeded else "[green]below the claim[/green]"
    table.add_row("verdict", verdict)
    Console(highlight=False).print(table)
