"""A plan that learns masks of volumes: the same flows, judged by Dice, and what a hospital is told of itself."""

from __future__ import annotations

import json
from pathlib import Path

from adapters.home import Home, SourceConfig
from adapters.sources.volume_phantoms import write_volume_phantoms
from policies.cost import plan_cost
from policies.plan import Plan
from tests.consortium import SITES, Consortium, tiny_plan
from wardround.summary import Summary


def mask_plan(**fields: object) -> Plan:
    return tiny_plan(
        data={
            "image": {"depth_px": 8, "height_px": 8, "width_px": 8, "modalities": ["CT"]},
            "target": "mask",
            "labels": [0, 1],
            "minimum_patients": 5,
            "held_out_fraction": 0.4,
        },
        network={"name": "UNet", "channels": [2, 4], "strides": [2], "norm_groups": 2},
        gates={"minimum_dice": 0.0},
        **fields,
    )


async def test_masks_of_volumes_are_learned_judged_and_registered(tmp_path: Path) -> None:
    write_volume_phantoms(tmp_path / "volumes", sites=SITES, seed=0, patients_per_site=60)
    sources = {site: SourceConfig(kind="nifti", path=str(tmp_path / "volumes" / site)) for site in SITES}
    consortium = Consortium.found(tmp_path, data=sources, families=("UNet",))
    plan = mask_plan(evaluation={"bins": 4, "noise_std": 2.0})
    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    assert not outcome.missing(plan, 1)
    key = (plan.content_digest(), 1)
    assert key in outcome.state.registered
    recorded = outcome.state.evaluated[key]
    assert recorded.auc_micro is None and recorded.dice_micro is not None
    assert outcome.state.spent_by(SITES[0]) == plan_cost(plan)
    own = json.loads(Home(consortium.founded.sites[SITES[0]]).report.read_text())
    assert "dice" in json.dumps(own)
    # What `wardround demo` prints of it.
    summary = Summary.read(tmp_path, plan.content_digest(), seconds=1.0)
    assert summary.round_table().columns[1].header == "Dice federated, noised"
    shown = {table.title: [[*column.cells] for column in table.columns] for table in summary.tables()}
    federated = recorded.dice_micro / 1e6
    assert shown["Rounds"][1] == [f"{federated:.3f}"]
    assert shown["Sites"][-1][0] == f"{own['figures']['federated']['everybody']['dice']:.3f}"


async def test_a_gate_on_dice_fails_the_run(tmp_path: Path) -> None:
    write_volume_phantoms(tmp_path / "volumes", sites=SITES, seed=1, patients_per_site=60)
    sources = {site: SourceConfig(kind="nifti", path=str(tmp_path / "volumes" / site)) for site in SITES}
    consortium = Consortium.found(tmp_path, data=sources, families=("UNet",))
    plan = Plan.from_value(
        {**mask_plan(evaluation={"bins": 4, "noise_std": 2.0}).to_json(), "gates": {"minimum_dice": 0.99}},
        what="plan",
    )
    outcome = await consortium.run(plan)
    assert "coordinator" in outcome.errors and "0.99" in str(outcome.errors["coordinator"])
    assert (plan.content_digest(), 1) not in outcome.state.registered
