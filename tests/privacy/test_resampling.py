"""Confidence limits off a noised histogram: the same at every witness, and as sure as they say."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.histogram import auc, mean
from privacy.resampling import (
    MAXIMUM_DRAWN,
    MICRO,
    REPLICATES,
    Cells,
    Limits,
    ResamplingError,
    _auc,
    _mean,
    limits,
    replicates,
)

BINS, SITES = 16, 5
ROWS = st.lists(st.integers(-40, 300), min_size=BINS, max_size=BINS)


def truth() -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(2, BINS) probabilities of X-ray-like scores: three of four with the finding, an AUC near .92."""
    middles = (np.arange(BINS) + 0.5) / BINS
    shapes = [middles**a * (1 - middles) ** b for a, b in ((0.3, 1.6), (3.0, 0.3))]
    return np.stack([0.26 * shapes[0] / shapes[0].sum(), 0.74 * shapes[1] / shapes[1].sum()])


def cells_of(counts: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> Cells:
    without, having = (tuple(row) for row in counts.tolist())
    return without, having


def drawn(rng: np.random.Generator, patients: int, noise_std: float) -> Cells:
    """The opened sum of `SITES` hospitals with so many held-out patients together."""
    counts = rng.multinomial(patients, truth().ravel()).reshape(2, BINS)
    for _ in range(SITES if noise_std else 0):
        counts = counts + np.rint(rng.normal(0.0, noise_std, counts.shape)).astype(np.int64)
    return cells_of(counts.astype(np.int64))


def true_auc() -> float:
    without, having = truth()
    below = np.cumsum(without) - without / 2
    return float((having * below).sum() / (without.sum() * having.sum()))


@pytest.mark.parametrize(("noise_std", "patients"), [(0.0, 1200), (3.0, 1200)])
def test_limits_cover_as_often_as_they_say(noise_std: float, patients: int) -> None:
    """In 40 studies on the same hospitals. Under noise the lower limit is the careful one, on which gates rest."""
    rng, wanted = np.random.default_rng(3), true_auc() * MICRO
    under = over = 0
    for _ in range(40):
        found = limits(
            drawn(rng, patients, noise_std), "AUC",
            noise_variance=Fraction(noise_std) ** 2 * SITES, confidence_micro=950_000,
        )  # fmt: skip
        assert found is not None
        under += wanted < found.low
        over += wanted > found.high
    # Of 2.5 and of 6 % so many come once in a hundred.
    assert under <= (4 if noise_std == 0 else 0) and over <= 7


def test_they_are_the_same_bits_on_every_machine_and_in_every_process() -> None:
    cells = drawn(np.random.default_rng(1), 1200, 5.0)
    found = replicates(cells, "AUC", Fraction(125))
    said = (
        "import hashlib\nfrom fractions import Fraction\nfrom privacy.resampling import replicates\n"
        f"print(hashlib.sha256(repr(replicates({cells!r}, 'AUC', Fraction(125))).encode()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", said], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == hashlib.sha256(repr(found).encode()).hexdigest()
    # Pinned: a witness of another version of anything would refuse what this one admits.
    exact = ((30, 20, 10, 5, 2, 1, 0, 0), (0, 0, 1, 3, 8, 15, 30, 40))
    assert limits(exact, "AUC", noise_variance=Fraction(4), confidence_micro=950_000) == PINNED


PINNED = Limits(929_459, 1_000_000)


@given(ROWS, ROWS)
def test_whole_numbers_find_the_figures_that_the_ledger_records(
    negatives: list[int], positives: list[int]
) -> None:
    histogram = np.array([negatives, positives], dtype=np.int64)
    expected, found = auc(histogram), _auc([negatives, positives])
    # Rounded counts can tip a row of half a patient, and no other.
    if expected is not None and found is not None:
        assert found == pytest.approx(expected * MICRO, abs=20)
    middle, average = mean(histogram[0]), _mean([negatives])
    if middle is not None and average is not None:
        assert average == pytest.approx(float(middle) * MICRO, abs=20)


@settings(max_examples=10, deadline=None)
@given(ROWS, ROWS)
def test_more_confidence_is_never_narrower(negatives: list[int], positives: list[int]) -> None:
    cells = (tuple(negatives), tuple(positives))
    found = [
        limits(cells, "AUC", noise_variance=Fraction(9), confidence_micro=sure)
        for sure in (800_000, 900_000, 950_000, 990_000)
    ]
    assert [one is None for one in found] in ([True] * 4, [False] * 4)
    pairs = [one for one in found if one is not None]
    for narrow, wide in pairwise(pairs):
        assert wide.low <= narrow.low <= narrow.high <= wide.high


def test_noise_that_is_drawn_again_makes_them_wider() -> None:
    cells = drawn(np.random.default_rng(5), 1200, 0.0)
    widths = []
    for std in (0, 5, 15):
        found = limits(cells, "AUC", noise_variance=Fraction(std**2 * SITES), confidence_micro=950_000)
        assert found is not None
        widths.append(found.high - found.low)
    assert widths[0] < widths[1] < widths[2] and widths[0] < 50_000


def test_of_more_patients_than_are_drawn_limits_are_no_narrower_than_of_those_drawn() -> None:
    rng = np.random.default_rng(6)
    many = cells_of(np.rint(truth() * 10 * MAXIMUM_DRAWN).astype(np.int64))
    fewer = drawn(rng, MAXIMUM_DRAWN, 0.0)
    wide, narrow = (
        limits(cells, "AUC", noise_variance=Fraction(0), confidence_micro=950_000) for cells in (many, fewer)
    )
    assert wide is not None and narrow is not None
    assert wide.high - wide.low == pytest.approx(narrow.high - narrow.low, rel=0.15)


def test_masks_have_limits_of_their_mean_dice() -> None:
    row = (0, 0, 1, 2, 3, 8, 20, 40, 60, 90, 120, 160, 200, 160, 90, 20)
    found = limits((row, (0,) * 16), "Dice", noise_variance=Fraction(20), confidence_micro=950_000)
    middle = mean(np.array(row, dtype=np.int64))
    assert found is not None and middle is not None
    assert found.low < middle * MICRO < found.high


def test_nobody_has_no_limits_and_noise_that_drowns_everybody_tells_nothing() -> None:
    assert limits(((0,) * 8, (-3,) * 8), "AUC", noise_variance=Fraction(1), confidence_micro=950_000) is None
    drowned = limits(((5,) * 8, (5,) * 8), "AUC", noise_variance=Fraction(10**30), confidence_micro=950_000)
    assert drowned is not None and drowned.low == 0 and drowned.high >= 900_000
    without = replicates(((50,) + (0,) * 7, (0,) * 8), "AUC", Fraction(0))
    assert without == (None,) * REPLICATES  # one label alone


@pytest.mark.parametrize("confidence_micro", [0, 499_999, 1_000_000])
def test_a_confidence_lies_between_a_half_and_one(confidence_micro: int) -> None:
    with pytest.raises(ResamplingError):
        limits(((5, 5), (5, 5)), "AUC", noise_variance=Fraction(1), confidence_micro=confidence_micro)
