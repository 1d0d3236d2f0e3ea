"""Sites that follow the protocol's form and not its word: each costs its own part, or ends the round by name.

In every story one site lies and all others are as they come. None of these lies may stop the others for ever, and
none may leave them without knowing who it was.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from adapters import mail
from adapters.exchange import DirectoryExchange
from ledger.errors import PolicyViolation
from policies.inquiry import AnyPlan
from policies.protection import groups_of, outlying_sites
from policies.receipt import Step
from privacy.accounting import MICRO
from privacy.masking import shares_part
from privacy.packing import Lanes
from privacy.protected_sum import Report
from tasks.opening import ImpossibleSumError
from tasks.summing import SumTerms
from tasks.worker.site_session import SiteSession
from tasks.worker.sum_session import SealedKey
from tests.consortium import SITES, Consortium, Outcome, site_worker
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-2")

A, B, C, D = SITES
COMMITMENTS_OFFSET = 56
COMMITMENT_BYTES = 32
CONTRADICTED = "privacy.pair-contradiction"


def patience(*, deadline_s: int, minimum_sites: int = 3) -> dict[str, object]:
    return {"required": [], "minimum_sites": minimum_sites, "deadline_s": deadline_s}


def said_by_the_coordinator(outcome: Outcome) -> dict[str, str]:
    """{code: message} of why the run failed. Nobody else failed: every site saw the verdict and ended."""
    assert outcome.errors.keys() == {"coordinator"}
    error = outcome.errors["coordinator"]
    assert isinstance(error, PolicyViolation)
    return {violation.code: violation.message for violation in error.violations}


class BadDealer(SiteSession):
    """Commits to its shares as it must, and hands two of four sites others that do not open."""

    def _report(self, plan: AnyPlan, terms: SumTerms, lanes: Lanes, sealed: SealedKey | None) -> Report:
        report = super()._report(plan, terms, lanes, sealed)
        part = shares_part.read(terms.context, author=self._config.name, data=report.shares)
        spoilt = bytearray(report.shares)
        for victim in (0, 1):
            spoilt[part._recipient(victim) + COMMITMENT_BYTES * part.sites] ^= 1
        return Report(update=report.update, shares=bytes(spoilt))


async def test_shares_that_do_not_open_are_laid_to_their_dealer_and_the_round_ends_for_everybody(
    consortium: Consortium,
) -> None:
    """Its victims cannot answer, and must not stand there as the silent ones."""
    consortium.workers[D] = site_worker(BadDealer)
    plan = tiny_plan(participation=patience(deadline_s=10))
    outcome = await consortium.run(plan)
    why = said_by_the_coordinator(outcome)[ImpossibleSumError.code]
    assert f"{A} says that the shares of {D} are bad" in why
    assert f"{B} says that the shares of {D} are bad" in why
    assert f"{C} says" not in why
    assert f"the shares of {D} are bad" in consortium.site_log(A)
    verdict = outcome.state.verdicts[plan.content_digest(), 1]
    assert not verdict.passed and consortium.registered_versions() == 0


class TwoTongued(SiteSession):
    """Commits to another pair secret than its partner's: with two sites in round 1, with one in round 2."""

    def _report(self, plan: AnyPlan, terms: SumTerms, lanes: Lanes, sealed: SealedKey | None) -> Report:
        report = super()._report(plan, terms, lanes, sealed)
        if terms.context.step != "training":
            return report
        shares = bytearray(report.shares)
        for subject in range(3 - terms.context.round):
            at = COMMITMENTS_OFFSET + COMMITMENT_BYTES * subject
            shares[at : at + COMMITMENT_BYTES] = os.urandom(COMMITMENT_BYTES)
        return Report(update=report.update, shares=bytes(shares))


async def test_whoever_contradicts_the_others_is_refused_before_anything_is_closed(
    consortium: Consortium,
) -> None:
    """Of four sites one may lie. Who contradicts two is it; where two contradict each other nobody knows which, and
    the two that are left are too few."""
    consortium.workers[D] = site_worker(TwoTongued)
    plan = tiny_plan(rounds=2, participation=patience(deadline_s=10))
    outcome = await consortium.run(plan)
    digest, state = plan.content_digest(), outcome.state
    assert outcome.missing(plan, 1) == {D: CONTRADICTED}
    assert state.verdicts[digest, 1].passed and consortium.registered_versions() == 1
    assert said_by_the_coordinator(outcome).keys() == {"round.too-few"}
    assert {key[3] for key, code in state.refusals.items() if key[1] == 2 and code == CONTRADICTED} == {A, D}
    assert (digest, 2, "training") not in state.closed and not state.verdicts[digest, 2].passed


class OutOfRange(SiteSession):
    """Masks its update as it must, and adds to every masked lane more than any sum of honest updates holds."""

    def _report(self, plan: AnyPlan, terms: SumTerms, lanes: Lanes, sealed: SealedKey | None) -> Report:
        report = super()._report(plan, terms, lanes, sealed)
        if terms.context.step != "training":
            return report
        update = bytearray(report.update)
        masked = np.frombuffer(update, dtype="<u4", offset=len(update) - 4 * len(lanes))
        masked += np.uint32(2**30)
        return Report(update=bytes(update), shares=report.shares)


async def test_a_cluster_that_adds_up_to_no_possible_sum_is_left_out_and_the_round_goes_on(
    tmp_path: Path,
) -> None:
    sites = tuple(f"hospital-{number:02d}" for number in range(12))
    consortium = Consortium.found(tmp_path, sites=sites, patients=dict.fromkeys(sites, 60))
    liar = sites[5]
    consortium.workers[liar] = site_worker(OutOfRange)
    plan = tiny_plan(robust={"hostile": 1}, participation=patience(deadline_s=30))
    outcome = await consortium.run(plan, wait_s=60.0)
    assert outcome.errors == {}
    digest, state = plan.content_digest(), outcome.state
    clusters = groups_of(state, digest, "training")
    spoilt = next(number for number, cluster in enumerate(clusters) if liar in cluster)
    released = state.released[digest, 1]
    assert released.outliers == (spoilt,) and released.cosines_micro[spoilt] == -MICRO
    # The released aggregate is the evidence, against this cluster and no other.
    evidence = next(entry for entry, about in state.release_entries.items() if about == (digest, 1))
    assert outlying_sites(state, evidence) == set(clusters[spoilt])
    assert state.quarantined == dict.fromkeys(clusters[spoilt], "robust.outlier")
    # The model is that of the other two, who evaluated it.
    assert set(outcome.missing(plan, 1, "evaluation")) == set(clusters[spoilt])
    assert state.verdicts[digest, 1].passed and consortium.registered_versions() == 1


async def test_junk_where_a_victims_answer_and_opening_will_lie_keeps_nobody_from_being_heard(
    consortium: Consortium,
) -> None:
    """Places on the exchange are known beforehand, and whoever can write there can write first."""
    plan = tiny_plan(participation=patience(deadline_s=10))
    digest, exchange = plan.content_digest(), DirectoryExchange(consortium.founded.exchange)
    steps: tuple[Step, ...] = ("training", "evaluation")
    places = [place(digest, 1, kind) for kind in steps for place in (mail.answers, mail.openings)]
    for place in places:
        for victim in (A, B):
            exchange.put(f"{place}/{victim}", b"junk")
    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    assert outcome.state.verdicts[digest, 1].passed and consortium.registered_versions() == 1
    assert all(exchange.get(f"{place}/{victim}") != b"junk" for place in places for victim in (A, B))


class FalseKeyMaker(SiteSession):
    """Makes the plan's key, keeps it, and seals junk to other holders: to one, or to all."""

    victims: tuple[str, ...] = (B,)

    def make_key(self, recipients: dict[str, str], *, context: bytes) -> tuple[bytes, dict[str, bytes]]:
        public, sealed = super().make_key(recipients, context=context)
        return public, {
            name: os.urandom(len(message)) if name in self.victims else message
            for name, message in sealed.items()
        }


class FalseKeyMakerToAll(FalseKeyMaker):
    victims = (B, C)


async def test_a_holder_without_a_usable_key_still_reports_and_the_other_holders_open(
    consortium: Consortium,
) -> None:
    consortium.workers[A] = site_worker(FalseKeyMaker)
    plan = tiny_plan(protection={"scheme": "homomorphic"}, participation=patience(deadline_s=10))
    outcome = await consortium.run(plan)
    assert outcome.errors == {} and outcome.state.refusals == {}
    assert outcome.missing(plan, 1) == {} and outcome.missing(plan, 1, "evaluation") == {}
    assert outcome.state.verdicts[plan.content_digest(), 1].passed


async def test_holders_who_all_got_junk_end_the_round_and_lose_no_report(consortium: Consortium) -> None:
    """One holder's word alone opens nothing. The round says so, instead of ending for want of reports."""
    consortium.workers[A] = site_worker(FalseKeyMakerToAll)
    plan = tiny_plan(protection={"scheme": "homomorphic"}, participation=patience(deadline_s=10))
    outcome = await consortium.run(plan)
    why = said_by_the_coordinator(outcome)[ImpossibleSumError.code]
    assert "1 of the 2 equal openings needed" in why
    assert outcome.state.refusals == {} and outcome.missing(plan, 1) == {}
    assert not outcome.state.verdicts[plan.content_digest(), 1].passed


async def test_lanes_of_eight_bits_are_evaluated_too(consortium: Consortium) -> None:
    """Such a lane counts 25 patients of each of five sites. These have a hundred each, in four bins."""
    update = {
        "clip_l2": 8.0,
        "coordinate_clip": 0.25,
        "lane_bits": 8,
        "maximum_sites": 5,
        "server_learning_rate": 1.0,
    }
    plan = tiny_plan(update=update, participation=patience(deadline_s=10))
    outcome = await consortium.run(plan)
    assert outcome.errors == {} and outcome.state.refusals == {}
    evaluated = outcome.state.evaluated[plan.content_digest(), 1]
    assert outcome.missing(plan, 1, "evaluation") == {}
    assert max(evaluated.histogram) > 4 * 25, "more than lanes of the plan's width could have held"
