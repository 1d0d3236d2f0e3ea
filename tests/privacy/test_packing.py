from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.packing import (
    MAXIMUM_LANE_BITS,
    PLAIN_MODULUS,
    LaneOverflowError,
    Lanes,
    Packing,
    PackingInvalidError,
    Slots,
    SumOutOfRangeError,
)


def _lanes(values: list[int]) -> Lanes:
    return np.array(values, dtype=np.int32)


def _slots(values: list[int]) -> Slots:
    return np.array(values, dtype=np.int64)


def _centred(slots: Slots) -> Slots:
    """What a ciphertext does to slots: modulo t, read back in (-t/2, t/2)."""
    residues = slots % PLAIN_MODULUS
    return np.where(residues > PLAIN_MODULUS // 2, residues - PLAIN_MODULUS, residues)


@st.composite
def _packings(draw: st.DrawFn) -> Packing:
    lane_bits = draw(st.integers(8, MAXIMUM_LANE_BITS))
    most = min(50, (1 << (lane_bits - 1)) - 1)
    return Packing(lane_bits=lane_bits, maximum_sites=draw(st.integers(2, most)))


@st.composite
def _sites(draw: st.DrawFn) -> tuple[Packing, list[list[int]]]:
    packing = draw(_packings())
    limit = packing.site_limit
    value = st.one_of(st.integers(-limit, limit), st.sampled_from([-limit, limit, 0, -1, 1]))
    count = draw(st.integers(1, 30))
    row = st.lists(value, min_size=count, max_size=count)
    return packing, draw(st.lists(row, min_size=1, max_size=packing.maximum_sites))


@given(_sites())
def test_sums_of_slots_are_sums_of_lanes(case: tuple[Packing, list[list[int]]]) -> None:
    packing, rows = case
    residues = sum((packing.pack(_lanes(row)) % PLAIN_MODULUS for row in rows), start=_slots([0]))
    opened = packing.unpack(_centred(residues), lane_count=len(rows[0]), sites=len(rows))
    assert opened.tolist() == [sum(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("lane_bits", [8, 11, 14, 22, 32])
@pytest.mark.parametrize("sites", [2, 3, 5, 20, 50])
def test_every_pattern_of_extremes_is_exact(lane_bits: int, sites: int) -> None:
    packing = Packing(lane_bits=lane_bits, maximum_sites=sites)
    k = packing.lanes_per_slot
    signs = np.array(np.meshgrid(*[[-1, 0, 1]] * k)).reshape(-1).astype(np.int32)
    lanes = signs * np.int32(packing.site_limit)
    opened = packing.unpack(_centred(packing.pack(lanes) * sites), lane_count=len(lanes), sites=sites)
    assert (opened == lanes * sites).all()


def test_a_slot_of_a_44_bit_prime_takes_two_lanes_of_22_bits() -> None:
    packing = Packing(lane_bits=22, maximum_sites=50)
    assert (packing.lanes_per_slot, packing.site_limit, packing.slots_for(1_000_001)) == (2, 41_943, 500_001)
    assert packing.pack(_lanes([-1, 1])).tolist() == [2**22 - 1]
    assert PLAIN_MODULUS % 8192 == 1 and PLAIN_MODULUS.bit_length() == 45
    assert pow(3, PLAIN_MODULUS - 1, PLAIN_MODULUS) == 1


@given(_packings(), st.sampled_from([-1, 1]))
def test_a_lane_beyond_a_sites_share_is_refused(packing: Packing, sign: int) -> None:
    assert packing.pack(_lanes([sign * packing.site_limit])).shape == (1,)
    with pytest.raises(LaneOverflowError) as refusal:
        packing.pack(_lanes([0, sign * (packing.site_limit + 1)]))
    assert refusal.value.code == "privacy.lane-overflow"


def test_the_smallest_integer_is_refused_too() -> None:
    # abs(-2^31) is -2^31: a check by absolute value would let it pass.
    with pytest.raises(LaneOverflowError):
        Packing(lane_bits=22, maximum_sites=3).pack(_lanes([-(2**31)]))


@pytest.mark.parametrize(("lane_bits", "sites"), [(7, 3), (33, 3), (22, 0), (22, 51), (22, -1)])
def test_packings_that_do_not_exist_are_refused(lane_bits: int, sites: int) -> None:
    with pytest.raises(PackingInvalidError) as refusal:
        Packing(lane_bits=lane_bits, maximum_sites=sites)
    assert refusal.value.code == "privacy.packing-invalid"


@pytest.mark.parametrize(
    "lanes", [np.zeros((2, 2), dtype=np.int32), np.zeros(2, dtype=np.int64), np.zeros(2, dtype=np.float64)]
)
def test_lanes_of_another_shape_or_type_are_refused(lanes: Lanes) -> None:
    with pytest.raises(PackingInvalidError):
        Packing(lane_bits=22, maximum_sites=3).pack(lanes)


def test_an_impossible_sum_is_refused() -> None:
    packing = Packing(lane_bits=22, maximum_sites=3)
    limit = packing.site_limit
    good = packing.pack(_lanes([limit, -limit, 1]))
    assert packing.unpack(good * 3, lane_count=3, sites=3).tolist() == [3 * limit, -3 * limit, 3]
    for slots, lane_count, sites in (
        (good * 3, 3, 2),  # More in a lane than two sites can put there.
        (packing.pack(_lanes([1, 2, 3, 4])), 3, 3),  # Something in the zero filling.
        (_slots([2**44, 0]), 3, 3),  # Above every lane.
        (_slots([-(2**44), 0]), 3, 3),
    ):
        with pytest.raises(SumOutOfRangeError) as refusal:
            packing.unpack(slots, lane_count=lane_count, sites=sites)
        assert refusal.value.code == "privacy.sum-out-of-range"
    for lane_count, sites in ((2, 3), (5, 3), (3, 0), (3, 4)):
        with pytest.raises(PackingInvalidError):
            packing.unpack(good, lane_count=lane_count, sites=sites)
