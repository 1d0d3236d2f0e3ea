"""`wardround site report`: what a hospital gains, as its own report has it. Exact figures: they stay at the site.

How they are computed lives in `tasks.own_figures`; the file is the home's report.json.
"""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from ledger.errors import InputError


class NoReportError(InputError):
    code = "site.no-report"


def report(
    *,
    home: Annotated[Path, Parameter(help="The site's home, with its institution.yaml.")],
    json: Annotated[bool, Parameter(help="Print the figures as one JSON object.", negative="")] = False,
) -> None:
    """Compare the federation's model with this site's own, on its own held-out patients. For this hospital alone."""
    from adapters.home import Home, SiteConfig
    from wardround.summary import read_report

    opened = Home(home)
    name = opened.read(SiteConfig).name
    kept = read_report(opened)
    figures = kept.get("figures")
    if not isinstance(figures, dict):
        raise NoReportError(
            f"{name} has compared no models yet",
            remedy="A site compares them after the last round of a plan.",
        )
    alone = kept.get("one_class")
    alike = [str(part) for part in alone] if isinstance(alone, list) else []
    if json:
        told = {"plan_digest": kept.get("plan_digest"), "figures": figures, "one_class": alike}
        sys.stdout.write(f"{json_text.dumps(told)}\n")
        return
    console = Console(highlight=False)
    models = {model: groups for model, groups in figures.items() if isinstance(groups, dict)}
    groups = list(dict.fromkeys(group for by_group in models.values() for group in by_group))
    for group in groups:
        by_model = {model: here for model, one in models.items() if isinstance(here := one.get(group), dict)}
        table = Table(title=f"{name}: {group}")
        table.add_column("figure")
        for model in by_model:
            table.add_column(model.replace("_", " "), justify="right")
        for figure in dict.fromkeys(figure for here in by_model.values() for figure in here):
            values = [here.get(figure) for here in by_model.values()]
            table.add_row(figure.replace("_", " "), *map(_shown, values))
        console.print(table)
    if alike:
        console.print(
            f"[bold]data.one-class[/bold] Patients {' and '.join(alike)} have one label alone: there are no figures "
            "that need both and no calibration head, and a model of this site alone has learned nothing. "
            "Nobody else is told."
        )
    console.print("Exact, of this site's held-out patients: keep them here.")


def _shown(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "–"
