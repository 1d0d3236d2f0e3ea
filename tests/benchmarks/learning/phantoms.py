"""Segmentation of synthetic volumes of four scanners: Dice on volumes of no site."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from adapters.sources.volume_phantoms import write_volume_phantoms
from adapters.sources.volumes import NiftiSource
from ledger.canonical import JsonValue
from policies.plan import Plan
from tasks.planning import read_plan
from tasks.score import score
from tasks.train import networks
from tasks.train.examples import Examples
from tasks.train.weights import Weights
from tests.benchmarks.learning.federation import calibrated, derived
from tests.benchmarks.learning.study import Case, Data, Figures, Task

ROOT: Final = Path(__file__).parents[3]
PLAN: Final = ROOT / "deployments" / "examples" / "phantom-volumes.yaml"
SITES: Final = ("site-a", "site-b", "site-c", "site-d")
PUBLIC_TEST: Final = "public-test"
NOT_PRIVATE: Final[dict[str, JsonValue]] = {"learning_rate": 1.0, "sampling_rate": 0.2, "steps": 10}
NOT_PRIVATE_ROUNDS: Final = 20


def cases() -> tuple[Case, ...]:
    plan = read_plan(PLAN)
    wide: dict[str, JsonValue] = {
        "clip_l2": 64.0,
        "coordinate_clip": None,
        "lane_bits": 32,
        "maximum_sites": 4,
        "server": {"schedule": "linear"},
    }
    plan = derived(plan, update=wide)
    batch = plan.training.nominal_batch_patients / plan.training.sampling_rate * 0.2
    free = derived(
        plan.with_fields({"rounds": NOT_PRIVATE_ROUNDS}),
        training={**NOT_PRIVATE, "nominal_batch_patients": batch},
    )
    return (
        Case(label="central, not private", plan=free, central=True, private=False),
        Case(label="federated, not private", plan=free, private=False, aim="within 0.02 of central"),
        Case(label="local, ε ≤ 8", plan=calibrated(plan, 8.0), aim="(for information)"),
    )


def data(folder: Path, plan: Plan, seed: int) -> Data:
    """Sites of 30 to 65 patients; a quarter of them is held out and not trained on."""
    if not (folder / PUBLIC_TEST).exists():
        write_volume_phantoms(folder, sites=SITES, seed=seed)
    sides: dict[str, Examples] = {}
    for name in (*SITES, PUBLIC_TEST):
        secret = hashlib.sha256(f"{seed}".encode()).digest()
        cohort = NiftiSource(folder / name, site=name, secret=secret).load(plan.data)
        if name != PUBLIC_TEST:
            cohort = cohort.split(plan.data.held_out_fraction)[0]
        sides[name] = Examples(cohort.inputs, cohort.targets(plan.data), cohort.patients)
    return Data(sites=[sides[name] for name in SITES], tests=[sides[PUBLIC_TEST]])


def measure(plan: Plan, weights: Weights, tests: Sequence[Examples]) -> Figures:
    """Mean Dice of the volumes at a threshold of one half; of two empty masks it is 1."""
    module = networks.loaded(plan.network, plan.data, weights)
    (test,) = tests
    found = (score(module, test.inputs) > 0.5).reshape(len(test.inputs), -1)
    truth = (test.targets == 1).reshape(len(test.inputs), -1)
    overlap, sizes = (found & truth).sum(axis=1), found.sum(axis=1) + truth.sum(axis=1)
    return {"Dice": float(np.where(sizes == 0, 1.0, 2.0 * overlap / np.maximum(sizes, 1)).mean())}


TASK: Final = Task(
    name="phantoms",
    title="Segmentation of synthetic volumes, four sites",
    figures=("Dice",),
    words=(
        "About 60 patients a site before a quarter of them is held out, and a scanner to each; the 40 test "
        "patients are of no site, from all four scanners. Seeds draw volumes and first weights. Rate and "
        "steps were set once, on the sites' held-out volumes (0.71 central, 0.72 federated)."
    ),
    cases=cases,
    data=data,
    measure=measure,
)
