"""Secret sharing over the field of 2^256 + 297."""

from __future__ import annotations

import itertools
import secrets

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.masking.shamir import PRIME, SHARE_BYTES, Recovery, ShareInvalidError, in_field, split


def is_prime(number: int) -> bool:
    """Miller and Rabin: a composite passes 64 random bases with probability at most 2^-128."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(64):
        value = pow(secrets.randbelow(number - 3) + 2, odd, number)
        if value in (1, number - 1):
            continue
        for _ in range(twos - 1):
            value = value * value % number
            if value == number - 1:
                break
        else:
            return False
    return True


def test_the_field_is_the_least_prime_above_every_secret() -> None:
    assert is_prime(PRIME)
    assert not any(is_prime(number) for number in range(2**256 + 1, PRIME, 2))


@given(secret=st.binary(min_size=32, max_size=32), data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_threshold_of_shares_gives_the_secret_back(secret: bytes, data: st.DataObject) -> None:
    sites = data.draw(st.integers(1, 50))
    threshold = data.draw(st.integers(1, sites))
    shares = split(secret, sites=sites, threshold=threshold)
    assert [len(share) for share in shares] == [SHARE_BYTES] * sites
    used = data.draw(st.permutations(range(sites)))[:threshold]
    assert Recovery(used, threshold=threshold).recover([shares[index] for index in used]) == secret


def test_one_recovery_serves_many_secrets_and_more_shares_than_needed() -> None:
    recovery = Recovery([0, 2, 4, 3], threshold=3)
    for secret in (bytes(32), b"\xff" * 32, secrets.token_bytes(32)):
        shares = split(secret, sites=5, threshold=3)
        assert recovery.recover([shares[index] for index in (0, 2, 4, 3)]) == secret


def test_one_share_fewer_fits_any_secret() -> None:
    """For each other secret there is a last share that completes the same t - 1: they tell nothing."""
    shares = split(b"\x01" * 32, sites=4, threshold=3)
    known = [int.from_bytes(share, "big") for share in shares[:2]]
    for other in (0, 7, 2**256 - 1):
        # The parabola through (0, other), (1, known 0), (2, known 1), at 3.
        third = (other - 3 * known[0] + 3 * known[1]) % PRIME
        completed = [*shares[:2], third.to_bytes(SHARE_BYTES, "big")]
        assert int.from_bytes(Recovery([0, 1, 2], threshold=3).recover(completed), "big") == other


def test_shares_are_fresh_each_time() -> None:
    first, second = (split(bytes(32), sites=3, threshold=2) for _ in range(2))
    assert not set(first) & set(second)


def test_shares_that_cannot_be_combined_are_refused() -> None:
    shares = split(b"\x05" * 32, sites=5, threshold=3)
    for indices in ([0, 1], [], [0, 1, 1], [-1, 0, 1]):
        with pytest.raises(ShareInvalidError):
            Recovery(indices, threshold=3)
    recovery = Recovery([0, 1, 2], threshold=3)
    outside = PRIME.to_bytes(SHARE_BYTES, "big")
    assert in_field((PRIME - 1).to_bytes(SHARE_BYTES, "big"))
    for bad in (outside, b"", shares[0][:-1], shares[0] + b"\x00", b"\xff" * SHARE_BYTES):
        assert not in_field(bad)
        with pytest.raises(ShareInvalidError):
            recovery.recover([bad, shares[1], shares[2]])
    with pytest.raises(ShareInvalidError):
        recovery.recover(shares[:2])


def test_shares_of_what_is_longer_than_a_secret_are_refused() -> None:
    constant = (2**256 + 1).to_bytes(SHARE_BYTES, "big")
    with pytest.raises(ShareInvalidError):
        Recovery([0, 1], threshold=1).recover([constant, constant])


def test_what_cannot_be_shared_is_refused() -> None:
    for secret in (b"", bytes(31), bytes(33)):
        with pytest.raises(ShareInvalidError):
            split(secret, sites=3, threshold=2)
    for threshold in (0, 4):
        with pytest.raises(ShareInvalidError):
            split(bytes(32), sites=3, threshold=threshold)


def test_every_set_of_the_threshold_agrees() -> None:
    shares = split(b"\x09" * 32, sites=6, threshold=4)
    found = {
        Recovery(used, threshold=4).recover([shares[index] for index in used])
        for used in itertools.combinations(range(6), 4)
    }
    assert found == {b"\x09" * 32}
