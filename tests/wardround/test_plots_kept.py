"""What MLflow holds of a run besides its model: figures and plots that a stranger redraws from the ledger."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from adapters.home import Home
from adapters.institution_log import read_state
from policies.events import PlanPublished
from tasks.coordinator.plots import course_svg, reliability_svg, roc_svg
from tasks.coordinator.scores import course, round_metrics, score_figures
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("wardround-run")


def test_every_figure_and_plot_follows_from_the_ledger(run_once: Path) -> None:
    home = run_once / "coordinator"
    state = read_state(Home(home))[0]
    published = state.plans[tiny_plan().content_digest()]
    assert isinstance(published, PlanPublished)
    with sqlite3.connect(home / "mlflow.db") as store:
        kept = dict(store.execute("SELECT key, value FROM metrics WHERE step = 1"))
    expected = round_metrics(state, published, 1)
    assert {"accuracy_federated", "brier_federated", "calibration_error_federated"} <= expected.keys()
    assert {name: kept[name] for name in expected} == pytest.approx(expected)

    figures = score_figures(state, published, 1)
    assert figures is not None
    plots = {file.name: file.read_bytes() for file in (home / "artifacts").rglob("*.svg")}
    assert plots["roc.svg"] == roc_svg(figures)
    assert plots["reliability.svg"] == reliability_svg(figures)
    assert plots["rounds.svg"] == course_svg(course(state, published, 1))
