"""Poisson sampling by patient."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from privacy.noise import NoiseStream
from tasks.train.sampling import PatientSampler

Patients = npt.NDArray[np.int64]


def who(patients: Patients, sampler: PatientSampler) -> list[int]:
    """Whom a draw chose."""
    return [int(patients[items[0]]) for items in sampler.draw()]


def test_a_patient_is_drawn_at_most_once_in_a_step(patients: Patients, noise: NoiseStream) -> None:
    sampler = PatientSampler(patients, rate=0.7, noise=noise)
    for _ in range(200):
        drawn = [set(patients[items]) for items in sampler.draw()]
        assert all(len(one) == 1 for one in drawn) and len(set.union(set(), *drawn)) == len(drawn)


def test_rate_one_draws_every_patient_once(patients: Patients, noise: NoiseStream) -> None:
    assert sorted(who(patients, PatientSampler(patients, rate=1.0, noise=noise))) == list(range(24))


def test_patients_are_drawn_at_the_rate_whatever_their_number_of_images(
    patients: Patients, noise: NoiseStream
) -> None:
    sampler = PatientSampler(patients, rate=0.3, noise=noise)
    steps = 4000
    counts = np.bincount([one for _ in range(steps) for one in who(patients, sampler)], minlength=24)
    # Five standard deviations of a binomial count.
    assert np.abs(counts / steps - 0.3).max() < 5 * np.sqrt(0.3 * 0.7 / steps)


def test_a_patient_comes_with_all_items(patients: Patients, noise: NoiseStream) -> None:
    for items in PatientSampler(patients, rate=0.5, noise=noise).draw():
        assert sorted(items) == sorted(np.flatnonzero(patients == patients[items[0]]))


def test_batch_sizes_vary_as_poisson_sampling_must(patients: Patients, noise: NoiseStream) -> None:
    sampler = PatientSampler(patients, rate=0.5, noise=noise)
    sizes = [len(sampler.draw()) for _ in range(500)]
    assert np.var(sizes) == pytest.approx(24 * 0.25, rel=0.4)


def test_a_low_rate_gives_empty_batches(patients: Patients, noise: NoiseStream) -> None:
    sampler = PatientSampler(patients, rate=1e-9, noise=noise)
    assert sampler.draw() == []


def test_patient_numbers_need_not_be_dense(noise: NoiseStream) -> None:
    sampler = PatientSampler(np.array([900, 7, 900, 41]), rate=1.0, noise=noise)
    assert sampler.patients == 3
    assert len(sampler.draw()) == 3


def test_an_excluded_patient_is_never_drawn_again_under_any_image(
    patients: Patients, noise: NoiseStream
) -> None:
    sampler = PatientSampler(patients, rate=1.0, noise=noise)
    sampler.exclude(np.array([3, 17, 999]))
    assert sampler.patients == 22
    for _ in range(50):
        assert sorted(who(patients, sampler)) == [number for number in range(24) if number not in (3, 17)]
    sampler.exclude(np.array([5]))
    sampler.exclude(np.zeros(0, np.int64))
    assert sampler.patients == 21 and 5 not in who(patients, sampler)


def test_the_others_are_drawn_at_the_same_rate(patients: Patients, noise: NoiseStream) -> None:
    sampler = PatientSampler(patients, rate=0.3, noise=noise)
    sampler.exclude(np.arange(12))
    steps = 4000
    counts = np.bincount([one for _ in range(steps) for one in who(patients, sampler)], minlength=24)
    assert counts[:12].sum() == 0
    assert np.abs(counts[12:] / steps - 0.3).max() < 5 * np.sqrt(0.3 * 0.7 / steps)


def test_with_everybody_excluded_a_draw_is_empty(patients: Patients, noise: NoiseStream) -> None:
    sampler = PatientSampler(patients, rate=1.0, noise=noise)
    sampler.exclude(np.arange(24))
    assert sampler.patients == 0 and sampler.draw() == []
    nobody = PatientSampler(np.zeros(0, np.int64), rate=0.5, noise=noise)
    assert nobody.draw() == []
