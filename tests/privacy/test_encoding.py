from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from privacy.encoding import Encoding, EncodingInvalidError, ValueOutOfRangeError, clip_l2
from privacy.noise import NoiseStream
from privacy.packing import LaneOverflowError, PackingInvalidError

FINITE = st.floats(-1e300, 1e300, allow_nan=False)


@st.composite
def _encodings(draw: st.DrawFn) -> Encoding:
    lane_bits = draw(st.integers(9, 32))
    most = min(50, ((1 << (lane_bits - 1)) - 1) // 2)
    return Encoding(
        lane_bits=lane_bits, bound=draw(st.floats(1e-9, 1e9)), maximum_sites=draw(st.integers(2, most))
    )


@given(_encodings(), st.data(), st.booleans())
def test_a_decoded_sum_is_the_sum_within_the_rounding(
    encoding: Encoding, data: st.DataObject, stochastic: bool
) -> None:
    value = st.one_of(
        st.floats(-encoding.bound, encoding.bound), st.sampled_from([-encoding.bound, encoding.bound, 0.0])
    )
    rows = data.draw(
        st.lists(st.lists(value, min_size=4, max_size=4), min_size=1, max_size=encoding.maximum_sites)
    )
    with NoiseStream() as stream:
        lanes = [encoding.encode(np.array(row), stream if stochastic else None) for row in rows]
    decoded = encoding.decode_sum(np.sum(lanes, axis=0, dtype=np.int32), sites=len(rows))
    step = (1.0 if stochastic else 0.5) / encoding.scale
    exact = np.array(rows).sum(axis=0)
    assert (np.abs(decoded - exact) <= len(rows) * (step + encoding.bound * 1e-14)).all()


@given(_encodings(), st.sampled_from([-1.0, 1.0]))
def test_every_site_at_the_bound_fits_the_lane(encoding: Encoding, sign: float) -> None:
    extreme = np.full(64, sign * encoding.bound)
    with NoiseStream() as stream:
        for lanes in (encoding.encode(extreme), encoding.encode(extreme, stream)):
            assert (np.abs(lanes) * encoding.maximum_sites < 1 << (encoding.lane_bits - 1)).all()
            # And the range is used: all but the slack of two steps.
            assert (np.abs(lanes) >= encoding.packing.site_limit - 2).all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.0000001, -1.0000001, 1e300])
def test_what_does_not_fit_is_refused_and_never_saturated(value: float) -> None:
    encoding = Encoding(lane_bits=22, bound=1.0, maximum_sites=5)
    with pytest.raises(ValueOutOfRangeError) as refusal:
        encoding.encode(np.array([0.0, value]))
    assert refusal.value.code == "privacy.value-out-of-range"
    assert "nan" not in str(refusal.value) and "1.0000001" not in str(refusal.value)


def test_stochastic_rounding_has_no_bias() -> None:
    encoding = Encoding(lane_bits=22, bound=1.0, maximum_sites=50)
    value = 1000.3 / encoding.scale
    with NoiseStream() as stream:
        lanes = encoding.encode(np.full(100_000, value), stream)
    assert set(lanes.tolist()) == {1000, 1001}
    assert abs(lanes.mean() - 1000.3) < 6 * math.sqrt(0.21 / 100_000)
    assert set(encoding.encode(np.full(10, value)).tolist()) == {1000}


def test_single_precision_updates_encode() -> None:
    encoding = Encoding(lane_bits=22, bound=0.1, maximum_sites=5)
    update = clip_l2(np.linspace(-1, 1, 1000, dtype=np.float32), 0.1)
    decoded = encoding.decode_sum(encoding.encode(update), sites=1)
    assert np.abs(decoded - update).max() <= 0.5001 / encoding.scale


def test_counts_are_whole_and_refused_when_too_large() -> None:
    encoding = Encoding(lane_bits=22, bound=1.0, maximum_sites=50)
    counts = np.array([0, 41_943, -41_943, 7], dtype=np.int64)
    lanes = encoding.encode_counts(counts)
    assert (lanes == counts).all() and lanes is not counts
    with pytest.raises(LaneOverflowError):
        encoding.encode_counts(np.array([41_944], dtype=np.int64))
    with pytest.raises(EncodingInvalidError):
        encoding.encode_counts(np.array([1.0]))


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan, math.inf, 5e-324, 1.7e308])
def test_a_bound_without_meaning_is_refused(bound: float) -> None:
    with pytest.raises(EncodingInvalidError) as refusal:
        Encoding(lane_bits=22, bound=bound, maximum_sites=5)
    assert refusal.value.code == "privacy.encoding-invalid"


def test_the_narrowest_lane_still_has_room_for_the_most_sites() -> None:
    encoding = Encoding(lane_bits=8, bound=1.0, maximum_sites=50)
    assert encoding.encode(np.array([-1.0, 0.0, 1.0])).tolist() == [-1, 0, 1]


def test_decoding_refuses_more_than_the_sites_can_have_sent() -> None:
    encoding = Encoding(lane_bits=22, bound=1.0, maximum_sites=5)
    lane = np.array([2 * encoding.packing.site_limit], dtype=np.int32)
    assert encoding.decode_sum(lane, sites=2)[0] == pytest.approx(2.0, rel=1e-4)
    with pytest.raises(LaneOverflowError):
        encoding.decode_sum(lane, sites=1)
    for sites in (0, 6):
        with pytest.raises(EncodingInvalidError):
            encoding.decode_sum(lane, sites=sites)


@given(st_numpy.arrays(np.float64, st.integers(0, 20), elements=FINITE), st.floats(1e-12, 1e12))
def test_a_clipped_vector_is_within_the_bound_and_keeps_its_direction(
    vector: npt.NDArray[np.float64], bound: float
) -> None:
    clipped = clip_l2(vector, bound)
    assert float(np.linalg.norm(clipped)) <= bound
    assert (np.abs(clipped) <= bound).all()
    with np.errstate(over="ignore"):
        norm = float(np.linalg.norm(vector))
    if norm <= bound:
        assert (clipped == vector).all()
    elif math.isfinite(norm) and norm > 0:
        assert np.allclose(clipped, vector * (bound / norm), rtol=1e-9, atol=bound * 1e-12)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_clipping_refuses_what_has_no_norm(value: float) -> None:
    with pytest.raises(ValueOutOfRangeError):
        clip_l2(np.array([0.0, value]), 1.0)
    for bound in (0.0, -1.0, value):
        with pytest.raises(EncodingInvalidError):
            clip_l2(np.array([0.0]), bound)


def test_packing_limits_hold_for_encodings_too() -> None:
    with pytest.raises(PackingInvalidError):
        Encoding(lane_bits=45, bound=1.0, maximum_sites=5)


def test_clipping_does_not_overflow() -> None:
    assert np.allclose(clip_l2(np.array([3e200, -4e200]), 5.0), [3.0, -4.0])


def test_a_table_of_values_is_refused() -> None:
    encoding = Encoding(lane_bits=22, bound=1.0, maximum_sites=5)
    with NoiseStream() as stream, pytest.raises(EncodingInvalidError):
        encoding.encode(np.zeros((2, 3)), stream)
    with pytest.raises(ValueOutOfRangeError):
        clip_l2(np.zeros((2, 3)), 1.0)


def test_lanes_are_checked_even_if_the_scale_were_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Encoding, "scale", property(lambda self: 1e7))
    with pytest.raises(LaneOverflowError):
        Encoding(lane_bits=22, bound=1.0, maximum_sites=5).encode(np.array([1.0]))
