"""Secrets shared so that any t shares give them back and t - 1 tell nothing (Shamir 1979).

Over the prime p = 2^256 + 297, the least above 2^256, so that every 32-byte secret is a field element. The secret is
the polynomial's value at 0; the share of the site at roster index k is its value at k + 1, in 33 bytes, big-endian.
Nothing here tells a true share from a false one: that is what commitments are for.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final

from ledger.errors import InputError

PRIME: Final = (1 << 256) + 297
SECRET_BYTES: Final = 32
SHARE_BYTES: Final = 33


class ShareInvalidError(InputError):
    """Shares that cannot be combined, or that are shares of nothing."""

    code = "privacy.share-invalid"


def split(secret: bytes, *, sites: int, threshold: int) -> list[bytes]:
    """Shares of 32 bytes by roster index."""
    if len(secret) != SECRET_BYTES:
        raise ShareInvalidError("a shared secret has 32 bytes")
    if not 1 <= threshold <= sites:
        raise ShareInvalidError("the threshold lies between 1 and the number of shares")
    coefficients = [secrets.randbelow(PRIME) for _ in range(threshold - 1)]
    constant = int.from_bytes(secret, "big")
    shares = []
    for point in range(1, sites + 1):
        value = 0
        # Points are small: reducing once, at the end, is quicker than at each step.
        for coefficient in coefficients:
            value = (value + coefficient) * point
        shares.append(((value + constant) % PRIME).to_bytes(SHARE_BYTES, "big"))
    return shares


def in_field(share: bytes) -> bool:
    return len(share) == SHARE_BYTES and int.from_bytes(share, "big") < PRIME


class Recovery:
    """Lagrange's coefficients at 0 for one set of sites, good for many secrets."""

    def __init__(self, indices: Sequence[int], *, threshold: int) -> None:
        if len(set(indices)) != len(indices) or min(indices, default=-1) < 0:
            raise ShareInvalidError("shares to be combined are of different sites")
        if len(indices) < threshold:
            raise ShareInvalidError(f"{len(indices)} shares do not give what takes {threshold}")
        points = [index + 1 for index in indices]
        self._coefficients = []
        for point in points:
            above, below = 1, 1
            for other in points:
                if other != point:
                    above = above * other % PRIME
                    below = below * (other - point) % PRIME
            self._coefficients.append(above * pow(below, -1, PRIME) % PRIME)

    def recover(self, shares: Sequence[bytes]) -> bytes:
        """The 32-byte secret, from one share for each index, in their order. Raises `ShareInvalidError`."""
        if len(shares) != len(self._coefficients) or not all(in_field(share) for share in shares):
            raise ShareInvalidError(f"a share is a number below 2^256 + 297, in {SHARE_BYTES} bytes")
        total = 0
        for coefficient, share in zip(self._coefficients, shares, strict=True):
            total += coefficient * int.from_bytes(share, "big")
        secret = total % PRIME
        if secret >> (8 * SECRET_BYTES):
            raise ShareInvalidError("the shares are of no 32-byte secret")
        return secret.to_bytes(SECRET_BYTES, "big")
