"""Plots of noised figures: the same bytes for the same figures, and nothing inside but them."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np

from privacy.decision_curve import decision_curve
from privacy.scores import of_histogram
from tasks.coordinator.plots import course_svg, decision_svg, reliability_svg, roc_svg
from tasks.coordinator.scores import Course

HISTOGRAM = np.array([[40, 25, 10, 5], [3, 12, 20, 45]], np.int64)
COURSE = Course((1, 2, 3), "AUC", (0.7, None, 0.9), (1.5, 1.4, None), (1.0, 1.4, 1.7))
DRAW = """
import sys
from tests.tasks.test_plots import drawn
sys.stdout.buffer.write(drawn())
"""


def drawn() -> bytes:
    figures = of_histogram(HISTOGRAM)
    curve = decision_svg(decision_curve(HISTOGRAM))
    parts = (roc_svg(figures), reliability_svg(figures), curve, course_svg(COURSE))
    return b"".join(part for part in parts if part is not None)


def test_the_same_figures_are_the_same_bytes_in_another_process() -> None:
    """So that whoever draws the ledger's figures again can compare files."""
    environment = {**os.environ, "PYTHONHASHSEED": "7", "DISPLAY": ""}
    again = subprocess.run([sys.executable, "-c", DRAW], env=environment, capture_output=True, check=True)
    assert again.stdout == drawn()


def test_a_plot_is_an_image_without_date_font_or_program() -> None:
    figures = of_histogram(HISTOGRAM)
    curve = decision_svg(decision_curve(HISTOGRAM))
    for svg in (roc_svg(figures), reliability_svg(figures), curve, course_svg(COURSE)):
        assert svg is not None
        assert ElementTree.fromstring(svg).tag.endswith("svg")  # noqa: S314
        assert b"@font-face" not in svg and b"dc:date" not in svg
        assert len(svg) < 60_000


def test_what_is_not_defined_is_not_drawn() -> None:
    nobody = of_histogram(np.zeros((2, 4), np.int64))
    assert roc_svg(nobody) is None and reliability_svg(nobody) is None
    assert decision_svg(()) is None
    assert course_svg(Course((1,), "AUC", (None,), (None,), (1.0,)))
