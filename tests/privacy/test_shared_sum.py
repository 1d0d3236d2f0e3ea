from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ledger.errors import CodedError
from privacy.packing import LaneOverflowError, Lanes, Packing, SumOutOfRangeError
from privacy.protected_sum import (
    Answer,
    AnsweredError,
    ProtectedSum,
    Report,
    RoleError,
    SumRefusedError,
    SumUnopenedError,
)
from privacy.sealing import SealingKey
from privacy.shared_sum import Aggregator, AggregatorsInvalidError, SharedSum, SharesRefusedError
from tests.privacy.shared_scheme import KEYS, SharedScheme, context, random_lanes

COUNT = 300
PACKING = Packing(lane_bits=22, maximum_sites=5)


def total(lanes: dict[str, Lanes], names: list[str]) -> Lanes:
    return np.sum([lanes[name] for name in names], axis=0, dtype=np.int64).astype(np.int32)


def opened_of(scheme: SharedScheme, reports: dict[str, Report]) -> Lanes:
    return scheme.coordinator.open(reports, scheme.answers(reports))


def five() -> tuple[SharedScheme, dict[str, Lanes], dict[str, Report]]:
    scheme = SharedScheme.of(context(5), lane_count=COUNT, packing=PACKING)
    lanes = random_lanes(scheme, count=COUNT, limit=PACKING.site_limit)
    return scheme, lanes, scheme.reports(lanes)


# The format of a report among three aggregators (`privacy.shared_frame`).
COMMITMENTS, SEALED, VECTOR = 48, 48 + 3 * 32, 48 + 3 * 117


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
    with pytest.raises(SumRefusedError):
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


def test_a_coordinator_that_shows_a_site_a_key_of_its_own_is_found_out() -> None:
    """The site would seal an aggregator's share to the coordinator; nobody who knows the true key takes its report."""
    scheme, lanes, reports = five()
    true = scheme.coordinator._frame.aggregators
    forged = (replace(true[0], sealing_key=SealingKey.generate().public_bytes()), *true[1:])
    misled = SharedSum(context(5), PACKING, COUNT, aggregators=forged, name="site-03")
    report = misled.protect(lanes["site-03"])
    for end in (scheme.coordinator, scheme.sites["site-01"]):
        with pytest.raises(SumRefusedError):
            end.check("site-03", report)
    with pytest.raises(SumRefusedError):
        scheme.sites["site-01"].answer({**reports, "site-03": report})


def test_a_site_that_copies_anothers_report_under_its_own_name_is_named() -> None:
    """It would count the other's update twice without knowing it."""
    scheme, _, reports = five()
    copy = Report(update=reports["site-04"].update[:48] + reports["site-03"].update[48:])
    scheme.coordinator.check("site-04", copy)
    with pytest.raises(SharesRefusedError) as refused:
        scheme.sites["site-00"].answer({**reports, "site-04": copy})
    assert refused.value.names == ("site-04",)


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


# What is hidden, and from whom.


def secret_of(reports: dict[str, Report], scheme: SharedScheme, *, site: str, aggregator: int) -> bytes:
    """What the aggregator's long-term key opens for it."""
    start = SEALED + 85 * aggregator
    label = scheme.coordinator._frame.share_label(site, f"site-{aggregator:02}")
    return KEYS[aggregator].open(reports[site].update[start : start + 85], context=label)


def stream(scheme: SharedScheme, secret: bytes, *, site: str, aggregator: int) -> Lanes:
    label = scheme.coordinator._frame.share_label(site, f"site-{aggregator:02}")
    values = np.zeros(COUNT, dtype=np.uint32)
    key = hashlib.sha256(b"\x01" + label + secret).digest()
    scheme.coordinator._frame.ring.shift(values, plus=[key], minus=[])
    return values.view(np.int32)


def test_two_of_three_aggregators_and_the_coordinator_cannot_read_an_update() -> None:
    scheme, lanes, reports = five()
    answers = scheme.answers(reports)
    rest = np.frombuffer(reports["site-03"].update, dtype=np.int32, offset=VECTOR).copy()
    # They take away every stream of site-03 that they can compute.
    for aggregator in (0, 1):
        secret = secret_of(reports, scheme, site="site-03", aggregator=aggregator)
        rest += stream(scheme, secret, site="site-03", aggregator=aggregator)
    # What is left is the update under the third's stream, which they have in sums with honest sites' alone.
    assert (rest != lanes["site-03"]).mean() > 0.99
    third = secret_of(reports, scheme, site="site-03", aggregator=2)
    hidden = stream(scheme, third, site="site-03", aggregator=2)
    assert (rest + hidden == lanes["site-03"]).all()
    # They cannot open what is sealed to the third, nor does its part for the set give that one stream.
    sealed = reports["site-03"].update[SEALED + 170 : SEALED + 255]
    for key in (KEYS[0], KEYS[1], SealingKey.generate()):
        with pytest.raises(CodedError):
            key.open(sealed, context=scheme.coordinator._frame.share_label("site-03", "site-02"))
    part = np.frombuffer(answers["site-02"].part, dtype=np.int32, offset=80)
    assert (part != hidden).mean() > 0.99


def test_all_three_together_read_an_update_as_the_docstring_says() -> None:
    scheme, lanes, reports = five()
    rest = np.frombuffer(reports["site-03"].update, dtype=np.int32, offset=VECTOR).copy()
    for aggregator in range(3):
        secret = secret_of(reports, scheme, site="site-03", aggregator=aggregator)
        rest += stream(scheme, secret, site="site-03", aggregator=aggregator)
    assert (rest == lanes["site-03"]).all()


def test_had_one_aggregator_answered_twice_an_update_would_be_read_if_all_had() -> None:
    """Why each answers once: the difference of two sums is one site's update. One that refuses stops it."""
    scheme, lanes, reports = five()
    without = {name: report for name, report in reports.items() if name != "site-04"}
    forgetful = SharedScheme.of(context(5), lane_count=COUNT, packing=PACKING)
    both = [
        scheme.coordinator.open(chosen, {**end.answers(chosen)})
        for chosen, end in ((reports, scheme), (without, forgetful))
    ]
    assert (both[0] - both[1] == lanes["site-04"]).all()
    # site-02 remembers: with two answers of two others, the second sum stays shut.
    answers = {
        **forgetful.answers(without),
        "site-02": scheme.answers(reports)["site-02"],
    }
    with pytest.raises(SumUnopenedError) as unopened:
        scheme.coordinator.open(without, answers)
    assert unopened.value.names == ("site-02",)


def test_what_an_aggregator_and_the_coordinator_see_is_uniform() -> None:
    """All lanes the same, yet every byte of the vector and of parts is as likely as any other."""
    count = 200_000
    packing = Packing(lane_bits=16, maximum_sites=5)
    scheme = SharedScheme.of(context(5), lane_count=count, aggregators=2, packing=packing)
    lanes = {name: np.full(count, packing.site_limit, dtype=np.int32) for name in scheme.sites}
    reports = scheme.reports(lanes)
    answers = scheme.answers(reports)
    seen = [reports["site-03"].update[-2 * count :], reports["site-04"].update[-2 * count :]]
    seen += [answer.part[-2 * count :] for answer in answers.values()]
    for row in seen:
        counts = np.bincount(np.frombuffer(row, dtype=np.uint8), minlength=256)
        # True randomness: a correct scheme fails less than once in 10^7 runs.
        assert stats.chisquare(counts).pvalue > 1e-8
    one, two = (np.frombuffer(row, dtype=np.uint8).astype(float) for row in seen[:2])
    assert abs(np.corrcoef(one, two)[0, 1]) < 6 / np.sqrt(len(one))


def test_no_two_sums_use_one_secret() -> None:
    again = [five()[2]["site-03"].update for _ in range(2)]
    assert again[0][:COMMITMENTS] == again[1][:COMMITMENTS]
    assert again[0][COMMITMENTS:SEALED] != again[1][COMMITMENTS:SEALED]
    # Less a few that chance makes equal.
    assert sum(a == b for a, b in zip(again[0][VECTOR:], again[1][VECTOR:], strict=True)) < 40


# Who lied.


def test_an_aggregator_that_lies_about_its_part_is_found_out_by_what_it_discloses() -> None:
    scheme, lanes, reports = five()
    answers = scheme.answers(reports)
    lie = np.frombuffer(answers["site-01"].part, dtype=np.uint32, offset=80).copy()
    lie[:1] += np.uint32(1000)
    told = Answer(part=answers["site-01"].part[:80] + lie.tobytes())
    opened = scheme.coordinator.open(reports, {**answers, "site-01": told})
    # Nothing notices a small lie in the sum itself: this is the limit that the scheme has.
    assert opened[0] == total(lanes, list(lanes))[0] + 1000
    for name in ("site-00", "site-01"):
        owed = scheme.coordinator.recount(name, reports, scheme.sites[name].disclose(reports))
        assert owed == answers[name]
    assert told != scheme.coordinator.recount("site-01", reports, scheme.sites["site-01"].disclose(reports))


def test_what_an_aggregator_discloses_is_what_sites_committed_to() -> None:
    scheme, _, reports = five()
    with pytest.raises(SumRefusedError):
        scheme.sites["site-01"].disclose(reports)
    scheme.answers(reports)
    disclosed = bytearray(scheme.sites["site-01"].disclose(reports))
    with pytest.raises(SumRefusedError):
        scheme.sites["site-01"].disclose({n: r for n, r in reports.items() if n != "site-04"})
    disclosed[32 * 4] ^= 1
    with pytest.raises(SharesRefusedError) as refused:
        scheme.coordinator.recount("site-01", reports, bytes(disclosed))
    assert refused.value.names == ("site-04",)
    for name, secrets in (("site-01", b""), ("site-03", bytes(disclosed))):
        with pytest.raises(SumRefusedError):
            scheme.coordinator.recount(name, reports, secrets)


def test_a_lie_beyond_the_range_of_lanes_is_refused() -> None:
    scheme, _, reports = five()
    answers = scheme.answers(reports)
    lie = np.frombuffer(answers["site-01"].part, dtype=np.uint32, offset=80).copy()
    lie[:1] += np.uint32(1 << 30)
    with pytest.raises(SumOutOfRangeError):
        scheme.coordinator.open(
            reports, {**answers, "site-01": Answer(part=answers["site-01"].part[:80] + lie.tobytes())}
        )
