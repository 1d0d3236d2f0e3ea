"""What a hospital sees of its own results, and nobody else does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.home import Home
from tests.wardround.conftest import Command

pytestmark = pytest.mark.xdist_group("wardround-run")


def test_a_site_compares_its_own_model_with_the_federations(run_once: Path, wardround: Command) -> None:
    home = run_once / "sites" / "hospital-a"
    done = wardround("site", "report", "--home", home, "--json")
    figures = json.loads(done.out)["figures"]
    assert {"local_only", "federated"} <= figures.keys()
    for model in ("local_only", "federated"):
        assert {"auc", "accuracy", "sensitivity", "specificity", "brier"} <= figures[model][
            "everybody"
        ].keys()
    shown = wardround("site", "report", "--home", home)
    assert shown.code == 0 and "calibration error" in shown.out and "local only" in shown.out
    assert Home(home).report.stat().st_mode & 0o777 == 0o600


def test_calibration_helps_or_is_not_there_and_leaves_no_trace_elsewhere(run_once: Path) -> None:
    heads = list(run_once.rglob("calibration/*.json"))
    for head in heads:
        assert head.is_relative_to(run_once / "sites") and head.stat().st_mode & 0o777 == 0o600
        offset = str(json.loads(head.read_bytes())["offset"]).encode()
        for file in (*(run_once / "exchange").rglob("*"), *(run_once / "coordinator").rglob("*")):
            assert not file.is_file() or offset not in file.read_bytes(), file


def test_a_site_that_took_no_part_has_nothing_to_show(run_once: Path, wardround: Command) -> None:
    done = wardround("site", "report", "--home", run_once / "sites" / "hospital-d")
    assert done.code == 2 and "site.no-report" in done.error
