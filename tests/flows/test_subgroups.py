"""A plan that asks for subgroups gets an AUC for each from the same noised sum, at the same cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policies.cost import round_cost
from tests.consortium import SITES, Consortium
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-3")


async def test_every_subgroup_has_its_figure_and_costs_nothing_more(tmp_path: Path) -> None:
    consortium = Consortium.found(tmp_path)
    for name in SITES:
        path = tmp_path / "data" / f"{name}.npz"
        with np.load(path) as shard:
            arrays = dict(shard)
        arrays["sexes"] = np.array(["F", "M", "F", "M", ""] * 40)
        np.savez(path, **arrays)
    told_apart = tiny_plan(
        evaluation={"bins": 4, "noise_std": 1.0, "subgroups": "sex"},
        gates={"minimum_auc": 0.0, "maximum_subgroup_gap": 1.0},
    )
    together = tiny_plan(evaluation={"bins": 4, "noise_std": 1.0})
    assert round_cost(told_apart, 1) == round_cost(together, 1)
    outcome = await consortium.run(told_apart)
    assert outcome.errors == {}
    evaluated = outcome.state.evaluated[told_apart.content_digest(), 1]
    assert len(evaluated.histogram) == 3 * 2 * 4
    assert len(evaluated.subgroup_auc_micro) == 2 and None not in evaluated.subgroup_auc_micro
    # The groups add up to the patients that the whole says there are, but for noise.
    assert sum(evaluated.histogram) == pytest.approx(4 * 100, abs=120)
    assert consortium.registered_versions() == 1
