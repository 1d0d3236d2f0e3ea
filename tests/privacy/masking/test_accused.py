"""Who is named when shares parts contradict each other: out of the commitments alone, before anything is closed."""

from __future__ import annotations

import os

import numpy as np
import pytest

from privacy.masked_sum import MaskedSum
from privacy.masking.closed_set import accused
from privacy.packing import Packing
from tests.privacy.masking.rosters import Sites, sites

COMMITMENTS_OFFSET = 56
COMMITMENT_BYTES = 32
SEVEN = 7
"""Of which two may collude."""


def dealt(among: Sites) -> dict[str, bytes]:
    packing = Packing(lane_bits=22, maximum_sites=SEVEN)
    return {
        name: MaskedSum(among.context, packing, 4, secrets=among.secrets(name))
        .protect(np.zeros(4, np.int32))
        .shares
        for name in among.names
    }


def lie(shares: dict[str, bytes], author: str, *, to: range) -> None:
    bent = bytearray(shares[author])
    for subject in to:
        at = COMMITMENTS_OFFSET + COMMITMENT_BYTES * subject
        bent[at : at + COMMITMENT_BYTES] = os.urandom(COMMITMENT_BYTES)
    shares[author] = bytes(bent)


@pytest.fixture(scope="module")
def seven() -> tuple[Sites, dict[str, bytes]]:
    among = sites(SEVEN)
    assert among.context.roster.colluding == 2
    return among, dealt(among)


Dealt = tuple[Sites, dict[str, bytes]]


def test_nobody_is_accused_where_all_agree(seven: Dealt) -> None:
    among, shares = seven
    assert accused(among.context, shares) == ()


@pytest.mark.parametrize("lied_to", [1, 2])
def test_both_ends_of_a_contradiction_are_named_while_either_may_lie(seven: Dealt, lied_to: int) -> None:
    among, honest = seven
    shares, liar = dict(honest), among.names[6]
    lie(shares, liar, to=range(lied_to))
    assert accused(among.context, shares) == (*among.names[:lied_to], liar)


@pytest.mark.parametrize("lied_to", [3, 6])
def test_who_contradicts_more_than_can_collude_is_named_alone(seven: Dealt, lied_to: int) -> None:
    among, honest = seven
    shares, liar = dict(honest), among.names[6]
    lie(shares, liar, to=range(lied_to))
    assert accused(among.context, shares) == (liar,)


def test_a_proven_liar_does_not_cover_for_another_pair(seven: Dealt) -> None:
    among, honest = seven
    shares, names = dict(honest), among.names
    lie(shares, names[6], to=range(4))
    lie(shares, names[5], to=range(1))
    assert accused(among.context, shares) == (names[0], names[5], names[6])


def test_two_liars_together_cost_no_third_that_only_they_contradict_too_often(seven: Dealt) -> None:
    """Each lies to every honest site, and so contradicts more of them than can collude."""
    among, honest = seven
    shares, names = dict(honest), among.names
    for liar in names[5:]:
        lie(shares, liar, to=range(5))
    assert accused(among.context, shares) == names[5:]


def test_a_site_that_is_not_there_contradicts_nobody(seven: Dealt) -> None:
    among, honest = seven
    shares, names = dict(honest), among.names
    lie(shares, names[6], to=range(1))
    del shares[names[0]]
    assert accused(among.context, shares) == ()
