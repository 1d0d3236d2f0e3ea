"""The masking layer over both kinds of ring: it cancels, it opens, and what is false is named."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.errors import CodedError
from privacy.masking import answer_part, shamir, shares_part
from privacy.masking.closed_set import ClosedSet
from privacy.masking.derivation import secret_commitment
from privacy.masking.mask_secrets import AnswerKeys, MaskSecrets
from privacy.masking.masking import Masking
from privacy.masking.ring import PowerOfTwo, Prime, Residues, Ring, RingValuesError
from privacy.masking.shares_part import BadShareError, OtherContextError, SharesMalformedError, shares_bytes
from privacy.packing import PLAIN_MODULUS
from privacy.protected_sum import AnsweredError, RoleError, SumRefusedError, SumUnopenedError
from tests.privacy.masking.rosters import Sites, later, sites

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


@pytest.fixture(scope="module")
def five() -> Round:
    """Five sites masked; tests only damage copies of their messages."""
    return Round(sites(5), PowerOfTwo(16))


def test_which_answers_came_makes_no_difference() -> None:
    told = sites(5)
    step = Round(told, Prime(PLAIN_MODULUS))
    left = list(told.names[1:])
    closed = step.closed(left)
    answers = {name: step.ends[name].answer(closed) for name in left}
    for used in combinations(left, told.context.roster.threshold):
        total = total_of(step.ring, [step.masked[name] for name in left])
        Masking(told.context, step.ring).unmask(total, closed, {name: answers[name] for name in used})
        np.testing.assert_array_equal(total, step.expected(left))


def test_as_many_may_be_gone_as_the_threshold_leaves() -> None:
    told = sites(10)
    least = told.context.least_present
    step = Round(told, PowerOfTwo(32))
    left = list(told.names[-least:])
    np.testing.assert_array_equal(step.opened(left), step.expected(left))


def test_a_site_masks_once_and_answers_after_a_restart() -> None:
    told = sites(3)
    step = Round(told, PowerOfTwo(16))
    name = told.names[0]
    with pytest.raises(RoleError):
        step.ends[name].mask(step.masked[name])
    secrets = told.secrets(name, context=later(told.context))
    with pytest.raises(RoleError):
        Masking(told.context, step.ring, secrets=secrets)
    kept = AnswerKeys.from_bytes(secrets.answering().to_bytes())
    with pytest.raises(RoleError):
        Masking(later(told.context), step.ring, secrets=kept).mask(step.masked[name])
    with pytest.raises(RoleError):
        Masking(told.context, step.ring).mask(step.masked[name])
    with pytest.raises(RoleError):
        Masking(told.context, step.ring).answer(step.shares)


def test_what_cannot_be_masked_uses_nothing_up() -> None:
    told = sites(3)
    end = Masking(told.context, PowerOfTwo(16), secrets=told.secrets("site-00"))
    with pytest.raises(RingValuesError):
        end.mask(np.zeros(4, dtype=np.uint32))
    assert end.mask(np.zeros(4, dtype=np.uint16))


def test_two_rings_have_different_streams_under_one_context() -> None:
    told = sites(3)
    rows: list[Residues] = []
    for ring in (PowerOfTwo(16), PowerOfTwo(32)):
        keys = replace_issued(told)
        values = drawn(ring, count=1, size=64)[0]
        values[:] = 0
        Masking(told.context, ring, secrets=keys).mask(values)
        rows.append(values)
    assert rows[0].tobytes() != rows[1].tobytes()[: rows[0].nbytes]


def replace_issued(told: Sites) -> MaskSecrets:
    """The same pair secrets again, as no site would give them out."""
    told.chains["site-00"]._issued = frozenset()
    return told.secrets("site-00")


def dealt_by(
    step: Round, crook: str, *, seed_committed: bytes | None = None, twist: int | None = None
) -> bytes:
    """A shares part that `crook` made anew: with a commitment to another seed, or with the share of recipient
    `twist` changed after the commitments."""
    told = step.told
    told.chains[crook]._issued = frozenset()
    pair_secrets, wrap = told.secrets(crook).take()
    # The crook keeps the wrapping key for itself that its end answers with.
    own_key = step.ends[crook]._keys
    assert own_key is not None
    wrap[crook] = own_key.receive[crook]
    own = [b"\x11" * 32 if name == crook else pair_secrets[name] for name in told.names]
    data = bytearray(shares_part.deal(told.context, author=crook, own=own, wrap=wrap))
    index = told.names.index(crook)
    if seed_committed is not None:
        at = 56 + 32 * index
        data[at : at + 32] = secret_commitment(told.context, seed_committed)
    if twist is not None:
        count = len(told.names)
        at = 56 + 32 * count + (65 * count + 16) * twist
        data[at] ^= 1
    return bytes(data)


def test_a_share_that_does_not_fit_its_commitment_names_its_author() -> None:
    step = Round(sites(4), PowerOfTwo(16))
    victim, crook = step.told.names[0], step.told.names[2]
    step.shares[crook] = dealt_by(step, crook, twist=0)
    with pytest.raises(BadShareError, match=crook) as raised:
        step.ends[victim].answer(step.shares)
    assert raised.value.names == (crook,)


def test_shares_that_do_not_open_name_their_author() -> None:
    step = Round(sites(4), PowerOfTwo(16))
    victim, crook = step.told.names[0], step.told.names[2]
    data = bytearray(step.shares[crook])
    data[56 + 32 * 4 + 32 * 4] ^= 1
    step.shares[crook] = bytes(data)
    with pytest.raises(BadShareError, match=crook) as raised:
        step.ends[victim].answer(step.shares)
    assert raised.value.names == (crook,)


def test_shares_of_another_secret_than_committed_to_name_their_author_not_who_answered() -> None:
    step = Round(sites(4), PowerOfTwo(16))
    crook = step.told.names[2]
    step.shares[crook] = dealt_by(step, crook, seed_committed=b"\x22" * 32)
    answers = {name: end.answer(step.shares) for name, end in step.ends.items()}
    total = total_of(step.ring, list(step.masked.values()))
    before = total.copy()
    with pytest.raises(BadShareError, match=crook) as raised:
        Masking(step.told.context, step.ring).unmask(total, step.shares, answers)
    assert raised.value.names == (crook,)
    np.testing.assert_array_equal(total, before)


def test_a_false_answer_is_named_and_left_out() -> None:
    step = Round(sites(7), PowerOfTwo(16))
    names = list(step.told.names)
    answers = {name: end.answer(step.shares) for name, end in step.ends.items()}
    liar = names[0]
    data = bytearray(answers[liar])
    data[-1] ^= 1
    answers[liar] = bytes(data)
    answers["nobody"] = b"x"
    coordinator = Masking(step.told.context, step.ring)
    total = total_of(step.ring, list(step.masked.values()))
    coordinator.unmask(total, step.shares, answers)
    np.testing.assert_array_equal(total, step.expected(names))
    assert coordinator.faulty == ("nobody", liar)


def test_an_answer_under_another_name_is_left_out() -> None:
    step = Round(sites(3), PowerOfTwo(16))
    names = list(step.told.names)
    answers = {name: end.answer(step.shares) for name, end in step.ends.items()}
    answers[names[0]] = answers[names[1]]
    total = total_of(step.ring, list(step.masked.values()))
    for name in names[2:]:
        del answers[name]
    with pytest.raises(SumUnopenedError) as raised:
        Masking(step.told.context, step.ring).unmask(total, step.shares, answers)
    assert set(raised.value.names) == {names[0], names[2]}


def test_answers_for_different_sets_are_not_combined() -> None:
    step = Round(sites(5), PowerOfTwo(16))
    names = list(step.told.names)
    everybody, four = step.closed(names), step.closed(names[:4])
    answers = {name: step.ends[name].answer(everybody) for name in names[:2]}
    answers |= {name: step.ends[name].answer(four) for name in names[2:4]}
    total = total_of(step.ring, [step.masked[name] for name in names[:4]])
    with pytest.raises(SumUnopenedError) as raised:
        Masking(step.told.context, step.ring).unmask(total, four, answers)
    assert set(raised.value.names) == set(names[:2])


def test_an_exchanged_shares_part_makes_another_set() -> None:
    """The same names with other shares of one of them: a site that answered for the first refuses the second."""
    step = Round(sites(4), PowerOfTwo(16))
    name, other = step.told.names[0], step.told.names[1]
    step.ends[name].answer(step.shares)
    exchanged = {**step.shares, other: dealt_by(step, other)}
    with pytest.raises(AnsweredError):
        step.ends[name].answer(exchanged)


def test_no_set_opens_a_seed_and_a_pair_secret_of_two_that_are_present(five: Round) -> None:
    names = list(five.told.names)
    for size in (4, 5):
        for chosen in combinations(names, size):
            read = ClosedSet.read(five.told.context, five.closed(list(chosen)))
            for author, subject in answer_part.openings(read):
                assert author in read.present
                assert subject == author or subject not in read.present
    overlapping = replace(ClosedSet.read(five.told.context, five.shares), present=(0, 1, 2, 3, 4), gone=(1,))
    with pytest.raises(SumRefusedError):
        answer_part.openings(overlapping)


def test_everything_wrong_with_a_set_is_said_at_once(five: Round) -> None:
    names = list(five.told.names)
    shares = {**five.closed(names[:3]), "stranger": b"", names[1]: b""}
    with pytest.raises(SumRefusedError) as raised:
        five.ends[names[0]].answer(shares)
    message = raised.value.public_message
    assert "stranger" in message and names[1] in message and "fewer" in message and names[4] in message


def test_a_shares_part_is_of_its_author_and_its_sum(five: Round) -> None:
    first, second = five.told.names[:2]
    end = Masking(five.told.context, five.ring)
    with pytest.raises(SharesMalformedError):
        end.check(first, five.shares[second])
    with pytest.raises(SumRefusedError):
        end.check("stranger", five.shares[first])
    with pytest.raises(OtherContextError):
        Masking(later(five.told.context), five.ring).check(first, five.shares[first])


def test_fifty_sites_send_less_than_400_kilobytes_of_shares() -> None:
    assert shares_bytes(50) == 164_956
    assert shares_bytes(20) == 27_016


@given(at=st.integers(0, 10**6), change=st.integers(1, 255))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_byte_of_a_shares_part_can_be_changed_unseen(five: Round, at: int, change: int) -> None:
    """By the recipient of that byte, or by everybody."""
    crook = five.told.names[3]
    data = bytearray(five.shares[crook])
    data[at % len(data)] ^= change
    closed = {**five.shares, crook: bytes(data)}
    seen = 0
    for name in five.told.names:
        keys = five.ends[name]._keys
        try:
            Masking(five.told.context, five.ring, secrets=keys).answer(closed)
        except CodedError as error:
            assert crook in error.public_message
            seen += 1
    # A commitment to the author's own seed has no second witness: that one is seen when the sum is opened.
    own_seed = 56 + 32 * 3 <= at % len(data) < 56 + 32 * 4
    assert seen or own_seed


@given(at=st.integers(0, 10**6), change=st.integers(1, 255), cut=st.integers(0, 300))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_byte_of_an_answer_can_be_changed_unseen(five: Round, at: int, change: int, cut: int) -> None:
    name = five.told.names[3]
    data = bytearray(Masking(five.told.context, five.ring, secrets=five.ends[name]._keys).answer(five.shares))
    read = ClosedSet.read(five.told.context, five.shares)
    assert answer_part.read(five.told.context, read, answerer=3, data=bytes(data))
    data[at % len(data)] ^= change
    for changed in (bytes(data), bytes(data[: len(data) - 1 - cut])):
        with pytest.raises(SumRefusedError, match=name):
            answer_part.read(five.told.context, read, answerer=3, data=changed)


def test_a_share_outside_the_field_is_refused_though_committed_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = Round(sites(3), PowerOfTwo(16))
    crook = step.told.names[2]
    outside = shamir.PRIME.to_bytes(shamir.SHARE_BYTES, "big")
    with monkeypatch.context() as patched:
        patched.setattr(shamir, "split", lambda secret, *, sites, threshold: [outside] * sites)
        step.shares[crook] = dealt_by(step, crook)
    with pytest.raises(BadShareError, match=crook):
        step.ends[step.told.names[0]].answer(step.shares)


@pytest.mark.parametrize("at", [*range(12), *range(12, 44, 8)])
def test_the_header_of_a_shares_part_is_refused_without_any_key(five: Round, at: int) -> None:
    """The coordinator sees it too, which opens no shares."""
    name = five.told.names[2]
    data = bytearray(five.shares[name])
    data[at] ^= 1
    with pytest.raises((SharesMalformedError, OtherContextError), match=name):
        Masking(five.told.context, five.ring).check(name, bytes(data))
