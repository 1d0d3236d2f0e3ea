"""The masking layer over both kinds of ring: it cancels, it opens, and what is false is named."""

from __future__ import annotations

import numpy as np
import pytest

from privacy.masking.masking import Masking
from privacy.masking.ring import PowerOfTwo, Prime, Residues, Ring
from privacy.packing import PLAIN_MODULUS
from tests.privacy.masking.rosters import Sites, sites

RINGS: list[Ring] = [PowerOfTwo(8), PowerOfTwo(16), PowerOfTwo(32), Prime(PLAIN_MODULUS), Prime(5)]


def drawn(ring: Ring, *, count: int, size: int) -> list[Residues]:
    generator = np.random.default_rng(1)
    if isinstance(ring, Prime):
        return [generator.integers(0, ring.modulus, size, dtype=np.int64) for _ in range(count)]
    assert isinstance(ring, PowerOfTwo)
    rows: list[Residues] = [np.empty(size, dtype=ring.dtype) for _ in range(count)]
    for row in rows:
        row[:] = generator.integers(0, 1 << ring.bits, size)
    return rows


def total_of(ring: Ring, rows: list[Residues]) -> Residues:
    total = rows[0].copy()
    for row in rows[1:]:
        ring.add(total, row)
    return total


class Round:
    """Every site of a roster masked its values."""

    def __init__(self, told: Sites, ring: Ring, *, size: int = 100) -> None:
        self.told, self.ring = told, ring
        self.ends = {name: Masking(told.context, ring, secrets=told.secrets(name)) for name in told.names}
        self.values = dict(zip(told.names, drawn(ring, count=len(told.names), size=size), strict=True))
        self.masked = {name: row.copy() for name, row in self.values.items()}
        self.shares = {name: end.mask(self.masked[name]) for name, end in self.ends.items()}

    def closed(self, names: list[str]) -> dict[str, bytes]:
        return {name: self.shares[name] for name in names}

    def opened(self, names: list[str], answering: list[str] | None = None) -> Residues:
        closed = self.closed(names)
        answers = {name: self.ends[name].answer(closed) for name in answering or names}
        total = total_of(self.ring, [self.masked[name] for name in names])
        Masking(self.told.context, self.ring).unmask(total, closed, answers)
        return total

    def expected(self, names: list[str]) -> Residues:
        return total_of(self.ring, [self.values[name] for name in names])


@pytest.mark.parametrize("ring", RINGS, ids=lambda ring: ring.name)
def test_masks_cancel_in_the_sum_of_all_and_of_those_left(ring: Ring) -> None:
    told = sites(5)
    names = list(told.names)
    everybody = Round(told, ring)
    assert all((everybody.masked[name] != everybody.values[name]).any() for name in names)
    np.testing.assert_array_equal(everybody.opened(names), everybody.expected(names))
    without = Round(sites(5), ring)
    left = [names[0], *names[2:]]
    np.testing.assert_array_equal(without.opened(left, left[:4]), without.expected(left))
