"""`wardround plan sweep`: what a plan's ε, clip and rounds are worth, on data made up from its contract."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from ledger.errors import InputError
from tasks import progress
from tasks.planning import read_plan
from tasks.progress import Progress


class SweepOptionError(InputError):
    code = "usage.option"


def sweep(
    plan: Path,
    /,
    *,
    out: Annotated[Path, Parameter(help="A folder for sweep.csv and sweep.svg.")],
    epsilon: Annotated[
        list[float] | None,
        Parameter(help="What the plan may cost in all; once each. Else 1, 2, 4 and 8.", negative_iterable=()),
    ] = None,
) -> None:
    """Train the plan's network over a grid of ε, clip and rounds, on synthetic data: nothing is read or charged.

    Parameters
    ----------
    plan
        The plan, as YAML.
    """
    wanted = read_plan(plan)
    if out.exists() and not out.is_dir():
        raise SweepOptionError(f"--out {out} is not a folder")
    from tasks.rollout.sweep import CSV, EPSILONS, SVG
    from tasks.rollout.sweep import sweep as swept
    from tasks.rollout.sweep_plot import SAID
    from wardround.display import Display

    given = EPSILONS if epsilon is None else tuple(epsilon)
    if not all(0 < one <= 1e6 for one in given) or not given:
        raise SweepOptionError("--epsilon must be a positive number")
    with Display():
        points = swept(
            wanted, out, epsilons=given,
            on_point=lambda done, total: progress.tell(Progress("sweep", "train", 0, done, total)),
        )  # fmt: skip
    best = max(points, key=lambda point: point.figure)
    table = Table(title=f"{wanted.name}, δ = {wanted.budget.delta:g}", title_justify="left")
    for heading in ("ε", "clip", "rounds", "noise", "evaluation noise", wanted.figure, "lowest to highest"):
        table.add_column(heading)
    for point in points:
        shown = f"{point.figure:.3f}"
        table.add_row(
            f"{point.epsilon:g}", f"{point.clip_l2:g}", str(point.rounds), f"{point.noise_multiplier:g}",
            f"{point.evaluation_noise_std:g}", f"[bold]{shown}[/bold]" if point is best else shown,
            f"{min(point.figures):.3f} to {max(point.figures):.3f}",
        )  # fmt: skip
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{SAID[0].upper()}{SAID[1:]}.", soft_wrap=True)
    console.print(f"Written to {out / CSV} and {out / SVG}", soft_wrap=True)
