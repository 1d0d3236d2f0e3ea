"""A task's table in Markdown, and its place in the page: between two comments that bear the task's name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from tests.benchmarks.learning.study import Figures, Task


def table(task: Task, found: Mapping[str, Sequence[tuple[Figures, float]]], *, seeds: int) -> str:
    """Mean ± standard deviation over seeds, and the seconds of one run."""
    lines = [
        f"**{task.title}**, {seeds} seeds, mean ± standard deviation.",
        "",
        "| "
        + " | ".join(["", "ε", "noise multiplier", "steps", *task.figures, "aim", "seconds a run"])
        + " |",
        "|" + "---|" * (6 + len(task.figures)),
    ]
    for case in task.cases():
        runs = found[case.label]
        epsilon, training = case.epsilon(), case.plan.training
        cells = [
            case.label,
            "none" if epsilon is None else f"{epsilon:.2f}",
            "none" if epsilon is None else f"{training.noise_multiplier:g}",
            f"{case.plan.rounds} rounds x {training.steps}",
            *(_spread([figures[name] for figures, _ in runs]) for name in task.figures),
            case.aim,
            f"{np.mean([seconds for _, seconds in runs]):.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", task.words]).rstrip() + "\n"


def _spread(values: Sequence[float]) -> str:
    deviation = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{deviation}"


def written(page: str, name: str, text: str) -> str:
    """The page with `text` in the place of that name; at the end of a page without one."""
    begin, end = f"<!-- learning: {name} -->", f"<!-- end of learning: {name} -->"
    block = f"{begin}\n{text}{end}\n"
    place = re.compile(re.escape(begin) + r"\n.*?" + re.escape(end) + r"\n", re.DOTALL)
    if place.search(page):
        return place.sub(lambda _: block, page)
    return page.rstrip("\n") + "\n\n" + block
