"""Augmented views: what moves, what stays, and that masks move with their images."""

from __future__ import annotations

import pytest
import torch

from policies.training import Augmentation
from tasks.train.views import views

FLIP = Augmentation(flip=True)
MOVED = Augmentation(flip=True, shift_px=3, rotate_degrees=20.0, scale=0.2, contrast=0.3)


@pytest.mark.parametrize("shape", [(1, 12, 16), (1, 8, 12, 16)])
@pytest.mark.parametrize("count", [1, 5])
def test_views_of_one_item_lie_side_by_side(shape: tuple[int, ...], count: int) -> None:
    items, labels = torch.rand(3, *shape), torch.tensor([0.0, 1.0, 0.0])
    found, targets = views(items, labels, count=count, augmentation=MOVED)
    assert found.shape == (3 * count, *shape) and targets.tolist() == [
        label for label in labels.tolist() for _ in range(count)
    ]
    assert found.min() >= 0.0 and found.max() <= 1.0
    assert not torch.equal(found[0], items[0])


def test_without_an_augmentation_items_are_themselves() -> None:
    items, labels = torch.rand(3, 1, 8, 8), torch.zeros(3)
    found, targets = views(items, labels, count=4, augmentation=None)
    assert found is items and targets is labels


@pytest.mark.parametrize("shape", [(1, 9, 12), (1, 5, 9, 12)])
def test_a_flip_turns_left_and_right_alone(shape: tuple[int, ...]) -> None:
    item = torch.rand(1, *shape)
    found, _ = views(item, torch.zeros(1), count=40, augmentation=FLIP)
    kinds = [
        "same" if torch.allclose(one, item[0], atol=1e-5) else "turned"
        for one in found
        if torch.allclose(one, item[0], atol=1e-5) or torch.allclose(one, item[0].flip(-1), atol=1e-5)
    ]
    assert len(kinds) == 40 and set(kinds) == {"same", "turned"}


def test_a_shift_moves_by_whole_and_broken_pixels_within_its_bound() -> None:
    item = torch.zeros(1, 1, 21, 21)
    item[0, 0, 10, 10] = 1.0
    found, _ = views(item, torch.zeros(1), count=200, augmentation=Augmentation(shift_px=2))
    places = torch.arange(21.0)
    rows = (found.sum(dim=3) * places).sum(dim=(1, 2)) / found.sum(dim=(1, 2, 3))
    assert 7.9 < rows.min() < 8.6 and 11.4 < rows.max() < 12.1


@pytest.mark.parametrize("shape", [(1, 24, 24), (1, 12, 24, 24)])
def test_a_mask_goes_where_its_image_goes(shape: tuple[int, ...]) -> None:
    items = torch.zeros(2, *shape)
    items[..., 4:12, 6:16] = 1.0
    found, masks = views(
        items, items.clone(), count=20, augmentation=MOVED.model_copy(update={"contrast": 0.0})
    )
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    # They differ at the edges alone, where one is interpolated and the other takes the nearest.
    assert (found - masks).abs().mean() < 0.03
    assert (masks[:20].mean(dim=0) - items[0]).abs().mean() > 0.02


def test_two_views_differ_from_each_other() -> None:
    found, _ = views(torch.rand(1, 1, 16, 16), torch.zeros(1), count=8, augmentation=MOVED)
    for one in range(7):
        assert not torch.allclose(found[one], found[one + 1])
