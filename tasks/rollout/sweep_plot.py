"""The plot of a sweep (`tasks.rollout.sweep`) as SVG: one panel a number of rounds, one line a clip, over ε."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from policies.plan import Plan
from tasks.coordinator.plots import svg_bytes

if TYPE_CHECKING:
    from tasks.rollout.sweep import Point

_HEIGHT_INCHES, _PANEL_INCHES = 4.0, 3.2
_COLOURS: Final = ("#9ecae1", "#1f4e79", "#d08770", "#6b8f71", "#7a5195")
SAID: Final = "synthetic stand-in data: compare points with each other, with nothing else"


def sweep_svg(plan: Plan, points: Sequence[Point]) -> bytes:
    """The same points are the same bytes."""
    from matplotlib.figure import Figure

    rounds = sorted({point.rounds for point in points})
    drawing = Figure(figsize=(_PANEL_INCHES * len(rounds) + 0.8, _HEIGHT_INCHES))
    drawing.subplots_adjust(left=0.08, right=0.98, top=0.82, bottom=0.14, wspace=0.08)
    low = min(min(point.figures) for point in points)
    high = max(max(point.figures) for point in points)
    for place, number in enumerate(rounds, start=1):
        axes = drawing.add_subplot(1, len(rounds), place)
        here = [point for point in points if point.rounds == number]
        for at, clip in enumerate(sorted({point.clip_l2 for point in here})):
            line = sorted((point for point in here if point.clip_l2 == clip), key=lambda one: one.epsilon)
            places = [point.epsilon for point in line]
            colour = _COLOURS[at % len(_COLOURS)]
            axes.fill_between(
                places,
                [min(point.figures) for point in line],
                [max(point.figures) for point in line],
                color=colour, alpha=0.15, linewidth=0,
            )  # fmt: skip
            axes.plot(
                places, [point.figure for point in line],
                color=colour, marker="o", markersize=3.5, label=f"clip {clip:g}",
            )  # fmt: skip
        axes.set_xscale("log")
        ticks = sorted({point.epsilon for point in points})
        axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_ylim(low - 0.02, high + 0.02)
        axes.set_xlabel("ε of the plan", fontsize=9)
        axes.set_title(f"{number} round{'s' if number > 1 else ''}", fontsize=9)
        axes.grid(color="#e4e4e4")
        if place == 1:
            axes.set_ylabel(plan.figure, fontsize=9)
            axes.legend(fontsize=8, frameon=False)
        else:
            axes.tick_params(labelleft=False)
    drawing.suptitle(f"{plan.name}, δ = {plan.budget.delta:g}\n{SAID}", fontsize=9)
    return svg_bytes(drawing)
