"""The verdict on drift is a function of the noised counts: whatever the exact scores are, it is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ledger.errors import CodedError
from policies.plan import Evaluation, Plan
from privacy.drift import Level
from privacy.noise import NoiseStream
from tasks.train import networks, weights
from tasks.worker import site_session
from tests.consents import WAIVER
from tests.plans import distributed_plan, tiny_plan
from tests.tasks.worker.hospital import Hospital

GATES = {"minimum_auc": 0.0, "drift": {"margin": 0.15, "deviations": 3.0}}
EVALUATION = {"bins": 4, "noise_std": 3.0}
SURE = Level(0.95, 0.0)
GOOD = np.array([60, 40, 10, 5, 5, 10, 40, 60], np.int64)
BAD = np.array([5, 10, 40, 60, 60, 40, 10, 5], np.int64)
PLANS = {
    "local": tiny_plan(gates=GATES, evaluation=EVALUATION),
    "distributed": distributed_plan(gates=GATES, evaluation=EVALUATION),
}


def verdict(hospital: Hospital, plan: Plan) -> str:
    terms = hospital.terms(plan, "evaluation", 1)
    base = weights.to_bytes(networks.initial(plan.network, plan.data, plan.seed))
    try:
        hospital.session.protect_evaluation(plan, terms, base, sealed=None, in_force=SURE)
    except CodedError as error:
        return error.code
    return "sent"


@pytest.mark.parametrize("noise", PLANS)
@pytest.mark.parametrize(("noised", "expected"), [(GOOD, "sent"), (BAD, "drift.performance")])
def test_other_patients_under_the_same_noised_counts_get_the_same_verdict(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    noise: str,
    noised: npt.NDArray[np.int64],
    expected: str,
) -> None:
    plan, seen = PLANS[noise], list[float]()

    def counts(
        scores: npt.NDArray[np.floating],
        labels: npt.NDArray[np.integer],
        sexes: npt.NDArray[np.integer],
        evaluation: Evaluation,
        stream: NoiseStream,
    ) -> npt.NDArray[np.int64]:
        assert evaluation.noise_std == 3.0  # all of the declared noise, whoever adds that of the updates
        seen.append(float(scores.sum()))
        return noised.copy()

    monkeypatch.setattr(site_session, "evaluation_counts", counts)
    for number, invented in enumerate((lambda labels: labels, lambda labels: 1 - labels)):
        # Scores that are right about everybody, and scores that are wrong about everybody.
        monkeypatch.setattr(
            site_session,
            "scored",
            lambda module, cohort, contract, device, invented=invented: (
                invented(cohort.positives(contract)).astype(np.float32),
                cohort.positives(contract),
            ),
        )
        hospital = Hospital(tmp_path / str(number), WAIVER)
        hospital.session.prepare(plan)
        assert verdict(hospital, plan) == expected
    assert len(seen) == 2
