from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.packing import LaneOverflowError, Lanes, Packing, PackingInvalidError
from privacy.protected_sum import (
    Answer,
    AnsweredError,
    ProtectedSum,
    Report,
    RoleError,
    SumRefusedError,
    SumUnopenedError,
)
from privacy.shared_sum import Aggregator, AggregatorsInvalidError, SharedSum, SharesRefusedError
from tests.privacy.shared_scheme import (
    COMMITMENTS,
    COUNT,
    KEYS,
    PACKING,
    SEALED,
    VECTOR,
    SharedScheme,
    context,
    five,
    random_lanes,
    total,
)


def opened_of(scheme: SharedScheme, reports: dict[str, Report]) -> Lanes:
    return scheme.coordinator.open(reports, scheme.answers(reports))


FUZZED = five()
FUZZED_ANSWERS = FUZZED[0].answers(FUZZED[2])


@pytest.mark.parametrize("sites", [3, 5, 20, 50])
@pytest.mark.parametrize("aggregators", [2, 3])
def test_the_sum_is_the_integer_sum(sites: int, aggregators: int) -> None:
    packing = Packing(lane_bits=22, maximum_sites=50)
    scheme = SharedScheme.of(context(sites), lane_count=COUNT, aggregators=aggregators, packing=packing)
    lanes = random_lanes(scheme, count=COUNT, limit=packing.site_limit)
    reports = scheme.reports(lanes)
    assert sum(map(bool, scheme.answers(reports))) == aggregators
    opened = opened_of(scheme, reports)
    assert opened.dtype == np.int32 and (opened == total(lanes, list(lanes))).all()


@given(st.integers(8, 32), st.integers(3, 50), st.integers(2, 3), st.integers(1, 40), st.integers(0, 2**32))
@settings(max_examples=30, deadline=None)
def test_lanes_of_every_width_at_their_limits_add_up(
    lane_bits: int, sites: int, aggregators: int, count: int, seed: int
) -> None:
    packing = Packing(lane_bits=lane_bits, maximum_sites=sites)
    scheme = SharedScheme.of(context(sites), lane_count=count, aggregators=aggregators, packing=packing)
    generator = np.random.default_rng(seed)
    limit = packing.site_limit
    lanes = {
        name: generator.choice(np.array([-limit, 0, limit], dtype=np.int32), count) for name in scheme.sites
    }
    assert (opened_of(scheme, scheme.reports(lanes)) == total(lanes, list(lanes))).all()


@pytest.mark.parametrize(("lane_bits", "width"), [(8, 1), (9, 2), (16, 2), (17, 4), (32, 4)])
def test_an_update_has_the_smallest_ring_that_holds_a_lane(lane_bits: int, width: int) -> None:
    packing = Packing(lane_bits=lane_bits, maximum_sites=5)
    scheme = SharedScheme.of(context(5), lane_count=COUNT, packing=packing)
    report = scheme.sites["site-00"].protect(np.zeros(COUNT, dtype=np.int32))
    assert len(report.update) == VECTOR + COUNT * width and report.shares == b""
    assert report.update[:5] == b"WRSH\x01"


def test_it_is_a_protected_sum() -> None:
    one: ProtectedSum = five()[0].coordinator
    assert one.scheme == "shared"


def test_a_site_that_drops_out_costs_nothing() -> None:
    scheme, lanes, reports = five()
    for gone in ("site-03", "site-04"):
        scheme_again, lanes, reports = five()
        del reports[gone]
        assert (opened_of(scheme_again, reports) == total(lanes, list(reports))).all()
    # An aggregator's update may be missing too, as long as the set holds enough; its answer may not.
    scheme, lanes, reports = five()
    del reports["site-00"]
    with pytest.raises(SumUnopenedError) as unopened:
        opened_of(scheme, reports)
    assert unopened.value.names == ("site-00",)


def test_every_aggregator_that_is_silent_is_named() -> None:
    scheme, _, reports = five()
    answers = scheme.answers(reports)
    del answers["site-00"], answers["site-02"]
    with pytest.raises(SumUnopenedError) as unopened:
        scheme.coordinator.open(reports, answers)
    assert unopened.value.names == ("site-00", "site-02")
    assert unopened.value.code == "privacy.sum-unopened"


def test_a_set_too_small_or_without_its_reader_is_not_opened() -> None:
    scheme, _, reports = five()
    few = {name: reports[name] for name in ("site-00", "site-01")}
    without = {name: reports[name] for name in ("site-01", "site-02", "site-03", "site-04")}
    for refused in (few, without):
        with pytest.raises(SumRefusedError):
            scheme.sites["site-00"].answer(refused)
    with pytest.raises(SumRefusedError):
        scheme.coordinator.open(few, scheme.answers(reports))


def test_an_aggregator_answers_one_set_and_the_same_way_again() -> None:
    scheme, _, reports = five()
    first = scheme.sites["site-00"].answer(reports)
    assert first is not None and scheme.sites["site-00"].answer(reports) == first
    other = {name: report for name, report in reports.items() if name != "site-04"}
    with pytest.raises(AnsweredError):
        scheme.sites["site-00"].answer(other)
    assert scheme.sites["site-00"].answer(reports) == first
    # A refused set counts for nothing.
    assert scheme.sites["site-01"].answer(other) is not None


def test_each_end_does_what_its_secrets_allow() -> None:
    scheme, lanes, reports = five()
    with pytest.raises(RoleError):
        scheme.coordinator.protect(lanes["site-00"])
    with pytest.raises(RoleError):
        scheme.coordinator.answer(reports)
    with pytest.raises(RoleError):
        scheme.sites["site-00"].protect(lanes["site-00"])
    assert scheme.sites["site-03"].answer(reports) is None
    about, chosen = context(5), scheme.coordinator._frame.aggregators
    keyless = SharedSum(about, PACKING, COUNT, aggregators=chosen, name="site-00")
    with pytest.raises(RoleError):
        keyless.answer(reports)
    with pytest.raises(RoleError):
        SharedSum(about, PACKING, COUNT, aggregators=chosen, name="site-77")
    for name, key in (("site-00", KEYS[1]), ("site-03", KEYS[0]), (None, KEYS[0])):
        with pytest.raises(RoleError):
            SharedSum(about, PACKING, COUNT, aggregators=chosen, name=name, key=key)


def test_aggregators_are_two_or_three_different_sites_of_the_roster() -> None:
    key = [KEYS[number].public_bytes() for number in range(3)]
    wrong: list[list[tuple[str, bytes]]] = [
        [("site-00", key[0])],
        [("site-00", key[0]), ("site-01", key[0])],
        [("site-01", key[0]), ("site-00", key[1])],
        [("site-00", key[0]), ("site-00", key[1])],
        [("site-00", key[0]), ("site-77", key[1])],
        [("site-00", key[0]), ("site-01", key[1][:31])],
        [(f"site-{n:02}", bytes([n]) * 32) for n in range(4)],
    ]
    for pairs in wrong:
        chosen = tuple(Aggregator(name=name, sealing_key=raw) for name, raw in pairs)
        with pytest.raises(AggregatorsInvalidError):
            SharedSum(context(5), PACKING, COUNT, aggregators=chosen)
    low_order = tuple(
        Aggregator(name=name, sealing_key=raw) for name, raw in (("site-00", bytes(32)), ("site-01", key[1]))
    )
    site = SharedSum(context(5), PACKING, COUNT, aggregators=low_order, name="site-04")
    with pytest.raises(AggregatorsInvalidError):
        site.protect(np.zeros(COUNT, dtype=np.int32))
    chosen = five()[0].coordinator._frame.aggregators
    with pytest.raises(SumRefusedError):
        SharedSum(context(6), PACKING, COUNT, aggregators=chosen)
    with pytest.raises(SumRefusedError):
        SharedSum(context(5), PACKING, 0, aggregators=chosen)


def test_a_lane_beyond_the_limit_is_refused_and_never_cut() -> None:
    fresh = SharedScheme.of(context(5), lane_count=COUNT, packing=PACKING).sites["site-00"]
    lanes = np.zeros(COUNT, dtype=np.int32)
    for value in (PACKING.site_limit + 1, -PACKING.site_limit - 1):
        lanes[7] = value
        with pytest.raises(LaneOverflowError):
            fresh.protect(lanes)
    with pytest.raises(PackingInvalidError):
        fresh.protect(np.zeros(COUNT + 1, dtype=np.int32))
    lanes[7] = PACKING.site_limit
    assert fresh.protect(lanes).update


# Messages that are not what they should be.


def test_reports_of_another_sum_or_another_site_are_refused() -> None:
    scheme, _, reports = five()
    foreign = [
        SharedScheme.of(context(5, round_number=2), lane_count=COUNT, packing=PACKING),
        SharedScheme.of(context(5, model="ef" * 32), lane_count=COUNT, packing=PACKING),
        SharedScheme.of(context(5), lane_count=COUNT, packing=Packing(lane_bits=21, maximum_sites=5)),
        SharedScheme.of(context(5), lane_count=COUNT, aggregators=2, packing=PACKING),
    ]
    zeros = np.zeros(COUNT, dtype=np.int32)
    for other in foreign:
        with pytest.raises(SumRefusedError):
            scheme.coordinator.check("site-00", other.sites["site-00"].protect(zeros))
    with pytest.raises(SumRefusedError):
        scheme.coordinator.check("site-01", reports["site-00"])
    with pytest.raises(SumRefusedError):
        scheme.coordinator.check("site-77", reports["site-00"])
    with pytest.raises(SumRefusedError):
        scheme.sites["site-00"].answer({**reports, "site-04": reports["site-03"]})


def test_a_report_of_a_stranger_is_refused_although_it_says_so() -> None:
    scheme, _, reports = five()
    stranger = Report(update=scheme.coordinator._frame._fixed("site-77") + reports["site-00"].update[48:])
    with pytest.raises(SumRefusedError):
        scheme.coordinator.check("site-77", stranger)


def test_parts_of_another_set_open_nothing() -> None:
    scheme, _, reports = five()
    answers = scheme.answers(reports)
    four = {name: report for name, report in reports.items() if name != "site-04"}
    newer = {**reports, "site-04": five()[2]["site-04"]}
    for closed in (four, newer):
        with pytest.raises(SumUnopenedError) as unopened:
            scheme.coordinator.open(closed, answers)
        assert unopened.value.names == ("site-00", "site-01", "site-02")


def test_shares_of_sums_that_differ_in_anything_have_different_labels() -> None:
    frames = [
        SharedScheme.of(about, lane_count=count, aggregators=aggregators, packing=packing).coordinator._frame
        for about, count, aggregators, packing in (
            (context(5), COUNT, 3, PACKING),
            (context(5, round_number=2), COUNT, 3, PACKING),
            (context(5), COUNT + 1, 3, PACKING),
            (context(5), COUNT, 2, PACKING),
            (context(5), COUNT, 3, Packing(lane_bits=21, maximum_sites=5)),
            (context(5), COUNT, 3, Packing(lane_bits=22, maximum_sites=6)),
        )
    ]
    labels = [frame.share_label("site-03", name) for frame in frames for name in ("site-00", "site-01")]
    assert len(set(labels)) == len(labels)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_bytes_come_as_a_report_are_refused_with_a_code(data: st.DataObject) -> None:
    scheme, _, reports = FUZZED
    update = bytearray(reports["site-03"].update)
    kind = data.draw(st.sampled_from(["empty", "cut", "long", "random", "header", "shares"]))
    shares = b""
    if kind == "empty":
        update = bytearray()
    elif kind == "cut":
        update = update[: data.draw(st.integers(0, len(update) - 1))]
    elif kind == "long":
        update += data.draw(st.binary(min_size=1, max_size=9))
    elif kind == "random":
        update = bytearray(data.draw(st.binary(max_size=2000)))
    elif kind == "header":
        update[data.draw(st.integers(0, COMMITMENTS - 1))] ^= data.draw(st.integers(1, 255))
    else:
        shares = data.draw(st.binary(min_size=1, max_size=9))
    bad = Report(update=bytes(update), shares=shares)
    with pytest.raises(SumRefusedError):
        scheme.coordinator.check("site-03", bad)
    with pytest.raises(SumRefusedError):
        scheme.sites["site-00"].answer({**reports, "site-03": bad})


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_bytes_come_as_a_part_leave_the_sum_unopened(data: st.DataObject) -> None:
    scheme, _, reports = FUZZED
    good = FUZZED_ANSWERS["site-01"].part
    bad = Answer(
        part=data.draw(
            st.one_of(
                st.binary(max_size=2000),
                st.integers(0, len(good) - 1).map(lambda size: good[:size]),
                st.binary(min_size=1, max_size=5).map(lambda more: good + more),
                st.integers(0, 79).map(lambda at: good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]),
                st.just(FUZZED_ANSWERS["site-00"].part),
            )
        )
    )
    for answer in (bad, replace(FUZZED_ANSWERS["site-01"], unmask=b"x")):
        with pytest.raises(SumUnopenedError) as unopened:
            scheme.coordinator.open(reports, {**FUZZED_ANSWERS, "site-01": answer})
        assert unopened.value.names == ("site-01",)


@given(st.integers(COMMITMENTS, VECTOR - 1), st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_a_changed_share_names_the_site_whose_report_it_is(place: int, change: int) -> None:
    scheme, _, reports = FUZZED
    update = bytearray(reports["site-03"].update)
    update[place] ^= change
    owner = (place - COMMITMENTS) // 32 if place < SEALED else (place - SEALED) // 85
    end = SharedSum(
        context(5),
        PACKING,
        COUNT,
        aggregators=scheme.coordinator._frame.aggregators,
        name=f"site-{owner:02}",
        key=KEYS[owner],
    )
    with pytest.raises(SharesRefusedError) as refused:
        end.answer({**reports, "site-03": Report(update=bytes(update))})
    assert refused.value.names == ("site-03",) and refused.value.code == "privacy.shares-refused"
