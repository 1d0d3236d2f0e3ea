"""Scores per image and patient, and the exact AUC."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tasks.score import exact_auc, patient_scores, score


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
