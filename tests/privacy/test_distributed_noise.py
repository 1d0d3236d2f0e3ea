"""Noise that is shared out, told as what can go wrong with it: who drops out, who colludes, what rounding adds."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy import rdp
from privacy.accounting import curve
from privacy.discrete_gaussian import discrete_gaussian
from privacy.distributed_noise import NoiseShare, ResolutionError, ShareOutOfRangeError, noise_share
from privacy.encoding import Encoding, EncodingInvalidError
from privacy.mechanisms import DistributedGaussian, SubsampledGaussian
from privacy.noise import NoiseStream
from privacy.packing import LaneOverflowError, Packing

WIDE = Packing(lane_bits=32, maximum_sites=4)
SLACK = Fraction(1025, 1024)


def share(*, z: float = 1.0, moved: float = 0.01, bound: float = 1.0, shares: int = 2) -> NoiseShare:
    return noise_share(
        noise_multiplier=z, sensitivity=Fraction(moved), bound=bound, shares=shares, packing=WIDE
    )


def encoding(terms: NoiseShare, *, bound: float = 1.0) -> Encoding:
    return Encoding(lane_bits=32, bound=bound, maximum_sites=4, lanes_per_unit=terms.scale)


@settings(max_examples=200, deadline=None)
@given(
    z=st.floats(0.05, 50), moved=st.floats(1e-9, 1e3), ratio=st.floats(0.5, 300), shares=st.integers(1, 50),
    lane_bits=st.integers(16, 32), sites=st.integers(1, 50),
)  # fmt: skip
def test_the_claim_holds_exactly_and_the_noise_fits_or_the_plan_is_refused(
    z: float, moved: float, ratio: float, shares: int, lane_bits: int, sites: int
) -> None:
    packing = Packing(lane_bits=lane_bits, maximum_sites=sites)
    bound = moved * ratio
    try:
        terms = noise_share(
            noise_multiplier=z, sensitivity=Fraction(moved), bound=bound, shares=shares, packing=packing
        )
    except ResolutionError:
        return
    sigma, moved_lanes = 2**terms.bits, Fraction(terms.scale) * Fraction(moved) * SLACK
    # sigma^2 h >= (z * sensitivity after rounding)^2, in fractions; and not by more than the last bit of a double.
    assert sigma**2 * shares >= (Fraction(z) * moved_lanes) ** 2
    assert sigma**2 * shares <= (Fraction(z) * moved_lanes) ** 2 * (1 + Fraction(1, 2**51))
    assert Fraction(terms.scale) * Fraction(bound) + 13 * sigma <= packing.site_limit
    assert Encoding(
        lane_bits=lane_bits, bound=bound, maximum_sites=sites, lanes_per_unit=terms.scale
    ).encode(np.array([bound, -bound])).tolist() == [
        round(bound * terms.scale), -round(bound * terms.scale)
    ]  # fmt: skip


def test_everybody_finds_the_same_numbers() -> None:
    terms = share(z=0.9, moved=0.1 * 1.5 / 128, bound=0.05, shares=3)
    assert (terms.bits, terms.scale.hex()) == (22, "0x1.9a28de7ce5366p+32")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_one_patient_never_moves_the_rounded_update_further_than_is_charged(seed: int, size: float) -> None:
    """The update of a site with and without a patient, both clipped, rounded and bounded as a site does it."""
    from privacy.encoding import clip_coordinates, clip_l2

    random = np.random.default_rng(seed)
    moved, bound, clip, d = 0.01, 0.05, 0.4, 500
    terms = share(moved=moved, bound=bound)
    terms.require_resolution(d, clip_l2=clip)
    others = random.normal(size=d) * size * clip / math.sqrt(d)
    patient = random.normal(size=d)
    patient *= moved / np.linalg.norm(patient)
    lanes = []
    for update in (others, others + patient):
        sent = clip_l2(update, clip)
        clip_coordinates(sent, bound)
        lanes.append(encoding(terms, bound=bound).encode(sent).astype(object))
    apart = int(((lanes[0] - lanes[1]) ** 2).sum())
    assert apart <= (Fraction(terms.scale) * Fraction(moved) * SLACK) ** 2


def test_a_network_too_large_for_the_lanes_is_refused_before_any_noise() -> None:
    terms = share(moved=0.01, bound=1.0)
    terms.require_resolution(10_000, clip_l2=1.0)
    with pytest.raises(ResolutionError) as refused:
        terms.require_resolution(2**30, clip_l2=1.0)
    assert refused.value.code == "privacy.resolution" and "coordinate_clip" in refused.value.remedy
    with pytest.raises(ResolutionError):  # a clip so loose that its own rounding tells
        terms.require_resolution(10_000, clip_l2=1e12)
    # Narrower coordinates leave room for a finer lattice, as the remedy says.
    share(moved=0.01, bound=0.05).require_resolution(10_000_000, clip_l2=1.0)


def test_lanes_without_room_are_refused() -> None:
    narrow = Packing(lane_bits=16, maximum_sites=50)
    with pytest.raises(ResolutionError, match="no room"):
        noise_share(noise_multiplier=1.0, sensitivity=Fraction(1, 100), bound=8.0, shares=2, packing=narrow)
    with pytest.raises(ResolutionError):
        share(shares=0)


def test_whoever_drops_out_and_whoever_colludes_the_rest_still_hides_a_patient() -> None:
    """Five sites; the plan needs four, and one of those may collude: three shares are counted on."""
    terms = share(z=1.2, moved=0.01, bound=0.5, shares=4 - 1)
    needed = Fraction(1.2) * Fraction(terms.scale) * Fraction(0.01) * SLACK
    count = 40_000
    with NoiseStream() as stream:
        noise = [discrete_gaussian(stream, count, bits=terms.bits) for _ in range(5)]
    # 1. One site drops out after it reported nothing, and another subtracts the noise that it added.
    seen = sum(noise[1:], np.zeros(count, dtype=np.int64)) - noise[4]
    assert (2**terms.bits) ** 2 * 3 >= needed**2, "claimed of what is left"
    assert seen.astype(float).var() == pytest.approx(float(needed**2), rel=6 * math.sqrt(2 / count) + 1e-2)
    # 2. A second colluder is more than the plan says: what is left no longer carries the claim.
    assert (2**terms.bits) ** 2 * 2 < needed**2


def test_a_site_that_adds_too_little_noise_takes_it_from_the_others() -> None:
    """It cannot be seen in the sum (docs/distributed-noise.md): `colluding` is what the plan allows for."""
    terms = share(z=1.0, shares=3)
    claimed = Fraction(1.0) * Fraction(terms.scale) * Fraction(0.01) * SLACK
    honest_shares = 2  # of the three that are counted on, one is zero
    assert (2**terms.bits) ** 2 * honest_shares < claimed**2


def test_the_sum_of_sites_is_the_plain_sum_of_their_whole_numbers() -> None:
    terms = share(moved=0.01, bound=0.5)
    coded = encoding(terms, bound=0.5)
    random = np.random.default_rng(0)
    updates = [random.uniform(-0.4, 0.4, 1_000) for _ in range(4)]
    with NoiseStream() as stream:
        lanes = [terms.added(coded.encode(update), stream, packing=WIDE) for update in updates]
    total = np.sum(lanes, axis=0, dtype=np.int64).astype(np.int32)
    decoded = coded.decode_sum(total, sites=4)
    sigma = 2**terms.bits * 2 / terms.scale
    assert np.abs(decoded - np.sum(updates, axis=0)).max() < 7 * sigma + 4 / terms.scale
    assert np.std(decoded - np.sum(updates, axis=0)) == pytest.approx(sigma, rel=0.15)


def test_what_does_not_fit_is_refused_before_the_noise_and_noise_that_left_its_bounds_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terms = share()
    room = WIDE.site_limit - (13 << terms.bits)
    with NoiseStream() as stream:
        with pytest.raises(LaneOverflowError):
            terms.added(np.array([room + 1], dtype=np.int32), stream, packing=WIDE)
        terms.added(np.array([room, -room], dtype=np.int32), stream, packing=WIDE)
        monkeypatch.setattr(
            "privacy.distributed_noise.discrete_gaussian",
            lambda stream, count, bits: np.full(count, 14 << bits, dtype=np.int64),
        )
        with pytest.raises(ShareOutOfRangeError) as refused:
            terms.added(np.array([room], dtype=np.int32), stream, packing=WIDE)
    assert refused.value.code == "privacy.share-out-of-range"
    with pytest.raises(EncodingInvalidError):
        Encoding(lane_bits=32, bound=1.0, maximum_sites=4, lanes_per_unit=2.0**30)


@pytest.mark.parametrize("length", [0.0, 0.3, 4.0])
def test_honest_noise_passes_the_norm_and_a_poisoned_sum_does_not(length: float) -> None:
    """Four sites, clip 1 each: the noised sum's norm is 20 times theirs, and still what they sent is told from it."""
    terms = share(z=2.0, moved=0.5, bound=1.0)
    d, sites = 30_000, 4
    vector = np.zeros(d)
    vector[0] = vector[1] = length / sites / math.sqrt(2)
    poison = vector.copy()
    poison[2:] = 0.25
    with NoiseStream() as stream:
        coded = encoding(terms)
        sums = []
        for update in (vector, poison):
            lanes = [terms.added(coded.encode(update), stream, packing=WIDE) for _ in range(sites)]
            sums.append(np.sum(lanes, axis=0, dtype=np.int64).astype(np.int32))
    assert coded.sum_norm_micro(sums[0], sites=sites) > 20 * 4_000_000, "noise alone"
    assert coded.sum_norm_micro(sums[0], sites=sites, share=terms) <= math.ceil(length * 1e6)
    assert coded.sum_norm_micro(sums[1], sites=sites, share=terms) > 4_000_000


def test_sums_of_discrete_gaussians_cost_next_to_nothing_more_and_never_less() -> None:
    for rate in (0.05, 1.0):
        base = SubsampledGaussian(noise_multiplier=0.8, sampling_rate=rate, steps=1)
        shared = DistributedGaussian(
            noise_multiplier=0.8, sampling_rate=rate, steps=1, shares=50, share_bits=6
        )
        alone = DistributedGaussian(noise_multiplier=0.8, sampling_rate=rate, steps=1, shares=1, share_bits=6)
        costs = zip(rdp.one_use(base), rdp.one_use(shared), rdp.one_use(alone), strict=True)
        assert all(single == own < more for own, more, single in costs), "charged, if by the last digit"
        assert curve(shared).rdp_micro == curve(base).rdp_micro


@pytest.mark.parametrize(
    "fields",
    [{"shares": 0}, {"shares": 51}, {"shares": True}, {"share_bits": 5}, {"share_bits": 25}, {"shares": 2.0}],
)
def test_shares_without_meaning_are_refused(fields: dict[str, int]) -> None:
    whole = {"noise_multiplier": 1.0, "sampling_rate": 0.1, "steps": 1, "shares": 3, "share_bits": 20}
    with pytest.raises(ValueError, match="shares"):
        DistributedGaussian(**{**whole, **fields})  # type: ignore[arg-type]
