"""Whether a site is better off, inside its own process: the truth stays, and an answer always comes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policies.plan import Plan
from privacy.noise import NoiseStream
from privacy.packing import Lanes
from privacy.protected_sum import Report
from tasks.own_figures import is_at_least
from tasks.summing import SumTerms
from tasks.train.local_only import train_local
from tasks.train.private import TrainingDivergedError
from tasks.worker import site_session
from tasks.worker.sum_session import SealedKey
from tests.consents import WAIVER
from tests.plans import tiny_plan
from tests.tasks.worker.hospital import TRAINING, Hospital

HISTOGRAM = 2 * 4


@pytest.fixture(scope="module")
def plan() -> Plan:
    return tiny_plan(
        training=TRAINING, evaluation={"bins": 4, "noise_std": 3.0, "compare": {"epsilon": 3.0}}, rounds=2
    )


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path, WAIVER)


@pytest.fixture
def truths(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What was true each time that an answer was given; the answer is a no then, so that a yes is no accident."""
    told: list[bool] = []

    def noted(truth: bool, epsilon: float, stream: NoiseStream) -> bool:
        assert epsilon == 3.0
        told.append(truth)
        return False

    monkeypatch.setattr(site_session, "respond", noted)
    return told


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for every training of a model of the site's own."""
    trained: list[int] = []

    def noted(*arguments: object, **options: object) -> None:
        trained.append(1)
        train_local(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(site_session, "train_local", noted)
    return trained


def figures(monkeypatch: pytest.MonkeyPatch, *, theirs: float | None, own: float | None) -> None:
    found = iter((theirs, own))
    monkeypatch.setattr(site_session, "judged", lambda *asked: next(found))


def sent(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> list[Lanes]:
    """The lanes before they are masked."""
    seen: list[Lanes] = []
    report = type(hospital.session)._report

    def noted(
        self: site_session.SiteSession, plan: Plan, terms: SumTerms, lanes: Lanes, sealed: SealedKey | None
    ) -> Report:
        seen.append(lanes.copy())
        return report(self, plan, terms, lanes, sealed)

    monkeypatch.setattr(type(hospital.session), "_report", noted)
    return seen


@pytest.mark.parametrize(
    ("theirs", "own", "better"),
    [(0.8, 0.7, True), (0.8, 0.8, True), (0.7, 0.8, False), (None, 0.7, False), (0.7, None, False),
     (None, None, False)],
)  # fmt: skip
def test_a_site_is_better_off_where_the_federations_figure_is_no_smaller(
    hospital: Hospital, plan: Plan, truths: list[bool], monkeypatch: pytest.MonkeyPatch,
    theirs: float | None, own: float | None, better: bool,
) -> None:  # fmt: skip
    hospital.session.prepare(plan)
    figures(monkeypatch, theirs=theirs, own=own)
    hospital.evaluate(plan, hospital.session.initial_model(plan), 2)
    assert truths == [better] == [is_at_least(theirs, own)]


def test_the_answer_is_one_more_lane_of_the_last_evaluation_and_of_no_other(
    hospital: Hospital, plan: Plan, alone: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = sent(hospital, monkeypatch)
    monkeypatch.setattr(site_session, "respond", lambda truth, epsilon, stream: True)
    hospital.session.prepare(plan)
    base = hospital.session.initial_model(plan)
    hospital.evaluate(plan, base, 1)
    assert len(seen[0]) == HISTOGRAM and not alone
    hospital.evaluate(plan, base, 2)
    assert len(seen[1]) == HISTOGRAM + 1 and seen[1][-1] == 1 and len(alone) == 1


def test_the_answer_is_drawn_and_not_the_truth_itself(
    hospital: Hospital, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 400 answers about the same truth some are lies: about 19, and none at all once in 270 million."""
    seen = sent(hospital, monkeypatch)
    hospital.session.prepare(plan)
    monkeypatch.setattr(site_session.SiteSession, "_is_better_off", lambda *asked: True)
    base = hospital.session.initial_model(plan)
    for _ in range(400):
        hospital.evaluate(plan, base, 2)
    answers = np.array([lanes[-1] for lanes in seen])
    assert set(answers.tolist()) == {0, 1} and 0.85 < answers.mean() < 0.99


@pytest.mark.parametrize("left", [0, 1])
def test_a_site_with_nobody_to_compare_on_answers_like_any_other(
    hospital: Hospital, plan: Plan, truths: list[bool], monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    """Nobody held out, or one patient with one label: no figure is defined, and the sum has its lane all the same."""
    hospital.session.prepare(plan)
    present = hospital.session._present()
    cohort = present.held_out()
    monkeypatch.setattr(present, "held_out", lambda: cohort.among(frozenset(cohort.keys[:left])))
    seen = sent(hospital, monkeypatch)
    hospital.evaluate(plan, hospital.session.initial_model(plan), 2)
    assert truths == [False] and len(seen[-1]) == HISTOGRAM + 1


@pytest.mark.parametrize(
    "error", [TrainingDivergedError("weights are not finite"), RuntimeError("of somebody"), MemoryError()]
)
def test_a_training_that_fails_is_no_reason_to_stay_away(
    hospital: Hospital, plan: Plan, truths: list[bool], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whether a model of its own can be trained hangs on a hospital's patients."""
    hospital.session.prepare(plan)

    def fails(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(site_session, "train_local", fails)
    hospital.evaluate(plan, hospital.session.initial_model(plan), 2)
    assert truths == [False]


def test_its_own_report_takes_the_model_that_was_trained_for_the_answer(
    hospital: Hospital, plan: Plan, alone: list[int], truths: list[bool]
) -> None:
    hospital.session.prepare(plan)
    model = hospital.session.initial_model(plan)
    hospital.evaluate(plan, model, 2)
    told = hospital.session.compare(plan, model)
    assert len(alone) == 1
    theirs, own = told["auc_federated"], told["auc_local_only"]
    assert isinstance(theirs, float) and isinstance(own, float)
    assert truths == [theirs >= own], "the answer is about the very figures of the report"
    # Another plan has another model of the site's own.
    other = tiny_plan(training=TRAINING, seed=1)
    hospital.session.compare(other, hospital.session.initial_model(other))
    assert len(alone) == 2
