"""Plots of a round as SVG: ROC curve, reliability diagram, decision curve, and how the plan went by round.

Drawn from the released, noised histograms and other figures of the ledger alone (`tasks.coordinator.scores`), never
from a patient's score. The same figures are the same bytes: no date, no random names, no font inside, no display.
Matplotlib is slow to import, so only where it draws. Where the files go is `record`'s.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from privacy.decision_curve import NetBenefit
from privacy.scores import ScoreFigures
from tasks.coordinator.scores import Course

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE_INCHES = (4.2, 4.0)
_WIDE_INCHES = (6.4, 7.2)
_INK, _PALE = "#1f4e79", "#9a9a9a"
_NOISED = "federated held-out patients, noised"


def roc_svg(figures: ScoreFigures) -> bytes | None:
    """None where the curve is not defined."""
    if not figures.roc or figures.auc is None:
        return None
    drawing, axes = _square("1 − specificity", "sensitivity")
    axes.plot([0, 1], [0, 1], color=_PALE, linewidth=1, linestyle="dashed")
    axes.plot(*zip(*figures.roc, strict=True), color=_INK, linewidth=1.8, marker="o", markersize=2.5)
    axes.set_title(f"ROC, AUC {figures.auc:.3f}\n{_NOISED}", fontsize=9)
    return svg_bytes(drawing)


def reliability_svg(figures: ScoreFigures) -> bytes | None:
    """None where nobody was counted."""
    if not figures.reliability or figures.calibration_error is None:
        return None
    drawing, axes = _square("mean score", "share with the finding")
    axes.plot([0, 1], [0, 1], color=_PALE, linewidth=1, linestyle="dashed")
    axes.scatter(
        [group.mean_score for group in figures.reliability],
        [group.observed for group in figures.reliability],
        s=[20 + 380 * group.weight for group in figures.reliability],
        color=_INK,
        alpha=0.75,
    )
    axes.set_title(
        f"reliability, expected calibration error {figures.calibration_error:.3f}\n{_NOISED}", fontsize=9
    )
    return svg_bytes(drawing)


def decision_svg(curve: Sequence[NetBenefit]) -> bytes | None:
    """Net benefit against the threshold at which one would treat; None where it is not defined."""
    if not curve:
        return None
    drawing, axes = _square("threshold", "net benefit")
    thresholds = [point.threshold for point in curve]
    axes.axhline(0.0, color=_PALE, linewidth=1, label="treat nobody")
    axes.plot(
        thresholds,
        [point.treat_all for point in curve],
        color=_PALE,
        linewidth=1,
        linestyle="dashed",
        label="treat everybody",
    )
    axes.plot(
        thresholds, [point.model for point in curve], color=_INK, marker="o", markersize=2.5, label="model"
    )
    most = max(point.model for point in curve)
    axes.set_ylim(-0.1, max(0.1, 1.1 * most))
    axes.legend(fontsize=8)
    axes.set_title(f"decision curve\n{_NOISED}", fontsize=9)
    return svg_bytes(drawing)


def course_svg(course: Course) -> bytes:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    drawing = Figure(figsize=_WIDE_INCHES)
    drawing.subplots_adjust(left=0.12, right=0.97, top=0.98, bottom=0.08)
    rows: tuple[tuple[str, Sequence[float | None]], ...] = (
        (f"{course.figure_name}, noised", course.figure),
        ("L2 norm of the sum", course.norm_l2),
        ("ε of the plan so far", course.epsilon),
    )
    for number, (label, values) in enumerate(rows, start=1):
        axes = drawing.add_subplot(len(rows), 1, number)
        known = [
            (x, float(value)) for x, value in zip(course.rounds, values, strict=True) if value is not None
        ]
        if known:
            axes.plot(*zip(*known, strict=True), color=_INK, marker="o", markersize=3.5)
        axes.set_ylabel(label, fontsize=9)
        axes.set_xlim(course.rounds[0] - 0.5, course.rounds[-1] + 0.5)
        axes.grid(color="#e4e4e4")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if number == len(rows):
            axes.set_xlabel("round", fontsize=9)
    return svg_bytes(drawing)


def _square(across: str, up: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    drawing = Figure(figsize=_SIZE_INCHES)
    drawing.subplots_adjust(left=0.14, right=0.97, top=0.88, bottom=0.12)
    axes = drawing.add_subplot()
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(across, fontsize=9)
    axes.set_ylabel(up, fontsize=9)
    axes.grid(color="#e4e4e4")
    return drawing, axes


def svg_bytes(drawing: Figure) -> bytes:
    """The drawing as SVG: no date, no random names, no font inside."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stored = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "wardround", "svg.fonttype": "none"}):
        FigureCanvasSVG(drawing)
        drawing.savefig(stored, format="svg", metadata={"Date": None, "Creator": None})
    return stored.getvalue()
