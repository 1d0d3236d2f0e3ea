"""A site's own process under consent: who is trained on and scored, from step to step and from round to round."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ledger.errors import CodedError, PolicyViolation
from policies.opening import histogram_lane_count
from policies.plan import Plan
from privacy.masked_sum import MaskedSum
from privacy.noise import NoiseStream
from privacy.protected_sum import Report
from tasks import score
from tasks.aggregate import Aggregate, lane_count, lanes_to_bytes
from tasks.summing import end_of
from tasks.train.sampling import Indices, PatientSampler
from tasks.worker import site_session
from tests.consents import RECORDS, WAIVER
from tests.plans import tiny_plan
from tests.tasks.worker.hospital import NOW_S, PATIENTS, SITE, TRAINING, Hospital


@pytest.fixture(scope="module")
def plan() -> Plan:
    return tiny_plan(training=TRAINING, rounds=3)


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    """Everybody consents."""
    hospital = Hospital(tmp_path, RECORDS)
    hospital.grant(*range(PATIENTS))
    return hospital


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many patients took part in each step; the plan's rate is 1, so all who could."""
    steps: list[int] = []
    draw = PatientSampler.draw

    def noted(self: PatientSampler) -> list[Indices]:
        sample = draw(self)
        steps.append(len(sample))
        return sample

    monkeypatch.setattr(PatientSampler, "draw", noted)
    return steps


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many patients each evaluation counted."""
    counts: list[int] = []
    count = score.evaluation_counts

    def noted(
        scores: npt.NDArray[np.floating],
        labels: npt.NDArray[np.integer],
        sexes: npt.NDArray[np.integer],
        evaluation: object,
        noise: NoiseStream,
    ) -> npt.NDArray[np.int64]:
        counts.append(len(scores))
        return count(scores, labels, sexes, evaluation, noise)  # type: ignore[arg-type]

    monkeypatch.setattr(site_session, "evaluation_counts", noted)
    return counts


def test_only_patients_who_consent_are_taken_in(tmp_path: Path, plan: Plan) -> None:
    hospital = Hospital(tmp_path, RECORDS)
    with pytest.raises(PolicyViolation) as refused:
        hospital.session.prepare(plan)
    assert refused.value.code == "consent.nobody"
    hospital.grant(*range(40))
    hospital.session.prepare(plan)
    assert hospital.session.cohort_size() == (PATIENTS, 40)
    train, held_out = hospital.sides()
    assert sorted(train + held_out) == list(range(40))


def test_another_purpose_version_or_time_is_no_consent(hospital: Hospital, plan: Plan) -> None:
    for terms in (
        {"policy_version": "2026-1", "purpose": "care"},
        {"policy_version": "2027-1", "purpose": "research"},
    ):
        with pytest.raises(PolicyViolation) as refused:
            hospital.open().prepare(tiny_plan(consent=terms))
        assert refused.value.code == "consent.nobody"
    hospital.clock.at_s = 0
    with pytest.raises(PolicyViolation):
        hospital.open().prepare(plan)


def test_a_withdrawal_in_the_middle_of_a_round_counts_from_the_next_step(
    hospital: Hospital, plan: Plan, drawn: list[int]
) -> None:
    """The patient walks in while the first of three steps runs. The plan runs on as it was reserved."""
    hospital.session.prepare(plan)
    base = hospital.session.initial_model(plan)
    train, _ = hospital.sides()
    hospital.after_step(1, lambda: hospital.withdraw(train[0], train[1]))
    hospital.session.train(plan, base, 1, 1)
    everybody = len(train)
    assert drawn == [everybody, everybody - 2, everybody - 2], "as many steps as the plan has, none refunded"

    drawn.clear()
    hospital.after_step(1, lambda: None)
    hospital.session.train(plan, base, 2, 1)
    assert drawn == [everybody - 2] * 3
    assert hospital.session.patients_trained() == {1: everybody, 2: everybody - 2}
    assert hospital.session.cohort_size() == (PATIENTS, PATIENTS - 2)


def test_whoever_consents_during_a_round_joins_the_next(
    tmp_path: Path, plan: Plan, drawn: list[int], scored: list[int]
) -> None:
    hospital = Hospital(tmp_path, RECORDS)
    hospital.grant(*range(40))
    hospital.session.prepare(plan)
    base = hospital.session.initial_model(plan)
    train, held_out = hospital.sides()
    hospital.after_step(1, lambda: hospital.grant(*range(40, PATIENTS)))
    hospital.session.train(plan, base, 1, 1)
    hospital.evaluate(plan, base)
    assert drawn == [len(train)] * 3 and scored == [len(held_out)]
    hospital.session.train(plan, base, 2, 1)
    hospital.evaluate(plan, base, 2)
    assert drawn[3] > len(train) and drawn[3] + scored[1] == PATIENTS


def test_a_training_that_goes_on_after_a_crash_takes_in_nobody_who_consented_since(
    tmp_path: Path, plan: Plan, drawn: list[int]
) -> None:
    """What was reserved for is their consent who were there when it began; of them, those who still consent."""
    hospital = Hospital(tmp_path, RECORDS)
    hospital.grant(*range(40))
    hospital.session.prepare(plan)
    base = hospital.session.initial_model(plan)
    train, _ = hospital.sides()

    def power_cut() -> None:
        raise KeyboardInterrupt

    hospital.after_step(1, power_cut)
    with pytest.raises(KeyboardInterrupt):
        hospital.session.train(plan, base, 1, 1)
    hospital.grant(*range(40, PATIENTS))
    hospital.withdraw(train[0])
    drawn.clear()

    hospital.session = hospital.open()
    hospital.session.prepare(plan)
    assert len(hospital.sides()[0]) > len(train)
    assert hospital.session.can_resume(plan, base, 1, 1)
    hospital.session.train(plan, base, 1, 1)
    assert drawn == [len(train) - 1] * 3
    assert hospital.session.patients_trained() == {1: len(train) - 1}
    assert hospital.session._trained_on is not None
    assert {key.hex() for key in hospital.session._trained_on.keys} == set(map(hospital.key, train[1:]))
    kept = [path for path in (hospital.home.root / "training").rglob("*") if path.is_file()]
    assert len(kept) == 2 and all(
        data.startswith(b"WRSF") and bytes.fromhex(hospital.key(train[1])) not in data
        for data in (path.read_bytes() for path in kept)
    )
    # Without the list of its patients a training does not go on, and a round of its own takes everybody in.
    next(path for path in kept if path.suffix == ".patients").unlink()
    assert not hospital.session.can_resume(plan, base, 1, 1)
    hospital.session.train(plan, base, 2, 1)
    assert drawn[-1] == len(hospital.sides()[0])


def test_a_held_out_patient_who_withdrew_is_not_scored(
    hospital: Hospital, plan: Plan, scored: list[int]
) -> None:
    hospital.session.prepare(plan)
    base = hospital.session.initial_model(plan)
    _, held_out = hospital.sides()
    hospital.evaluate(plan, base)
    hospital.withdraw(*held_out[:3])
    hospital.evaluate(plan, base)
    assert scored == [len(held_out), len(held_out) - 3]
    figures = hospital.session.compare(plan, base)
    assert figures["patients"] == PATIENTS - 3 and figures["one_class"] == []


def test_a_hospital_whose_patients_all_have_one_label_is_told_so_and_nobody_else(
    hospital: Hospital, plan: Plan
) -> None:
    with np.load(hospital.shard) as shard:
        alike = {**shard, "labels": np.ones_like(shard["labels"])}
    np.savez(hospital.shard, **alike)
    hospital.session.prepare(plan)
    figures = hospital.session.compare(plan, hospital.session.initial_model(plan))
    assert figures["one_class"] == ["training", "held out"]
    assert figures["auc_federated"] is None and not (hospital.home.root / "calibration").exists()


def test_a_consent_that_expires_in_the_middle_of_a_round_ends_there(
    tmp_path: Path, plan: Plan, drawn: list[int]
) -> None:
    hospital = Hospital(tmp_path, RECORDS)
    hospital.grant(*range(0, PATIENTS, 2))
    hospital.grant(*range(1, PATIENTS, 2), expires=NOW_S + 5)
    hospital.session.prepare(plan)
    train, _ = hospital.sides()

    def later() -> None:
        hospital.clock.at_s = NOW_S + 5

    hospital.after_step(2, later)
    hospital.session.train(plan, hospital.session.initial_model(plan), 1, 1)
    assert drawn == [len(train), len(train), sum(number % 2 == 0 for number in train)]


def test_when_everybody_withdraws_the_round_ends_in_noise_and_the_next_is_refused(
    hospital: Hospital, plan: Plan, drawn: list[int], scored: list[int]
) -> None:
    hospital.session.prepare(plan)
    base = hospital.session.initial_model(plan)
    train, _ = hospital.sides()
    hospital.after_step(1, lambda: hospital.withdraw(*range(PATIENTS)))
    hospital.session.train(plan, base, 1, 1)
    assert drawn == [len(train), 0, 0]
    assert hospital.update(plan, base).update
    assert hospital.evaluate(plan, base).update and scored == [0]
    with pytest.raises(PolicyViolation) as refused:
        hospital.session.train(plan, base, 2, 1)
    assert refused.value.code == "consent.nobody"


def test_a_cohort_that_withdrawals_made_too_small_is_judged_anew(hospital: Hospital, plan: Plan) -> None:
    hospital.session.prepare(plan)
    hospital.withdraw(*range(15, PATIENTS))
    with pytest.raises(PolicyViolation) as refused:
        hospital.session.train(plan, hospital.session.initial_model(plan), 1, 1)
    assert refused.value.code == "contract.minimum-patients"


def test_a_withdrawn_patient_who_reappears_under_another_image_stays_out(
    hospital: Hospital, plan: Plan
) -> None:
    """A later study of a patient who withdrew, filed with a space after the identifier."""
    hospital.withdraw(4)
    with np.load(hospital.shard) as stored:
        shard = dict(stored)
    again = shard["images"][9:10]
    shard.update(
        images=np.concatenate([shard["images"], again]),
        labels=np.append(shard["labels"], shard["labels"][4]),
        patients=np.append(shard["patients"], "invented-0-4 "),
    )
    np.savez(hospital.shard, **shard)
    session = hospital.open()
    session.prepare(plan)
    assert session.cohort_size() == (PATIENTS, PATIENTS - 1)
    keys = {
        key.hex() for part in (session._present().train(), session._present().held_out()) for key in part.keys
    }
    assert hospital.key(4) not in keys and hospital.key(5) in keys


def test_records_that_cannot_be_believed_stop_the_training(hospital: Hospital, plan: Plan) -> None:
    path = hospital.home.root / "consent" / "records"
    older = path.read_bytes()
    hospital.withdraw(3)
    hospital.session.prepare(plan)

    def roll_back() -> None:
        path.write_bytes(older)

    hospital.after_step(1, roll_back)
    with pytest.raises(CodedError) as refused:
        hospital.session.train(plan, hospital.session.initial_model(plan), 1, 1)
    assert refused.value.code == "consent.store-rolled-back"
    with pytest.raises(CodedError):
        hospital.update(plan, hospital.session.initial_model(plan))  # nothing was trained: nothing can leave


def test_a_waiver_takes_everybody_in_who_does_not_object(tmp_path: Path, plan: Plan) -> None:
    hospital = Hospital(tmp_path, WAIVER)
    hospital.session.prepare(plan)
    assert hospital.session.cohort_size() == (PATIENTS, PATIENTS)


def test_the_root_of_every_cadence_is_another(hospital: Hospital) -> None:
    session = hospital.open()  # before any plan is prepared
    first, unchanged = session.consent_root(1), session.consent_root(2)
    hospital.withdraw(4)
    changed = session.consent_root(3)
    assert len({first, unchanged, changed}) == 3 and len(first) == len(changed) == 64
    assert session.consent_root(1) != first, "the state of cadence 1 changed, and its root with it"
    assert session.consent_root(3) == changed


def test_a_site_without_records_publishes_a_root_like_any_other(tmp_path: Path) -> None:
    session = Hospital(tmp_path, WAIVER).session
    assert session.consent_root(1) != session.consent_root(2)
    assert len(session.consent_root(1)) == 64


def test_an_evaluation_by_sex_has_the_lanes_that_the_coordinator_expects(hospital: Hospital) -> None:
    by_sex = tiny_plan(evaluation={"bins": 4, "noise_std": 3.0, "subgroups": "sex"})
    hospital.session.prepare(by_sex)
    protected = hospital.evaluate(by_sex, hospital.session.initial_model(by_sex))
    assert lane_count(by_sex, "evaluation") == histogram_lane_count(by_sex.evaluation) == 24
    end = end_of(by_sex, hospital.terms(by_sex, "evaluation"))
    assert isinstance(end, MaskedSum) and len(protected.update) == end.update_bytes
    end.check(SITE, Report(update=protected.update, shares=protected.shares))


def test_a_sum_of_nothing_moves_nothing_and_has_no_norm(hospital: Hospital, plan: Plan) -> None:
    base = hospital.session.initial_model(plan)
    weights = hospital.session._weights(plan, base)
    lanes = np.zeros(sum(tensor.size for tensor in weights.values()), np.int32)

    def following() -> Aggregate:
        return hospital.session.next_model(plan, 1, base, lanes_to_bytes(lanes), sizes=(3,), previous=None)

    assert following() == Aggregate(model=base, norm_l2_micro=0)
    lanes[0] = 5_000
    moved = following()
    assert moved.model != base and moved.norm_l2_micro > 0


@pytest.mark.parametrize("method", ["cohort_size", "train", "compare"])
def test_nothing_runs_before_the_cohort_is_prepared(hospital: Hospital, plan: Plan, method: str) -> None:
    base = hospital.session.initial_model(plan)
    calls: dict[str, Callable[[], object]] = {
        "cohort_size": hospital.session.cohort_size,
        "train": lambda: hospital.session.train(plan, base, 1, 1),
        "compare": lambda: hospital.session.compare(plan, base),
    }
    with pytest.raises(CodedError) as refused:
        calls[method]()
    assert refused.value.code == "session.unprepared"
