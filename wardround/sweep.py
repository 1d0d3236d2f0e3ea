"""`wardround plan sweep` and `pick`: what a plan's ε, clip and rounds are worth, and the plan at the point chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from tasks import progress
from tasks.planning import read_plan
from tasks.progress import Progress
from wardround.plan_file import PlanOptionError, write_new


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
        raise PlanOptionError(f"--out {out} is not a folder")
    from tasks.rollout.sweep import CSV, EPSILONS, SVG
    from tasks.rollout.sweep import sweep as swept
    from tasks.rollout.sweep_plot import SAID
    from wardround.display import Display

    given = EPSILONS if epsilon is None else tuple(epsilon)
    if not all(0 < one <= 1e6 for one in given) or not given:
        raise PlanOptionError("--epsilon must be a positive number")
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
    console.print(
        f"Then: wardround plan pick {plan} --epsilon E --clip C --rounds R --out NEW.yaml", soft_wrap=True
    )


def pick(
    plan: Path,
    /,
    *,
    epsilon: Annotated[float, Parameter(help="What the plan may cost in all, which becomes its cap.")],
    clip: Annotated[float, Parameter(help="L2 clip of a patient's gradient.")],
    rounds: Annotated[int, Parameter(help="Rounds of the plan.")],
    out: Annotated[Path, Parameter(help="The file to write; never an existing one.")],
) -> None:
    """Write the plan at a point of its sweep, with the noise that it takes; stewards pick it by approving that plan.

    Parameters
    ----------
    plan
        The plan that was swept, as YAML.
    """
    from tasks.rollout.operating_point import at_point

    if not 0 < epsilon <= 1e6 or not clip > 0:
        raise PlanOptionError("--epsilon and --clip must be positive numbers")
    made = at_point(read_plan(plan), rounds=rounds, clip_l2=clip, epsilon=epsilon)
    told = (
        f"ε ≤ {epsilon:g}, clip {clip:g}, {rounds} rounds: training noise {made.training.noise_multiplier:g}, "
        f"evaluation noise {made.evaluation.noise_std:g}"
    )
    text = yaml.safe_dump(made.to_json(), sort_keys=False, allow_unicode=True)
    write_new(out, f"# {made.name} as `wardround plan pick` wrote it, at {told}.\n{text}")
    console = Console(highlight=False)
    console.print(f"{out}: {told}", soft_wrap=True)
    console.print(f"Check it with: wardround plan validate {out}", soft_wrap=True)
