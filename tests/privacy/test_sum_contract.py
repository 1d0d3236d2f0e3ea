"""What holds of every protected sum, whatever the scheme: exact or refused, and never anything in between."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.errors import CodedError
from privacy.masking.pair_keys import KeyErasedError
from privacy.message_sizes import message_sizes
from privacy.packing import LaneOverflowError, Lanes, PackingInvalidError
from privacy.protected_sum import (
    Answer,
    AnsweredError,
    Report,
    RoleError,
    SumRefusedError,
    SumUnopenedError,
)
from privacy.sum_context import RosterInvalidError, threshold_of
from tests.privacy.sum_contract import SCHEMES, Played, Scheme, play

every_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=[scheme.name for scheme in SCHEMES])
some_examples = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
COUNTS = (3, 5, 20, 50)


@pytest.fixture(scope="module", params=SCHEMES, ids=[scheme.name for scheme in SCHEMES])
def five(request: pytest.FixtureRequest) -> Played:
    """A step among five sites that nobody answers for: tests only damage copies of its messages."""
    return play(request.param, 5)


@every_scheme
@pytest.mark.parametrize("count", COUNTS)
def test_the_sum_is_the_plain_sum_bit_for_bit(scheme: Scheme, count: int) -> None:
    if count > scheme.largest:
        pytest.skip("more sites than this scheme is played through with")
    step = play(scheme, count)
    opened = step.open(step.names)
    assert opened.dtype == np.int32
    np.testing.assert_array_equal(opened, step.plain(step.names))


@every_scheme
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("lane_bits", [8, 16, 22])
def test_no_message_is_longer_than_the_size_it_is_held_against(
    scheme: Scheme, count: int, lane_bits: int
) -> None:
    """And a limit is at most twice what honest sites report, of whom those without a key send longer ciphertexts."""
    if count > scheme.largest:
        pytest.skip("more sites than this scheme is played through with")
    for gone in (0, min(count - threshold_of(count), count - 3)):
        step = play(scheme, count, lane_bits=lane_bits)
        packing, lanes = step.terms.packing, step.terms.lane_count
        sizes = message_sizes(scheme.name, packing, lanes, sites=count, aggregators=min(3, count))
        for report in step.reports.values():
            assert 0.49 * sizes.update <= len(report.update) <= sizes.update
            assert len(report.shares) == sizes.shares
        present = step.names[: count - gone]
        for answer in step.answers(present, by=present[:3]).values():
            assert len(answer.unmask) <= sizes.unmask and len(answer.part) in (0, sizes.part)


@every_scheme
@pytest.mark.parametrize("lane_bits", [8, 11, 16, 17, 24, 32])
def test_the_sum_is_exact_at_every_width_of_lane(scheme: Scheme, lane_bits: int) -> None:
    step = play(scheme, 3, lane_bits=lane_bits)
    np.testing.assert_array_equal(step.open(step.names), step.plain(step.names))


@every_scheme
def test_two_sites_have_no_protected_sum(scheme: Scheme) -> None:
    with pytest.raises(RosterInvalidError):
        scheme.ends(2)


@every_scheme
@pytest.mark.parametrize("gone", [(0,), (4,), (1, 3)])
def test_sites_drop_out_before_they_report(scheme: Scheme, gone: tuple[int, ...]) -> None:
    step = play(scheme, 7)
    left = [name for number, name in enumerate(step.names) if number not in gone]
    np.testing.assert_array_equal(step.open(left), step.plain(left))


@every_scheme
def test_sites_drop_out_between_report_and_answer(scheme: Scheme) -> None:
    if not scheme.recovers:
        pytest.skip("opens without the sites")
    step = play(scheme, 7)
    threshold = threshold_of(7)
    np.testing.assert_array_equal(step.open(step.names, by=step.names[-threshold:]), step.plain(step.names))


@every_scheme
def test_more_dropouts_than_the_threshold_allows_are_named(scheme: Scheme) -> None:
    if not scheme.recovers:
        pytest.skip("opens without the sites")
    step = play(scheme, 7)
    threshold = threshold_of(7)
    answering = step.names[: threshold - 1]
    with pytest.raises(SumUnopenedError) as raised:
        step.open(step.names, by=answering)
    assert set(raised.value.names) == set(step.names) - set(answering)
    assert all(name in raised.value.public_message for name in raised.value.names)


@every_scheme
def test_it_makes_no_difference_who_answers(scheme: Scheme) -> None:
    step = play(scheme, 5)
    left = step.names[:4]
    closed = step.closed(left)
    answers = step.answers(left, by=left)
    coordinator = step.ends.coordinator(step.terms)
    for silent in [None, *left]:
        if silent is not None and not scheme.recovers:
            continue
        heard = {name: answer for name, answer in answers.items() if name != silent}
        if len(heard) >= threshold_of(5):
            np.testing.assert_array_equal(coordinator.open(closed, heard), step.plain(left))


@every_scheme
def test_lanes_at_the_limit_pass_and_one_beyond_is_refused(scheme: Scheme) -> None:
    step = play(scheme, 5)
    limit = step.terms.packing.site_limit
    ends = scheme.ends(5)
    terms = replace(step.terms, context=ends.context, lane_count=2)
    lanes = {name: np.array([limit, -limit], dtype=np.int32) for name in step.names}
    at_the_limit = Played(ends, terms, lanes)
    np.testing.assert_array_equal(at_the_limit.open(step.names), [5 * limit, -5 * limit])
    for beyond in (limit + 1, -limit - 1, 2**31 - 1, -(2**31)):
        fresh = scheme.ends(5)
        end = fresh.site(step.names[0], replace(terms, context=fresh.context))
        with pytest.raises(LaneOverflowError):
            end.protect(np.array([0, beyond], dtype=np.int32))


@every_scheme
def test_lanes_of_another_number_or_kind_are_refused(scheme: Scheme) -> None:
    ends = scheme.ends(3)
    step = play(scheme, 3)
    terms = replace(step.terms, context=ends.context)
    end = ends.site(step.names[0], terms)
    good = step.lanes[step.names[0]]
    wide = cast(Lanes, good.astype(np.int64))
    for lanes in (good[:-1], np.append(good, np.int32(0)), wide, good.reshape(2, -1)):
        with pytest.raises(PackingInvalidError):
            end.protect(lanes)
    # Refusing used up nothing.
    assert end.protect(good).update


@every_scheme
def test_one_end_protects_once(scheme: Scheme) -> None:
    step = play(scheme, 3)
    first = step.names[0]
    with pytest.raises(RoleError):
        step.sites[first].protect(step.lanes[first])
    with pytest.raises((RoleError, KeyErasedError)):
        step.ends.site(first, step.terms).protect(step.lanes[first])


@every_scheme
def test_the_coordinator_neither_protects_nor_answers(scheme: Scheme) -> None:
    step = play(scheme, 3)
    coordinator = step.ends.coordinator(step.terms)
    with pytest.raises(RoleError):
        coordinator.protect(step.lanes[step.names[0]])
    with pytest.raises(RoleError):
        coordinator.answer(step.closed(step.names))


@every_scheme
def test_every_site_accepts_every_honest_report(scheme: Scheme) -> None:
    step = play(scheme, 3)
    for name, report in step.reports.items():
        for end in [*step.sites.values(), step.ends.coordinator(step.terms)]:
            end.check(name, report)


OTHERS: dict[str, Callable[[Played], Played]] = {
    "round": lambda step: Played(
        step.ends, replace(step.terms, context=replace(step.terms.context, round=2)), step.lanes
    ),
    "attempt": lambda step: Played(
        step.ends, replace(step.terms, context=replace(step.terms.context, attempt=1)), step.lanes
    ),
    "model": lambda step: Played(
        step.ends, replace(step.terms, context=replace(step.terms.context, model_digest="b" * 64)), step.lanes
    ),
    "group": lambda step: Played(
        step.ends, replace(step.terms, context=replace(step.terms.context, group=1)), step.lanes
    ),
}


@every_scheme
@pytest.mark.parametrize("what", OTHERS)
def test_a_report_of_another_sum_is_refused(scheme: Scheme, what: str) -> None:
    step = play(scheme, 3)
    other = OTHERS[what](step)
    foreign = step.names[1]
    mixed = {**step.closed(step.names), foreign: other.reports[foreign]}
    with pytest.raises(SumRefusedError, match=foreign):
        step.ends.coordinator(step.terms).check(foreign, other.reports[foreign])
    if scheme.recovers:
        with pytest.raises(SumRefusedError, match=foreign):
            step.sites[step.names[0]].answer(mixed)
    answers = step.answers(step.names, by=step.names)
    with pytest.raises(SumRefusedError, match=foreign):
        step.ends.coordinator(step.terms).open(mixed, answers)


@every_scheme
def test_a_report_under_another_name_is_refused(scheme: Scheme) -> None:
    step = play(scheme, 3)
    first, second, _ = step.names
    stranger = "site-of-nobody"
    if step.reports[first].shares:
        with pytest.raises(SumRefusedError):
            step.ends.coordinator(step.terms).check(first, step.reports[second])
    with pytest.raises(SumRefusedError, match=stranger):
        step.ends.coordinator(step.terms).check(stranger, step.reports[second])


@every_scheme
def test_a_set_that_omits_the_site_or_is_too_small_is_refused(scheme: Scheme) -> None:
    if not scheme.recovers:
        pytest.skip("the sites are not asked")
    step = play(scheme, 7)
    least = step.terms.context.least_present
    with pytest.raises(SumRefusedError):
        step.sites[step.names[0]].answer(step.closed(step.names[1:]))
    with pytest.raises(SumRefusedError):
        step.sites[step.names[0]].answer(step.closed(step.names[: least - 1]))
    with pytest.raises(SumRefusedError):
        step.sites[step.names[0]].answer({})
    # And opening refuses the same.
    answers = step.answers(step.names[:least], by=step.names[:least])
    with pytest.raises(SumRefusedError):
        step.ends.coordinator(step.terms).open(step.closed(step.names[: least - 1]), answers)


@every_scheme
def test_a_site_answers_for_one_set_and_again_with_the_same_bytes(scheme: Scheme) -> None:
    if not scheme.recovers:
        pytest.skip("the sites are not asked")
    step = play(scheme, 5)
    end = step.sites[step.names[0]]
    first = end.answer(step.closed(step.names))
    with pytest.raises(AnsweredError):
        end.answer(step.closed(step.names[:4]))
    assert end.answer(step.closed(step.names)) == first


@every_scheme
def test_a_restarted_site_gives_the_same_answer(scheme: Scheme) -> None:
    step = play(scheme, 5)
    name = step.names[0]
    again = step.ends.site(name, step.terms)
    assert again.answer(step.closed(step.names)) == step.sites[name].answer(step.closed(step.names))


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[:-1],
    "a header alone": lambda data: data[:16],
    "over-long": lambda data: data + b"\x00",
    "doubled": lambda data: data + data,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_report_is_refused_with_a_code(five: Played, damage: str) -> None:
    spoil, name = DAMAGE[damage], five.names[2]
    coordinator = five.ends.coordinator(five.terms)
    good = five.reports[name]
    spoilt = [replace(good, update=spoil(good.update))]
    if good.shares:
        spoilt.append(replace(good, shares=spoil(good.shares)))
    for report in spoilt:
        with pytest.raises(CodedError, match=re.escape(name)):
            coordinator.check(name, report)
        with pytest.raises(CodedError):
            coordinator.open({**five.reports, name: report}, {})


@given(update=st.binary(max_size=200), shares=st.binary(max_size=200))
@some_examples
def test_random_bytes_are_no_report(five: Played, update: bytes, shares: bytes) -> None:
    name = five.names[1]
    report = Report(update=update, shares=shares)
    with pytest.raises(CodedError):
        five.ends.coordinator(five.terms).check(name, report)
    with pytest.raises(CodedError):
        five.ends.coordinator(five.terms).open({**five.reports, name: report}, {})


@given(unmask=st.binary(max_size=400), part=st.binary(max_size=400))
@some_examples
def test_random_bytes_are_no_answer(five: Played, unmask: bytes, part: bytes) -> None:
    false = {name: Answer(unmask=unmask, part=part) for name in five.names}
    with pytest.raises(CodedError):
        five.ends.coordinator(five.terms).open(five.reports, false)


@every_scheme
def test_a_damaged_answer_is_left_out_and_too_many_are_named(scheme: Scheme) -> None:
    if not scheme.recovers:
        pytest.skip("opens without the sites")
    step = play(scheme, 7)
    answers = step.answers(step.names, by=step.names)
    coordinator = step.ends.coordinator(step.terms)
    closed = step.closed(step.names)
    spare = len(answers) - threshold_of(7)
    for spoil in DAMAGE.values():
        bad = {
            name: Answer(
                unmask=spoil(answer.unmask) if answer.unmask else b"",
                part=spoil(answer.part) if answer.part else b"",
            )
            for name, answer in answers.items()
        }
        some = {**answers, **{name: bad[name] for name in step.names[:spare]}}
        np.testing.assert_array_equal(coordinator.open(closed, some), step.plain(step.names))
        many = {**answers, **{name: bad[name] for name in step.names[: spare + 1]}}
        with pytest.raises(SumUnopenedError) as raised:
            coordinator.open(closed, many)
        assert set(raised.value.names) == set(step.names[: spare + 1])
