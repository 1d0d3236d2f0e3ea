"""The peers' commonest bug, by name: a fresh accountant every round, so that each round alone is held to the cap.

`refuses_at` is the contract of a pool, and any implementation can be put through it.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Protocol

import pytest
from opacus.accountants import RDPAccountant

from privacy import accounting
from privacy.accounting import ORDERS, Curve
from privacy.mechanisms import Mechanism, SubsampledGaussian

CAP_MICRO = 3_000_000
DELTA = 1e-5
ROUND = SubsampledGaussian(noise_multiplier=2.4, sampling_rate=0.15, steps=20)
MANY_ROUNDS = 200


class Pool(Protocol):
    """A site's patients: what may still be done with them."""

    def reserve(self, mechanisms: tuple[Mechanism, ...]) -> bool:
        """Draw on the pool, or refuse and draw nothing."""


def refuses_at(pool: Pool) -> int | None:
    """The first of many equal rounds that the pool refuses; None if it admits all of them."""
    return next((number for number in range(1, MANY_ROUNDS + 1) if not pool.reserve((ROUND,))), None)


class LedgerPool:
    """As the state folded from the ledger keeps it: one sum for all rounds, read at its best order."""

    def __init__(self) -> None:
        self.spent = Curve.zero()

    def reserve(self, mechanisms: tuple[Mechanism, ...]) -> bool:
        after = self.spent + accounting.total(mechanisms)
        if accounting.epsilon_micro(after, DELTA) > CAP_MICRO:
            return False
        self.spent = after
        return True


class FilterPool:
    """The Rényi filter of Feldman and Zrnic: one sum, at one order pinned when the pool was made."""

    def __init__(self, order: int) -> None:
        self.order = order
        self.room = accounting.rdp_cap_micro(CAP_MICRO, DELTA, order=order)
        self.spent = 0

    def reserve(self, mechanisms: tuple[Mechanism, ...]) -> bool:
        after = self.spent + accounting.total(mechanisms).at(self.order)
        if after > self.room:
            return False
        self.spent = after
        return True


class FreshAccountantPool:
    """The bug: every round is priced, and held to the cap, by an accountant that knows of no other round."""

    def reserve(self, mechanisms: tuple[Mechanism, ...]) -> bool:
        return accounting.epsilon_micro(accounting.total(mechanisms), DELTA) <= CAP_MICRO


@cache
def _opacus_refuses_at() -> int:
    """Where one accountant of somebody else's, kept over all rounds, first passes the cap."""
    for rounds in range(1, MANY_ROUNDS + 1):
        accountant = RDPAccountant()
        accountant.history = [(ROUND.noise_multiplier, ROUND.sampling_rate, ROUND.steps * rounds)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if accountant.get_epsilon(DELTA, alphas=list(ORDERS[:-1])) * 1e6 > CAP_MICRO:
                return rounds
    raise AssertionError("the rounds of this test never pass its cap")


def check_contract(pool: Pool) -> None:
    """A pool refuses no later than an accountant kept over all rounds, and admits at least one round."""
    refused = refuses_at(pool)
    assert refused is not None, "the pool admits rounds without end"
    assert 1 < refused <= _opacus_refuses_at()


def test_a_fresh_accountant_every_round_breaks_the_contract_that_pools_keep() -> None:
    check_contract(LedgerPool())
    check_contract(FilterPool(accounting.default_order(CAP_MICRO, DELTA)))
    with pytest.raises(AssertionError, match="without end"):
        check_contract(FreshAccountantPool())


def test_a_pool_that_reads_its_best_order_refuses_exactly_where_opacus_does() -> None:
    assert refuses_at(LedgerPool()) == _opacus_refuses_at()


def test_a_filter_at_any_pinned_order_never_admits_a_round_more() -> None:
    for order in ORDERS:
        refused = refuses_at(FilterPool(order))
        assert refused is not None and refused <= _opacus_refuses_at()
