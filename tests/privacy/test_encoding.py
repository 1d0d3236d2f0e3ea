from __future__ import annotations

import math
import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from privacy.encoding import Encoding, EncodingInvalidError, ValueOutOfRangeError, clip_coordinates, clip_l2
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


@st.composite
def _narrow(draw: st.DrawFn) -> Encoding:
    """Quantised to one or two bytes a lane, for as few sites as three and as many as still have levels."""
    lane_bits = draw(st.sampled_from([8, 16]))
    sites = draw(st.integers(3, 50))
    return Encoding(lane_bits=lane_bits, bound=draw(st.floats(1e-6, 1e6)), maximum_sites=sites)


@given(_narrow(), st.integers(0, 2**32 - 1))
def test_narrow_lanes_of_all_sites_add_up_in_their_own_width(encoding: Encoding, entropy: int) -> None:
    width = np.dtype(f"<i{encoding.lane_bits // 8}")
    random = np.random.default_rng(entropy)
    updates = random.uniform(-encoding.bound, encoding.bound, size=(encoding.maximum_sites, 20))
    updates[:, 0], updates[:, 1] = encoding.bound, -encoding.bound
    with NoiseStream() as stream:
        lanes = [encoding.encode(update, stream) for update in updates]
    wide = np.sum(lanes, axis=0, dtype=np.int64)
    narrow = np.sum([lane.astype(width) for lane in lanes], axis=0, dtype=width)
    assert (narrow == wide).all()
    decoded = encoding.decode_sum(narrow.astype(np.int32), sites=len(lanes))
    assert (np.abs(decoded - updates.sum(axis=0)) <= len(lanes) * 1.001 / encoding.scale).all()


@pytest.mark.parametrize(
    ("lane_bits", "sites", "levels"), [(8, 3, 42), (8, 5, 25), (16, 5, 6553), (16, 50, 655)]
)
def test_a_narrow_lane_has_these_levels(lane_bits: int, sites: int, levels: int) -> None:
    encoding = Encoding(lane_bits=lane_bits, bound=8.0, maximum_sites=sites)
    assert encoding.packing.site_limit == levels
    assert encoding.encode(np.array([-8.0, 8.0])).tolist() == [1 - levels, levels - 1]


@pytest.mark.parametrize("lane_bits", [8, 16, 22, 32])
@pytest.mark.parametrize("value", [-0.9, -0.5, -1e-3, 1e-3, 0.25, 0.7])
def test_narrow_rounding_has_no_bias(lane_bits: int, value: float) -> None:
    """The fraction alone decides; the mean over 100,000 roundings is within six standard errors."""
    encoding = Encoding(lane_bits=lane_bits, bound=1.0, maximum_sites=5)
    exact = float(np.float32(value)) * encoding.scale
    with NoiseStream() as stream:
        lanes = encoding.encode(np.full(100_000, value, dtype=np.float32), stream)
    up = exact - math.floor(exact)
    assert set(lanes.tolist()) <= {math.floor(exact), math.floor(exact) + 1}
    assert abs((lanes - math.floor(exact)).mean() - up) <= 6 * math.sqrt(up * (1 - up) / 100_000) + 1e-9


class _Fixed(NoiseStream):
    """A stream of one word, to look at the edges."""

    def __init__(self, word: int) -> None:
        super().__init__()
        self._word = word

    def fill(self, words: npt.NDArray[np.uint32] | npt.NDArray[np.uint64]) -> None:
        words[:] = self._word


@given(_encodings(), st.data())
def test_the_edges_of_rounding_are_exact(encoding: Encoding, data: st.DataObject) -> None:
    """The smallest word rounds down and the largest up, a whole number never moves, nothing leaves the lane."""
    most = encoding.packing.site_limit - 1
    whole = np.array([-most, 0, most, data.draw(st.integers(-most, most))])
    values = np.clip(whole / encoding.scale, -encoding.bound, encoding.bound)
    inner = data.draw(st.floats(-0.999, 0.999)) * encoding.bound
    for word in (0, 2**32 - 1):
        with _Fixed(word) as stream:
            lanes = encoding.encode(values, stream)
            one = int(encoding.encode(np.array([inner]), stream)[0])
        assert (np.abs(lanes - whole) <= 1).all() and lanes[1] == 0
        assert abs(one - inner * encoding.scale) <= 1.0
    power = Encoding(lane_bits=8, bound=24.0, maximum_sites=5)
    assert power.scale == 1.0
    for word in (0, 2**32 - 1):
        with _Fixed(word) as stream:
            assert power.encode(np.arange(-24.0, 25.0), stream).tolist() == list(range(-24, 25))
            assert power.encode(np.array([0.5, -0.5]), stream).tolist() == ([0, -1] if word == 0 else [1, 0])
    for word, lane in ((2**31 - 1, 3), (2**31, 4)):
        with _Fixed(word) as stream:
            assert power.encode(np.array([3.5], dtype=np.float32), stream).tolist() == [lane]


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 1000])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch, length: int, kind: type) -> None:
    encoding = Encoding(lane_bits=22, bound=1.0, maximum_sites=5)
    values = np.random.default_rng(1).uniform(-1, 1, length).astype(kind)
    monkeypatch.setattr("privacy.encoding._CHUNK", 1 << 20)
    whole, clipped = encoding.encode(values), clip_l2(values, 0.5)
    monkeypatch.setattr("privacy.encoding._CHUNK", 64)
    assert (encoding.encode(values) == whole).all()
    assert np.allclose(clip_l2(values, 0.5), clipped, rtol=1e-12 if kind is np.float64 else 1e-6, atol=0)
    with NoiseStream() as stream:
        assert (np.abs(encoding.encode(values, stream) - values * encoding.scale) <= 1).all()
    half = np.empty(length, dtype=np.float32)
    assert encoding.decode_sum_into(half, whole, sites=1) is half
    assert (half == encoding.decode_sum(whole, sites=1).astype(np.float32)).all()
    assert (encoding.decode_sum(whole, sites=1) == whole / encoding.scale).all()


@pytest.mark.parametrize("place", [0, 64, 129])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.0000001, -1.0000001])
def test_a_bad_value_in_any_chunk_is_refused(
    monkeypatch: pytest.MonkeyPatch, place: int, value: float
) -> None:
    monkeypatch.setattr("privacy.encoding._CHUNK", 64)
    values = np.zeros(130, dtype=np.float32)
    values[place] = value
    with NoiseStream() as stream:
        for rounding in (None, stream):
            with pytest.raises(ValueOutOfRangeError):
                Encoding(lane_bits=22, bound=1.0, maximum_sites=5).encode(values, rounding)


def test_the_bound_is_not_rounded_to_single_precision() -> None:
    """float32(0.7) is below 0.7 and float32(0.1) above 0.1: compared as float32, either would pass as the bound."""
    for bound, fits in ((0.7, True), (0.1, False)):
        encoding = Encoding(lane_bits=22, bound=bound, maximum_sites=5)
        if fits:
            encoding.encode(np.array([bound], dtype=np.float32))
        else:
            with pytest.raises(ValueOutOfRangeError):
                encoding.encode(np.array([bound], dtype=np.float32))


def test_results_land_where_they_are_asked_to() -> None:
    encoding, update = Encoding(lane_bits=22, bound=1.0, maximum_sites=5), np.full(9, 3, dtype=np.float32)
    assert clip_l2(update, 1.0, out=update) is update
    lanes = np.empty(9, dtype=np.int32)
    assert encoding.encode(update, out=lanes) is lanes and lanes.any()
    for wrong in (np.empty(8, np.int32), np.empty(9, np.int64)):
        with pytest.raises(EncodingInvalidError):
            encoding.encode(update, out=wrong)  # type: ignore[arg-type]
    with pytest.raises(EncodingInvalidError):
        clip_l2(update, 1.0, out=np.empty(9))
    with pytest.raises(EncodingInvalidError):
        encoding.decode_sum_into(np.empty(8), lanes, sites=1)


FINITE_32 = st.floats(-float(np.float32(3e38)), float(np.float32(3e38)), width=32)


@given(st_numpy.arrays(np.float32, st.integers(0, 20), elements=FINITE_32), st.floats(1e-12, 1e12))
def test_single_precision_is_clipped_below_the_bound_in_double(
    vector: npt.NDArray[np.float32], bound: float
) -> None:
    before = vector.copy()
    clipped = clip_l2(vector, bound)
    assert clipped.dtype == np.float32 and (vector == before).all()
    assert float(np.linalg.norm(clipped.astype(np.float64))) <= bound
    norm = float(np.linalg.norm(vector.astype(np.float64)))
    if norm <= bound:
        assert (clipped == vector).all()
    else:
        assert np.allclose(clipped, vector * np.float64(bound / norm), rtol=3e-6, atol=1e-44)
    Encoding(lane_bits=22, bound=bound, maximum_sites=5).encode(clipped)


def test_clipping_what_can_hardly_shrink_still_ends_within_the_bound() -> None:
    tiny = np.full(10_000, 1e-45, dtype=np.float32)
    assert float(np.linalg.norm(clip_l2(tiny, 1e-44).astype(np.float64))) <= 1e-44
    assert float(np.linalg.norm(clip_l2(np.full(100, 5e-324), 2e-323))) <= 2e-323
    assert float(np.linalg.norm(clip_l2(np.full(100, 1.7e308), 1e-300))) <= 1e-300


def test_numbers_of_other_kinds_are_refused() -> None:
    encoding = Encoding(lane_bits=22, bound=1.0, maximum_sites=5)
    for kind in (np.float16, np.int64, np.complex128):
        with pytest.raises(EncodingInvalidError):
            encoding.encode(np.zeros(3, dtype=kind))
        with pytest.raises(ValueOutOfRangeError):
            clip_l2(np.zeros(3, dtype=kind), 1.0)


def test_memory_of_a_large_vector_is_bounded() -> None:
    """Beside its result, nothing as long as the vector: 125 million pass in 1 GB, the lanes and a clipped copy."""
    values = np.full(4_000_000, 1e-4, dtype=np.float32)
    encoding = Encoding(lane_bits=22, bound=0.1, maximum_sites=5)
    tracemalloc.start()
    try:
        with NoiseStream() as stream:
            lanes = encoding.encode(clip_l2(values, 0.1), stream)
        encoding.decode_sum_into(values, lanes, sites=1)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes <= 2 * values.nbytes + (4 << 20)


@given(st.floats(1e-6, 1e6), st.sampled_from([np.float32, np.float64]))
def test_a_vector_clipped_by_coordinate_always_encodes(bound: float, kind: type) -> None:
    vector = np.array([bound, -bound, 1.5 * bound, -1e9, 0.25 * bound], dtype=kind)
    clip_coordinates(vector, bound)
    assert float(np.abs(vector).max()) <= bound and vector[4] == kind(0.25 * bound)
    Encoding(lane_bits=16, bound=bound, maximum_sites=5).encode(vector)
