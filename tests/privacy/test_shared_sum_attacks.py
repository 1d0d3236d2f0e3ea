"""Stories of what a hostile coordinator, aggregators or sites try on a shared sum, and of what it does not stop."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ledger.errors import CodedError
from privacy.packing import Lanes, Packing, SumOutOfRangeError
from privacy.protected_sum import (
    Answer,
    Report,
    SumRefusedError,
    SumUnopenedError,
)
from privacy.sealing import SealingKey
from privacy.shared_sum import SharedSum, SharesRefusedError
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
    total,
)


def test_a_site_that_copies_anothers_report_under_its_own_name_is_named() -> None:
    """It would count the other's update twice without knowing it."""
    scheme, _, reports = five()
    copy = Report(update=reports["site-04"].update[:48] + reports["site-03"].update[48:])
    scheme.coordinator.check("site-04", copy)
    with pytest.raises(SharesRefusedError) as refused:
        scheme.sites["site-00"].answer({**reports, "site-04": copy})
    assert refused.value.names == ("site-04",)


def test_a_coordinator_that_shows_a_site_a_key_of_its_own_is_found_out() -> None:
    """The site would seal an aggregator's share to the coordinator; who knows the true key refuses its report."""
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
