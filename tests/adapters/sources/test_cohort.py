"""Cohorts: indices instead of identifiers, and a split that depends on each patient's own key alone."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from adapters.sources.assembly import MemorySource
from adapters.sources.cohort import Cohort, patient_key
from adapters.sources.findings import DataRefusedError
from ledger.errors import InputError, PolicyViolation
from policies.contract import FACTS, facts
from policies.data_contract import DataContract, FeatureTable, Image, NumberFeature
from privacy.histogram import SUBGROUPS

SECRET = bytes(range(32))
CONTRACT = DataContract(
    image=Image(height_px=8, width_px=8, modalities=("CR",)),
    labels=(0, 1),
    minimum_patients=1,
    held_out_fraction=0.3,
)


def cohort_of(identifiers: list[str], *, secret: bytes = SECRET, site: str = "hospital-a") -> Cohort:
    images = np.random.default_rng(0).random((len(identifiers), 1, 8, 8)).astype(np.float32)
    labels = [len(identifier.strip()) % 2 for identifier in identifiers]
    return MemorySource(images, labels, identifiers, site=site, secret=secret).load(CONTRACT)


@given(st.lists(st.text(alphabet="abcd", min_size=1, max_size=2), min_size=1, max_size=30))
def test_patients_are_numbered_once_each_in_key_order(identifiers: list[str]) -> None:
    cohort = cohort_of(identifiers)
    assert cohort.patient_count == len(set(identifiers))
    assert list(cohort.keys) == sorted(cohort.keys)
    assert cohort.patients.tolist() == sorted(cohort.patients.tolist())


def test_images_stay_with_their_patient_and_label() -> None:
    identifiers = ["b", "a", "b", "cc", "a"]
    images = np.arange(5, dtype=np.float32)[:, None, None, None] / 10 * np.ones((5, 1, 8, 8), np.float32)
    cohort = MemorySource(images, [0, 1, 0, 1, 1], identifiers, site="s", secret=SECRET).load(CONTRACT)
    numbers = {key: index for index, key in enumerate(cohort.keys)}
    for value, name, label in [(0, "b", 0), (1, "a", 1), (2, "b", 0), (3, "cc", 1), (4, "a", 1)]:
        row = int(np.flatnonzero(np.isclose(cohort.inputs[:, 0, 0, 0], value / 10))[0])
        assert cohort.patients[row] == numbers[patient_key(name, site="s", secret=SECRET)]
        assert cohort.labels[row] == label
        assert cohort.facts.loc[row, "label"] == label


def test_one_patient_spelled_in_two_ways_is_one() -> None:
    composed, decomposed = "M\u00fcller-1", "Mu\u0308ller-1 "
    assert cohort_of([composed, composed + " "]).patient_count == 1
    assert patient_key(composed, site="s", secret=SECRET) == patient_key(decomposed, site="s", secret=SECRET)


def test_keys_depend_on_secret_and_site() -> None:
    keys = {
        patient_key("p", site="a", secret=SECRET),
        patient_key("p", site="b", secret=SECRET),
        patient_key("p", site="a", secret=SECRET[::-1]),
    }
    assert len(keys) == 3 and all(len(key) == 32 for key in keys)


@given(st.sets(st.integers(0, 10_000), min_size=40, max_size=80), st.floats(0.1, 0.5))
def test_a_patient_keeps_its_side_whoever_else_is_there(numbers: set[int], fraction: float) -> None:
    identifiers = [f"patient-{number}" for number in sorted(numbers)]
    whole = cohort_of(identifiers)
    part = cohort_of(identifiers[::2])
    try:
        train, held_out = whole.split(fraction)
        part_train, part_held_out = part.split(fraction)
    except PolicyViolation:
        return
    assert set(part_held_out.keys) == set(held_out.keys) & set(part.keys)
    assert set(part_train.keys) == set(train.keys) & set(part.keys)
    assert not set(train.keys) & set(held_out.keys)
    assert set(train.keys) | set(held_out.keys) == set(whole.keys)


def test_a_larger_fraction_only_adds_patients() -> None:
    cohort = cohort_of([f"patient-{number}" for number in range(500)])
    fewer, more = (set(cohort.split(fraction)[1].keys) for fraction in (0.1, 0.3))
    assert fewer < more
    assert 0.2 < len(more) / 500 < 0.4


def test_no_image_of_a_held_out_patient_stays_in_training() -> None:
    cohort = cohort_of([f"patient-{number}" for number in range(60) for _ in range(3)])
    for part in cohort.split(0.3):
        assert len(part.inputs) == 3 * part.patient_count
        assert np.array_equal(np.unique(part.patients), np.arange(part.patient_count))
        assert part.facts["patient"].tolist() == part.patients.tolist()
        assert part.facts["label"].tolist() == part.labels.tolist()


def test_a_cohort_too_small_to_split_is_a_policy_violation() -> None:
    with pytest.raises(PolicyViolation) as refused:
        cohort_of(["only"]).split(0.2)
    assert refused.value.violations[0].code == "cohort.too-small"


def test_contradicting_labels_are_refused_once_a_patient() -> None:
    images = np.zeros((4, 1, 8, 8), np.float32)
    source = MemorySource(images, [0, 1, 0, 0], ["p", "p", "q", "q"], site="s", secret=SECRET)
    with pytest.raises(DataRefusedError) as refused:
        source.load(CONTRACT)
    assert refused.value.code == "data.labels-contradict"
    assert "patients with contradicting labels: 1" in str(refused.value)


@pytest.mark.parametrize(
    ("count", "secret", "code"), [(0, SECRET, "data.empty"), (2, b"short", "data.secret")]
)
def test_what_cannot_be_assembled_is_refused(count: int, secret: bytes, code: str) -> None:
    with pytest.raises(DataRefusedError) as refused:
        cohort_of(["p"] * count, secret=secret)
    assert refused.value.code == code and refused.value.kind == "input"


def test_no_identifier_survives_in_a_cohort() -> None:
    cohort = cohort_of([f"ZZCANARY{number}" for number in range(30)])
    assert set(cohort.facts.columns) == set(FACTS)
    assert b"ZZCANARY" not in pickle.dumps(cohort)
    assert repr(cohort) == str(cohort) == "Cohort(...)"
    assert cohort.facts["finite"].all()


# Who is taken in


def keys_of(*identifiers: str) -> frozenset[bytes]:
    return frozenset(patient_key(name, site="hospital-a", secret=SECRET) for name in identifiers)


def test_a_cohort_narrows_to_the_patients_of_given_keys_with_all_their_images() -> None:
    whole = cohort_of(["a", "b", "a", "c", "b", "a"])
    part = whole.where(keys_of("a", "c", "nobody-here"))
    assert set(part.keys) == keys_of("a", "c") and len(part.inputs) == 4
    assert part.facts["patient"].tolist() == part.patients.tolist()
    assert whole.where(frozenset(whole.keys)) is whole


def test_a_withdrawn_patient_stays_out_under_every_image_of_the_identifier() -> None:
    """The images of one patient, filed under spellings of one identifier: all of them go."""
    images = np.random.default_rng(0).random((4, 1, 8, 8)).astype(np.float32)
    names = ["M\u00fcller-1", "Mu\u0308ller-1", " M\u00fcller-1 ", "other"]
    source = MemorySource(images, [0, 0, 0, 1], names, site="hospital-a", secret=SECRET)
    part = source.load(CONTRACT).where(keys_of("other"))
    assert len(part.inputs) == 1 and np.array_equal(part.inputs[0], images[3])


def test_nobody_left_is_a_policy_violation_unless_it_is_asked_for() -> None:
    whole = cohort_of(["a", "b"])
    with pytest.raises(PolicyViolation) as refused:
        whole.where(keys_of("c"))
    assert refused.value.violations[0].code == "consent.nobody"
    nobody = whole.among(frozenset())
    assert nobody.patient_count == 0 and nobody.inputs.shape == (0, 1, 8, 8)
    assert nobody.told_apart("sex").shape == (0,)


def test_narrowing_moves_nobody_to_the_other_side() -> None:
    whole = cohort_of([f"patient-{number}" for number in range(60)])
    train, held_out = whole.split(0.4)
    part_train, part_held_out = whole.where(frozenset(whole.keys[::2])).split(0.4)
    assert set(part_train.keys) <= set(train.keys) and set(part_held_out.keys) <= set(held_out.keys)


# Sexes


def test_a_patient_is_in_one_group_whatever_the_images_say() -> None:
    names = ["a", "a", "b", "b", "c", "d", "e", "e", "f"]
    sexes = ["F", "F ", "M", "M", "O", "", "F", "M", "anything"]
    images = np.zeros((9, 1, 8, 8), np.float32)
    whole = MemorySource(images, [0] * 9, names, site="hospital-a", secret=SECRET, sexes=sexes).load(CONTRACT)
    groups = {
        name: SUBGROUPS["sex"][whole.told_apart("sex")[whole.keys.index(next(iter(keys_of(name))))]]
        for name in "abcdef"
    }
    assert groups == {"a": "female", "b": "male", "c": "other", "d": "other", "e": "other", "f": "other"}
    part = whole.where(keys_of("a", "e"))
    assert sorted(SUBGROUPS["sex"][sex] for sex in part.told_apart("sex")) == ["female", "other"]


def test_without_sexes_everybody_is_other() -> None:
    cohort = cohort_of(["a", "b", "a"])
    assert cohort.groups.dtype == np.int8
    assert {SUBGROUPS["sex"][group] for group in cohort.told_apart("sex")} == {"other"}


# Volumes, masks and rows of tables

VOLUMES = DataContract(
    image=Image(depth_px=8, height_px=8, width_px=9, modalities=("CT",)),
    target="mask",
    labels=(0, 2),
    minimum_patients=1,
    held_out_fraction=0.3,
)
ROWS = DataContract(
    table=FeatureTable(features=(NumberFeature(kind="number", name="age", lower=0, upper=100),), label="ill"),
    labels=(0, 1),
    minimum_patients=1,
    held_out_fraction=0.3,
)


def volumes(masks: NDArray[np.uint8] | None, names: list[str]) -> Cohort:
    inputs = np.random.default_rng(0).random((len(names), 1, 8, 8, 9)).astype(np.float32)
    return MemorySource(inputs, [], names, site="s", secret=SECRET, modality="CT", masks=masks).load(VOLUMES)


def test_masks_go_with_their_volume_and_say_who_is_positive() -> None:
    masks = np.zeros((4, 1, 8, 8, 9), np.uint8)
    masks[0, 0, 1, 2, 3] = 2
    masks[3, 0, :, 0, 0] = 1  # not the contract's second label: no target
    whole = volumes(masks, ["a", "b", "a", "c"])
    number = whole.keys.index(patient_key("a", site="s", secret=SECRET))
    assert set(whole.facts.columns) == set(facts(VOLUMES))
    assert [int(label) for label in whole.labels] == [
        2 if patient == number else 0 for patient in whole.patients
    ]
    targets = whole.targets(VOLUMES)
    assert targets.dtype == np.float32 and targets.shape == (4, 1, 8, 8, 9) and targets.sum() == 1
    part = whole.where(frozenset([whole.keys[number]]))
    assert part.masks is not None and len(part.masks) == 2 and part.targets(VOLUMES).sum() == 1
    assert sorted(whole.facts["mask_values"]) == [False, True, True, True]


def test_masks_are_kept_only_where_they_are_learned() -> None:
    with pytest.raises(DataRefusedError) as refused:
        volumes(None, ["a", "b"])
    assert refused.value.code == "data.masks-missing"
    labelled = VOLUMES.model_copy(update={"target": "label"})
    inputs, masks = np.zeros((2, 1, 8, 8, 9), np.float32), np.zeros((2, 1, 8, 8, 9), np.uint8)
    source = MemorySource(inputs, [0, 2], ["a", "b"], site="s", secret=SECRET, masks=masks)
    cohort = source.load(labelled)
    assert cohort.masks is None and sorted(cohort.targets(labelled)) == [0.0, 1.0]
    with pytest.raises(InputError, match="masks"):
        cohort.targets(VOLUMES)


def test_rows_of_one_patient_may_differ_in_their_label() -> None:
    inputs = np.array([[0.1], [0.2], [0.3]], np.float32)
    cohort = MemorySource(inputs, [0, 1, 0], ["a", "a", "b"], site="s", secret=SECRET).load(ROWS)
    assert cohort.inputs.shape == (3, 1) and sorted(cohort.positives(ROWS)) == [0, 0, 1]
    assert set(cohort.facts.columns) == set(facts(ROWS)) and cohort.patient_count == 2


@pytest.mark.parametrize(
    "shape", [(2, 1, 8), (2, 3, 8, 8), (2, 1, 8, 8, 8, 8), (2,)], ids=["line", "colour", "time", "numbers"]
)
def test_inputs_of_other_dimensions_are_no_cohort(shape: tuple[int, ...]) -> None:
    good = cohort_of(["a", "b"])
    with pytest.raises(ValueError, match="inputs must be"):
        dataclasses.replace(good, inputs=np.zeros(shape, np.float32))
    for masks in (np.zeros((1, 1, 8, 8), np.uint8), np.zeros((2, 1, 8, 8), np.int64)):
        with pytest.raises(ValueError, match="masks must be"):
            dataclasses.replace(good, masks=masks)
