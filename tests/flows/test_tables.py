"""A plan over tables: the same flows, hospitals with words of their own, one of them with a single label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapters.home import FeatureLayout, SourceConfig
from policies.plan import Plan
from tests.consortium import SITES, Consortium, tiny_plan

FAMILIES = ("LogisticRegression",)
HEADER = "patient_id,age,sex,ill"
TABLE = {
    "features": [
        {"kind": "number", "name": "age", "lower": 20, "upper": 100},
        {"kind": "word", "name": "sex", "categories": ["female", "male"]},
    ],
    "label": "ill",
}


def table_plan(**fields: object) -> Plan:
    data = {"table": TABLE, "labels": [0, 1], "minimum_patients": 20, "held_out_fraction": 0.4}
    return tiny_plan(data=data, network={"name": "LogisticRegression"}, **fields)


def write_tables(root: Path, *, patients: dict[str, int] | None = None) -> dict[str, SourceConfig]:
    """Two visits a patient; who is old is ill, but at the last hospital everybody is. The first one writes German."""
    sources = {}
    for number, name in enumerate(SITES):
        random = np.random.default_rng(number)
        german, sick = number == 0, number == len(SITES) - 1
        rows = ["Fall,Alter,sex,krank" if german else HEADER]
        for patient in range((patients or {}).get(name, 100)):
            age = int(random.integers(20, 100))
            ill = sick or age + random.normal(0, 10) > 60
            label = ("ja" if ill else "nein") if german else str(int(ill))
            for visit in range(2):
                rows.append(
                    f"INVENTED-{number}-{patient},{age + visit},{'female' if patient % 2 else 'male'},{label}"
                )
        path = root / "data" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(rows) + "\n")
        layout = FeatureLayout(
            patient_column="Fall",
            columns={"age": "Alter", "ill": "krank"},
            words={"ill": {"ja": "1", "nein": "0"}},
        )
        sources[name] = SourceConfig(kind="table", path=str(path), table=layout if german else None)
    return sources


@pytest.mark.parametrize("subgroups", ["sex", "age"])
async def test_a_round_over_tables_is_judged_and_registered(tmp_path: Path, subgroups: str) -> None:
    consortium = Consortium.found(tmp_path, data=write_tables(tmp_path), families=FAMILIES)
    training = {
        "sampling_rate": 1.0, "steps": 10, "noise_multiplier": 4.0, "clip_l2": 1.0, "learning_rate": 1.0,
        "nominal_batch_patients": 60.0,
    }  # fmt: skip
    plan = table_plan(training=training, evaluation={"bins": 4, "noise_std": 3.0, "subgroups": subgroups})
    outcome = await consortium.run(plan)
    assert not outcome.errors
    key = (plan.content_digest(), 1)
    assert key in outcome.state.registered and consortium.registered_versions() == 1
    assert not outcome.missing(plan, 1)
    # Whoever is old is ill, so that only the first of the groups by age is sure to have an AUC.
    evaluated = outcome.state.evaluated[key]
    assert len(evaluated.subgroup_auc_micro) == 2 and evaluated.subgroup_auc_micro[0] is not None


async def test_a_hospital_with_three_patients_does_not_take_part_and_says_no_number(tmp_path: Path) -> None:
    consortium = Consortium.found(
        tmp_path, data=write_tables(tmp_path, patients={"hospital-b": 3}), families=FAMILIES
    )
    plan = table_plan()
    outcome = await consortium.run(plan, leave=True)
    assert outcome.missing(plan, 1) == {"hospital-b": "site.withheld"}
    assert (plan.content_digest(), 1) in outcome.state.registered
    assert "contract.minimum-patients" in consortium.site_log("hospital-b")
