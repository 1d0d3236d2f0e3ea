"""Scores per image and patient, and the exact AUC."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from adapters.sources.cohort import Cohort
from policies.opening import aucs_micro_of, histogram_lane_count
from policies.plan import Evaluation
from privacy.histogram import SUBGROUPS, score_histogram
from privacy.noise import NoiseStream
from tasks import own_figures
from tasks.score import (
    UNSCORED,
    evaluation_counts,
    exact_auc,
    mask_counts,
    patient_scores,
    score,
    score_apart,
)
from tasks.segmentation import segmented
from tasks.train import networks
from tests.tasks.train.networks.covered import COVERED, Covered


class _Mean(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(1, 2, 3))


def test_score_is_the_probability_of_each_image_in_order() -> None:
    images = np.random.default_rng(0).random((1300, 1, 4, 4), dtype=np.float32)
    scores = score(_Mean(), images, "cpu")
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-images.mean(axis=(1, 2, 3)))), atol=1e-6)


def test_score_of_nothing_is_nothing() -> None:
    assert score(_Mean(), np.zeros((0, 1, 4, 4), np.float32)).shape == (0,)


def test_patient_scores_are_means_in_order_of_the_patient() -> None:
    scores, labels = patient_scores(
        np.array([0.2, 0.9, 0.4, 0.5], np.float32), np.array([0, 1, 0, 1], np.int8), np.array([3, 8, 3, 8])
    )
    np.testing.assert_allclose(scores, [0.3, 0.7], atol=1e-6)
    np.testing.assert_array_equal(labels, [0, 1])
    assert scores.dtype == np.float32


def test_exact_auc_counts_pairs_and_halves_ties() -> None:
    scores = np.array([0.1, 0.4, 0.4, 0.8], np.float32)
    assert exact_auc(scores, np.array([0, 0, 1, 1])) == pytest.approx(3.5 / 4)


@pytest.mark.parametrize("label", [0, 1])
def test_exact_auc_of_one_label_is_undefined(label: int) -> None:
    assert exact_auc(np.array([0.1, 0.2], np.float32), np.full(2, label)) is None
    assert exact_auc(np.zeros(0, np.float32), np.zeros(0, np.int64)) is None


# What leaves the site

WHOLE = Evaluation(bins=32, noise_std=2.0)
BY_SEX = Evaluation(bins=32, noise_std=2.0, subgroups="sex")


def _scored(count: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(scores, labels, sexes): women told apart perfectly, men the wrong way round, others by chance."""
    random = np.random.default_rng(3)
    labels, sexes = random.integers(0, 2, count), random.integers(0, 3, count)
    scores = np.choose(sexes, [0.2 + 0.6 * labels, 0.8 - 0.6 * labels, random.random(count)])
    return scores.astype(np.float32), labels, sexes


@pytest.mark.parametrize("evaluation", [WHOLE, BY_SEX])
def test_counts_are_the_lanes_that_witnesses_read(evaluation: Evaluation) -> None:
    scores, labels, sexes = _scored()
    with NoiseStream() as noise:
        counts = evaluation_counts(scores, labels, sexes, evaluation, noise)
    assert counts.dtype == np.int64 and counts.shape == (histogram_lane_count(evaluation),)
    whole, groups = aucs_micro_of(counts, evaluation)
    assert whole == pytest.approx(1e6 * (exact_auc(scores, labels) or 0), abs=3e4)
    assert len(groups) == (2 if evaluation is BY_SEX else 0)
    for found, expected in zip(groups, (1e6, 0.0), strict=False):
        assert found == pytest.approx(expected, abs=5e4)


def test_every_patient_is_in_one_cell_and_every_cell_has_its_own_noise() -> None:
    scores, labels, sexes = _scored(300)
    exact = np.stack([score_histogram(scores[sexes == sex], labels[sexes == sex], 32) for sex in range(3)])
    assert exact.sum() == 300, "one count a patient over all groups: a sensitivity of 1"
    with NoiseStream() as noise:
        draws = np.stack([evaluation_counts(scores, labels, sexes, BY_SEX, noise) for _ in range(400)])
    added = draws - exact.ravel()
    assert np.std(added) == pytest.approx(2.0, rel=0.05)
    assert (np.std(added, axis=0) > 1.0).all(), "no cell of a small group goes without noise"
    correlations = np.corrcoef(added.T)
    assert np.abs(correlations[~np.eye(len(correlations), dtype=bool)]).max() < 0.35


def test_nobody_held_out_is_noise_alone() -> None:
    none = np.zeros(0, np.int64)
    for evaluation in (WHOLE, BY_SEX):
        with NoiseStream() as noise:
            counts = evaluation_counts(none.astype(np.float32), none, none, evaluation, noise)
        assert counts.any() and len(counts) == 64 * max(1, len(SUBGROUPS[evaluation.subgroups]))


class _Overflowing(torch.nn.Module):
    """Says nothing of images whose first pixel is bright, in the shape of a label or of a mask."""

    def __init__(self, *, mask: bool) -> None:
        super().__init__()
        self._mask = mask

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = images if self._mask else images.mean(dim=(1, 2, 3))
        bright = images[:, :1, :1, :1] > 0.5 if self._mask else images[:, 0, 0, 0] > 0.5
        return torch.where(bright, torch.nan, logits)


def test_no_patient_s_score_decides_whether_a_hospital_evaluates() -> None:
    """An evaluation that failed where one held-out patient's score is no number would tell that they are there."""
    images = np.zeros((6, 1, 8, 8), np.float32)
    images[4, 0, 0, 0] = 1.0
    labels, sexes = np.array([0, 1, 0, 1, 1, 0]), np.array([0, 1, 2, 0, 1, 2])
    scores, known = patient_scores(
        score(_Overflowing(mask=False), images), labels, np.array([0, 1, 2, 3, 3, 5])
    )
    np.testing.assert_allclose(scores, 0.5)
    # Whatever reaches the counts, they come.
    for spoilt in (np.nan, np.inf, -np.inf, 1.0001):
        scores[1] = spoilt
        with NoiseStream() as noise:
            counts = evaluation_counts(scores, known, sexes[:5], BY_SEX, noise)
        assert counts.shape == (histogram_lane_count(BY_SEX),)
    assert score_histogram(np.array([UNSCORED]), np.array([0]), 32)[0, 16] == 1


def test_no_patient_s_mask_decides_whether_a_hospital_evaluates() -> None:
    images = np.zeros((6, 1, 8, 8), np.float32)
    images[4, 0, 0, 0] = 1.0
    targets = (np.arange(64).reshape(8, 8) > 30).astype(np.float32) * np.ones((6, 1, 1, 1), np.float32)
    with np.errstate(invalid="raise"):
        found = segmented(score(_Overflowing(mask=True), images), targets, np.arange(6))
    assert found.dice[4] == 0.0 and found.distance[4] == 1.0 and np.isfinite(found.distance).all()
    with NoiseStream() as noise:
        assert len(mask_counts(found, np.zeros(6, np.int64), WHOLE, noise)) == histogram_lane_count(WHOLE)


# One patient more or less


_SEVERAL = [one for one in COVERED if one.label in {"SmallConvNet-2d", "UNet-2d", "ViT-2d"}]


@pytest.mark.parametrize("covered", _SEVERAL, ids=lambda covered: covered.label)
def test_nobodys_score_changes_with_who_else_is_there(covered: Covered) -> None:
    """To the last bit, as one that lies at a bin's edge would be counted in another bin."""
    module = networks.build(covered.network, covered.data)
    random = np.random.default_rng(5)
    inputs = random.random((37, *covered.data.shape), dtype=np.float32)
    everybody = score_apart(module, inputs)
    np.testing.assert_allclose(everybody, score(module, inputs), atol=1e-5)
    for leaves in (0, 18, 36):
        assert np.array_equal(
            np.delete(everybody, leaves, 0), score_apart(module, np.delete(inputs, leaves, 0))
        )
    order = random.permutation(len(inputs))
    assert np.array_equal(everybody[order], score_apart(module, inputs[order]))
    assert np.array_equal(everybody[7:8], score_apart(module, inputs[7:8]))


def test_those_who_look_alike_are_scored_alike_and_nobody_is_nothing() -> None:
    same = np.full((19, 1, 4, 4), 0.25, np.float32)
    assert len(set(score_apart(_Mean(), same).tolist())) == 1
    assert score_apart(_Mean(), same[:0]).shape == (0,)


def test_a_hospitals_figures_are_scored_apart() -> None:
    data = COVERED[0].data
    cohort = _cohort(np.random.default_rng(0).random((65, *data.shape), dtype=np.float32))
    everybody, _ = own_figures.scored(_Rounded(), cohort, data, "cpu")
    without = cohort.among(frozenset(cohort.keys[1:]))
    assert np.array_equal(everybody[1:], own_figures.scored(_Rounded(), without, data, "cpu")[0])


class _Rounded(torch.nn.Module):
    """As rounding does, but more: by the size of the batch and the place in it."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(1, 2, 3)) + 0.01 * len(images) + 0.001 * torch.arange(len(images))


def _cohort(inputs: np.ndarray) -> Cohort:
    count = len(inputs)
    keys = tuple(bytes([number]) * 32 for number in range(count))
    labels, groups = (np.arange(count) % 2).astype(np.int8), np.zeros((count, 3), np.int8)
    return Cohort(inputs, labels, np.arange(count), groups, keys, pd.DataFrame({"patient": np.arange(count)}))
