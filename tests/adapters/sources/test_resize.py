"""Area resizing keeps mean, range and constants."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adapters.sources.resize import area_resize, area_resize_of, nearest_resize_of

sizes = st.integers(1, 40)


@given(sizes, sizes, sizes, sizes, st.integers(0, 2**32 - 1))
def test_mean_and_range_are_kept(height: int, width: int, new_height: int, new_width: int, seed: int) -> None:
    image = np.random.default_rng(seed).random((3, height, width))
    resized = area_resize(image, height_px=new_height, width_px=new_width)
    assert resized.shape == (3, new_height, new_width) and resized.dtype == np.float32
    assert resized.min() >= image.min() - 1e-6 and resized.max() <= image.max() + 1e-6
    np.testing.assert_allclose(resized.mean(axis=(1, 2)), image.mean(axis=(1, 2)), atol=1e-6)


def test_blocks_are_averaged() -> None:
    image = np.array([[0.0, 1.0, 0.5, 0.5], [1.0, 0.0, 0.5, 0.5]])
    assert area_resize(image, height_px=1, width_px=2).tolist() == [[0.5, 0.5]]


@given(sizes, sizes)
def test_ones_stay_within_one(size: int, target: int) -> None:
    assert area_resize(np.ones((size, size)), height_px=target, width_px=target).max() <= 1.0


lengths = st.integers(1, 9)
shapes = st.tuples(lengths, lengths, lengths)


@given(shapes, shapes, st.integers(0, 2**32 - 1))
def test_a_volume_keeps_mean_and_range(shape: tuple[int, ...], target: tuple[int, ...], seed: int) -> None:
    volume = np.random.default_rng(seed).integers(-1000, 1000, shape).astype(np.int16)
    resized = area_resize_of(volume, target)
    assert resized.shape == target and resized.dtype == np.float64
    assert resized.min() >= volume.min() - 1e-9 and resized.max() <= volume.max() + 1e-9
    np.testing.assert_allclose(resized.mean(), volume.mean(), atol=1e-9)
    if shape == target:
        assert np.array_equal(resized, volume)


@given(shapes, shapes, st.integers(0, 2**32 - 1))
def test_a_mask_keeps_its_values_and_its_places(
    shape: tuple[int, ...], target: tuple[int, ...], seed: int
) -> None:
    mask = np.random.default_rng(seed).integers(0, 3, shape).astype(np.uint8)
    resized = nearest_resize_of(mask, target)
    assert resized.shape == target and set(resized.ravel()) <= set(mask.ravel())
    assert np.array_equal(nearest_resize_of(mask, shape), mask)
    enlarged = nearest_resize_of(mask, tuple(3 * length for length in shape))
    assert np.array_equal(enlarged[1::3, 1::3, 1::3], mask)
