"""Masking in a ring and back, and streams that any other implementation can draw."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.masking import keystream
from privacy.masking.keystream import CHUNK_BYTES, Keystream
from privacy.masking.ring import Integers, PowerOfTwo, Prime, Residues, Ring, RingValuesError
from privacy.packing import PLAIN_MODULUS

RINGS: list[Ring] = [PowerOfTwo(8), PowerOfTwo(16), PowerOfTwo(32), Prime(PLAIN_MODULUS), Prime(5), Prime(2)]
BITS = (8, 16, 32)
MODULI = (2, 3, 5, 257, PLAIN_MODULUS)


def key(number: int) -> bytes:
    return hashlib.sha256(bytes([number])).digest()


def zeros(ring: Ring, size: int) -> Residues:
    dtype = ring.dtype if isinstance(ring, PowerOfTwo) else np.dtype(np.int64)
    residues: Residues = np.zeros(size, dtype=dtype)
    return residues


def stream_bytes(of: bytes, count: int) -> bytes:
    """The stream as the specification has it, drawn at once."""
    return Cipher(algorithms.AES128(of[:16]), modes.CTR(of[16:])).encryptor().update(bytes(count))


def prime_stream(of: bytes, modulus: int, count: int) -> list[int]:
    """The rule of `privacy.masking.ring` one element at a time, on plain integers."""
    data = stream_bytes(of, 8 * (count * 40 + 400))
    words = iter(int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8))
    bits = (modulus - 1).bit_length()
    found = [next(words) & ((1 << bits) - 1) for _ in range(count)]
    while waiting := [number for number, word in enumerate(found) if word >= modulus]:
        for number in waiting:
            found[number] = next(words) & ((1 << bits) - 1)
    return found


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("size", [1, 100, CHUNK_BYTES + 3])
def test_elements_of_a_power_of_two_are_the_words_of_aes_ctr(bits: int, size: int) -> None:
    ring = PowerOfTwo(bits)
    values = zeros(ring, size)
    ring.shift(values, plus=[key(1)], minus=[])
    words = np.frombuffer(stream_bytes(key(1), size * bits // 8), dtype=ring.dtype)
    np.testing.assert_array_equal(values, words)


@pytest.mark.parametrize("modulus", MODULI)
@pytest.mark.parametrize("size", [1, 200])
def test_elements_of_a_prime_are_drawn_again_where_they_are_too_large(modulus: int, size: int) -> None:
    ring = Prime(modulus)
    values = zeros(ring, size)
    ring.shift(values, plus=[key(2)], minus=[])
    assert values.tolist() == prime_stream(key(2), modulus, size)


def test_what_is_drawn_again_does_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = Prime(5)
    whole, pieces = zeros(ring, 2000), zeros(ring, 2000)
    ring.shift(whole, plus=[key(3), key(4)], minus=[key(5)])
    monkeypatch.setattr("privacy.masking.ring.CHUNK_BYTES", 128)
    ring.shift(pieces, plus=[key(3), key(4)], minus=[key(5)])
    np.testing.assert_array_equal(whole, pieces)


def test_elements_of_a_prime_are_uniform() -> None:
    ring = Prime(5)
    values = zeros(ring, 50_000)
    ring.shift(values, plus=[key(6)], minus=[])
    counts = np.bincount(values.astype(np.int64), minlength=5)
    # Five standard deviations of a binomial count.
    assert np.abs(counts - 10_000).max() < 5 * (50_000 * 0.2 * 0.8) ** 0.5


@pytest.mark.parametrize("ring", RINGS, ids=lambda ring: ring.name)
def test_streams_added_are_taken_away_again(ring: Ring) -> None:
    values = zeros(ring, 1000)
    ring.shift(values, plus=[key(7)], minus=[key(8), key(9)])
    assert values.any()
    ring.check(values)
    ring.shift(values, plus=[key(9), key(8)], minus=[key(7)])
    assert not values.any()


@given(
    modulus=st.integers(2, 1 << 62),
    integers=st.lists(st.integers(-(1 << 62), 1 << 62), min_size=1, max_size=20),
)
@settings(max_examples=100, deadline=None)
def test_sums_modulo_a_prime_are_those_of_plain_integers(modulus: int, integers: list[int]) -> None:
    ring = Prime(modulus)
    half = (modulus - 1) // 2
    first = [number % (half + 1) for number in integers]
    second = [-(number // 3 % (half + 1)) for number in integers]
    left, right = (np.array(numbers, dtype=np.int64) for numbers in (first, second))
    ring.reduce(left, out=left)
    ring.reduce(right, out=right)
    ring.add(left, right)
    ring.check(left)
    assert ring.centred(left).tolist() == [a + b for a, b in zip(first, second, strict=True)]


@pytest.mark.parametrize("bits", BITS)
def test_signed_lanes_come_back_from_a_power_of_two(bits: int) -> None:
    ring = PowerOfTwo(bits)
    limit = 2 ** (bits - 1) - 1
    lanes = np.array([0, 1, -1, limit, -limit], dtype=np.int32)
    values = zeros(ring, 5)
    ring.reduce(lanes, out=values)
    assert ring.centred(values).tolist() == lanes.tolist()


def test_values_that_cannot_be_masked_in_place_are_refused() -> None:
    narrow, prime = PowerOfTwo(16), Prime(5)
    fixed = zeros(narrow, 4)
    fixed.setflags(write=False)
    refused: list[tuple[Ring, Residues]] = [
        (narrow, fixed),
        (narrow, zeros(narrow, 8)[::2]),
        (narrow, zeros(narrow, 4).reshape(2, 2)),
        (narrow, np.zeros(4, dtype=np.uint32)),
        (prime, np.array([5], dtype=np.int64)),
        (prime, np.array([-1], dtype=np.int64)),
        (prime, np.zeros(4, dtype=np.uint32)),
    ]
    for ring, values in refused:
        with pytest.raises(RingValuesError):
            ring.shift(values, plus=[key(1)], minus=[])
    wide: Integers = np.array([-5], dtype=np.int64)
    with pytest.raises(RingValuesError):
        prime.reduce(wide, out=zeros(prime, 1))
    lowest: Integers = np.array([-(2**63)], dtype=np.int64)
    with pytest.raises(RingValuesError):
        prime.reduce(lowest, out=zeros(prime, 1))


def test_rings_have_names_of_their_own() -> None:
    assert len({ring.name for ring in RINGS}) == len(RINGS)


def test_a_stream_goes_on_where_it_stopped() -> None:
    stream, first, second = Keystream(key(1)), np.empty(48, np.uint8), np.empty(80, np.uint8)
    stream.fill(first)
    stream.fill(second)
    assert first.tobytes() + second.tobytes() == stream_bytes(key(1), 128)
    with pytest.raises(ValueError, match="32 bytes"):
        keystream.Keystream(b"short")
