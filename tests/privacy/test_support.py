from __future__ import annotations

import math

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

import privacy.support as support_module
from privacy.packing import Lanes
from privacy.support import (
    LARGEST_DIMENSION,
    SupportInvalidError,
    check_support,
    gather,
    scatter,
    support,
    support_seed,
    support_size,
)

PLAN = "5f" * 32
FIRST = [39374, 56840, 122914, 323949, 505962, 610842, 635440, 655881, 767552, 772337]
SECOND = [39374, 56840, 122914, 156249, 444107, 512765, 767552, 772337, 805448, 836505]


def _one_word_after_the_other(dimension: int, keep: float, seed: bytes, previous: Lanes | None) -> list[int]:
    """The module's text, read aloud."""
    k = max(1, math.ceil(keep * dimension))
    kept: list[int] = []
    if previous is not None:
        ranked = sorted((-abs(int(lane)), place) for place, lane in enumerate(previous) if lane)
        kept = [place for _, place in ranked[: k // 2]]
    others = [place for place in range(dimension) if place not in kept]
    wanted = k - len(kept)
    leave_out = wanted > len(others) // 2
    keystream = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()
    drawn: list[int] = []
    while len(drawn) < (len(others) - wanted if leave_out else wanted):
        word = int.from_bytes(keystream.update(bytes(4)), "little")
        place = word % dimension
        if word < 2**32 // dimension * dimension and place not in drawn and place not in kept:
            drawn.append(place)
    return sorted(kept + ([place for place in others if place not in drawn] if leave_out else drawn))


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 120), st.floats(0.001, 1), st.binary(min_size=32, max_size=32))
def test_a_support_is_what_its_description_says(
    data: st.DataObject, dimension: int, keep: float, seed: bytes
) -> None:
    lanes = st.lists(
        st.one_of(st.just(0), st.integers(-3, 3), st.integers(-(2**31), 2**31 - 1)),
        min_size=dimension,
        max_size=dimension,
    )
    previous = data.draw(st.none() | lanes.map(lambda row: np.array(row, dtype=np.int32)))
    chosen = support(dimension, keep, seed=seed, previous=previous)
    assert chosen.tolist() == _one_word_after_the_other(dimension, keep, seed, previous)
    assert len(chosen) == support_size(dimension, keep)
    check_support(chosen, dimension)


def test_a_support_is_the_same_on_every_machine_for_ever() -> None:
    """Golden values: a site with another version would send other coordinates under the same masks."""
    first = support(1_000_000, 1e-5, seed=support_seed(PLAN, 1), previous=None)
    previous = scatter(np.arange(-5, 5, dtype=np.int32), first, 1_000_000)
    second = support(1_000_000, 1e-5, seed=support_seed(PLAN, 2), previous=previous)
    assert first.tolist() == FIRST
    assert second.tolist() == SECOND
    assert len(set(first.tolist()) & set(second.tolist())) == 5


def test_words_that_would_favour_a_coordinate_are_passed_over() -> None:
    """2^32 is no multiple of 1,500,000: the highest words would favour the lowest coordinates."""
    dimension, seed = 1_500_000, support_seed(PLAN, 6)
    keystream = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()
    words = np.frombuffer(keystream.update(bytes(4 * 200_000)), dtype="<u4").astype(np.int64)
    usable = 2**32 // dimension * dimension
    assert (words[:150_000] >= usable).any()
    drawn = list(dict.fromkeys((words[words < usable] % dimension).tolist()))[:150_000]
    assert support(dimension, 0.1, seed=seed, previous=None).tolist() == sorted(drawn)


def test_batches_of_the_keystream_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = support_seed(PLAN, 3)
    before = support(5_000, 0.3, seed=seed, previous=None)
    monkeypatch.setattr(support_module, "_FEWEST_WORDS", 4)
    monkeypatch.setattr(support_module, "_MOST_WORDS", 12)
    assert (support(5_000, 0.3, seed=seed, previous=None) == before).all()


def test_every_site_sends_the_same_coordinates_whatever_it_learned() -> None:
    """The attack: a coordinate that only one site sends opens as that site's value."""
    previous = scatter(np.array([7, -9, 3], dtype=np.int32), np.array([1, 50, 99]), 100)
    updates = np.random.default_rng(0).normal(size=(5, 100))
    sent = []
    for update in updates:
        chosen = support(100, 0.1, seed=support_seed(PLAN, 4), previous=previous)
        gather(update, chosen)
        sent.append(chosen.tolist())
    assert all(one == sent[0] for one in sent) and {1, 50, 99} <= set(sent[0])


def test_every_coordinate_comes_round() -> None:
    """Even with a previous sum that always favours the same ones."""
    loud = np.zeros(1_000, dtype=np.int32)
    loud[:100] = np.arange(1, 101)
    times = np.zeros(1_000)
    rounds = 200
    for number in range(1, rounds + 1):
        times[support(1_000, 0.1, seed=support_seed(PLAN, number), previous=loud)] += 1
    assert (times[50:100] == rounds).all()
    # Of the other 950, 50 a round: 10.5 times each, and none is forgotten.
    assert times[:50].min() > 0 and times[100:].min() > 0
    assert abs(times[100:].mean() - rounds * 50 / 950) < 0.5


def test_what_was_zero_is_not_sent_again_for_its_place() -> None:
    """A quiet sum leaves its share to the draw; else the first coordinates would be sent for ever."""
    quiet = np.zeros(10_000, dtype=np.int32)
    quiet[9_000] = -1
    chosen = support(10_000, 0.01, seed=support_seed(PLAN, 1), previous=quiet)
    assert 9_000 in chosen and np.count_nonzero(chosen < 50) < 10


def test_a_seed_follows_plan_and_round() -> None:
    seeds = {support_seed(plan, number) for plan in (PLAN, "00" * 32) for number in (1, 2, 12)}
    assert len(seeds) == 6 and all(len(seed) == 32 for seed in seeds)


@given(st.integers(1, 50), st.data())
def test_gathered_values_scatter_back_to_their_places(dimension: int, data: st.DataObject) -> None:
    places = data.draw(st.sets(st.integers(0, dimension - 1), min_size=1))
    chosen = np.array(sorted(places), dtype=np.int64)
    vector = np.arange(1, dimension + 1, dtype=np.float32)
    whole = scatter(gather(vector, chosen), chosen, dimension)
    assert whole.dtype == np.float32 and (whole[chosen] == vector[chosen]).all()
    assert np.count_nonzero(whole) == len(chosen)


@pytest.mark.parametrize(
    "chosen", [[], [3, 3], [3, 1], [-1, 2], [2, 10], [[1, 2]], [1.0, 2.0]], ids=lambda chosen: repr(chosen)
)
def test_a_crooked_support_is_refused(chosen: list[int]) -> None:
    with pytest.raises(SupportInvalidError) as refusal:
        gather(np.zeros(10, dtype=np.float32), np.array(chosen, dtype=None if chosen else np.int64))
    assert refusal.value.code == "privacy.support-invalid"


def test_requests_without_meaning_are_refused() -> None:
    seed = support_seed(PLAN, 1)
    for keep in (0.0, -0.1, 1.1, math.nan):
        with pytest.raises(SupportInvalidError):
            support(10, keep, seed=seed, previous=None)
    for dimension in (0, -1, LARGEST_DIMENSION + 1):
        with pytest.raises(SupportInvalidError):
            support_size(dimension, 0.1)
    with pytest.raises(SupportInvalidError):
        support(10, 0.5, seed=seed[:16], previous=None)
    for previous in (np.zeros(9, np.int32), np.zeros(10, np.int64), np.zeros((1, 10), np.int32)):
        with pytest.raises(SupportInvalidError):
            support(10, 0.5, seed=seed, previous=previous)
    with pytest.raises(SupportInvalidError):
        scatter(np.zeros(3), np.array([1, 2]), 10)
    with pytest.raises(SupportInvalidError):
        gather(np.zeros((2, 2)), np.array([1]))
