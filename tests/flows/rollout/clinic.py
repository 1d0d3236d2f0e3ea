"""A federation in its clinical phase: patients told apart by sex, a model that learns, drills, officers who sign."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from adapters.home import Home, write_atomically
from adapters.unsaid import Unsaid
from flows.coordinator import run_plan
from flows.rollout.phase import run_phase
from ledger import canonical
from policies.plan import Plan
from policies.rollout.record import Opened
from policies.rollout.standing import Standing
from policies.rollout.statements import DrillRecorded, PhaseTerms
from tasks.coordinator.party import Coordinator
from tasks.rollout.conformance import recorded
from tasks.rollout.terms import read_terms, with_change_plan
from tests.consortium import SITES, Consortium, tiny_plan
from tests.policies.rollout.phases import drill_report
from wardround.examples import EXAMPLES

OFFICERS = (
    *(f"steward-of-{site}" for site in SITES[:3]),
    "the-compliance-officer",
    "the-clinical-lead",
    "the-regulatory-officer",
)


def new(root: Path) -> Consortium:
    consortium = Consortium.found(root, phase="clinical", patients=dict.fromkeys(SITES, 300))
    for name in SITES:
        path = root / "data" / f"{name}.npz"
        with np.load(path) as shard:
            arrays = dict(shard)
        # A finding shows in the upper half: networks that normalise brightness away see it too.
        images = np.random.default_rng(0).integers(100, 160, (300, 8, 8))
        images[arrays["labels"] == 1, :4] += 80
        arrays["images"] = images.astype(np.uint8)
        arrays["sexes"] = np.array(["F", "F", "M", "M", "F", "F"] * 50)
        np.savez(path, **arrays)
    return consortium


def plan(**fields: object) -> Plan:
    """Of high risk, with little noise: what is tried here is the phase, not privacy."""
    training = {
        "sampling_rate": 0.5, "steps": 20, "noise_multiplier": 0.6, "clip_l2": 1.0, "learning_rate": 1.0,
        "nominal_batch_patients": 75.0,
    }  # fmt: skip
    base = {
        "study": "pneumonia-xray", "risk_tier": "high", "training": training,
        "evaluation": {"bins": 8, "noise_std": 1.0, "subgroups": "sex"},
        "budget": {"epsilon_cap": 1000.0, "delta": 1e-5},
    }  # fmt: skip
    return tiny_plan(**{**base, **fields})


def terms(consortium: Consortium, **fields: object) -> PhaseTerms:
    """The example's, with the example's change plan."""
    rollout = EXAMPLES / "rollout"
    wanted = read_terms(rollout / "clinical.yaml").with_fields(dict(fields))  # type: ignore[arg-type]
    return with_change_plan(wanted, rollout / "change-plan.yaml", Home(consortium.founded.coordinator))


def conform(consortium: Consortium) -> None:
    for site in SITES:
        Unsaid(consortium.founded.sites[site]).put(recorded(plan()))


async def validate(coordinator: Coordinator, opened: Opened, *, plan: Plan) -> None:
    """The work of the phase: a round, and the drills with their reports."""
    await run_plan(coordinator, plan)
    for drill in opened.terms.drills:
        report = drill_report(drill, policy_digest=opened.entry_digest)
        write_atomically(coordinator.home.root / "reports" / f"{drill}.json", report)
        body = DrillRecorded(drill=drill, report_digest=canonical.digest(report))
        await coordinator.say(body)
    await coordinator.until(
        lambda state: True if all(
            state.rollout.conformance.get(site, (-1, None))[0] > opened.index for site in SITES
        ) else None,
        timeout_s=20,
        waiting_for="conformance",
    )  # fmt: skip


async def clinical(coordinator: Coordinator, *, terms: PhaseTerms, plan: Plan) -> Standing:
    return await run_phase(coordinator, terms, partial(validate, plan=plan))
