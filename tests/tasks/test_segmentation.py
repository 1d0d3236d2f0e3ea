"""Dice and Hausdorff distance against MONAI's, and what empty masks and several images come to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tasks.segmentation import dice, hausdorff, segmented

SHAPES = st.sampled_from([(7, 9), (5, 6, 7)])
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(arrays(np.bool_, shape), arrays(np.bool_, shape)))
EMPTY, FULL = np.zeros((4, 4), np.bool_), np.ones((4, 4), np.bool_)


@settings(deadline=None)  # the first import of MONAI takes seconds
@given(PAIRS)
def test_both_are_what_monai_says(pair: tuple[np.ndarray, np.ndarray]) -> None:
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance

    found, drawn = pair
    if not found.any() or not drawn.any():
        return  # MONAI has no figure for these
    tensors = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in pair]
    assert dice(found, drawn) == pytest.approx(float(compute_dice(*tensors)), abs=1e-6)
    theirs = float(compute_hausdorff_distance(*tensors, include_background=True, percentile=95))
    diagonal = float(np.linalg.norm(np.array(found.shape) - 1))
    assert hausdorff(found, drawn) * diagonal == pytest.approx(theirs, abs=1e-5)


@given(PAIRS)
def test_both_are_shares_and_the_same_either_way(pair: tuple[np.ndarray, np.ndarray]) -> None:
    for figure in (dice, hausdorff):
        assert 0 <= figure(*pair) <= 1 and figure(*pair) == pytest.approx(figure(*reversed(pair)))


def test_empty_masks() -> None:
    assert (dice(EMPTY, EMPTY), hausdorff(EMPTY, EMPTY)) == (1.0, 0.0)
    assert (dice(EMPTY, FULL), hausdorff(EMPTY, FULL)) == (0.0, 1.0)
    assert (dice(FULL, EMPTY), hausdorff(FULL, EMPTY)) == (0.0, 1.0)


def test_a_patient_with_many_images_weighs_as_much_as_one_with_one() -> None:
    targets = np.stack([FULL] * 4).astype(np.float32)[:, None]
    found = np.stack([FULL, FULL, FULL, EMPTY]).astype(np.float32)[:, None]
    figures = segmented(found, targets, np.array([5, 5, 5, 9]))
    assert figures.dice.tolist() == [1.0, 0.0] and figures.distance.tolist() == [0.0, 1.0]
    assert figures.numbers() == {"dice": 0.5, "hausdorff": 0.5}
    assert "1." not in repr(figures)


def test_nobody_has_no_figures() -> None:
    nobody = segmented(np.zeros((0, 1, 4, 4)), np.zeros((0, 1, 4, 4)), np.zeros(0, np.int64))
    assert nobody.numbers() == {}
