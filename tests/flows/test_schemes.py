"""One word in the plan changes how sums are protected, and nothing else: the same lanes give the same model.

Training is bent to one update a site whose lanes are exact, so that rounding has nothing to decide; from there on
everything is the product's own. What the sums must be is numpy's plain sum of the lanes that went in.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from adapters.exchange import DirectoryExchange
from adapters.objects import load
from policies.plan import Plan
from policies.receipt import Step
from privacy.packing import Lanes
from privacy.protected_sum import Report
from tasks.aggregate import encoding_of, lanes_from_bytes, model_size
from tasks.summing import SumTerms
from tasks.worker.site_session import SiteSession
from tasks.worker.sum_session import SealedKey
from tests.consortium import SITES, Consortium, Outcome, site_worker
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-1")

SCHEMES = ("masked", "homomorphic", "homomorphic-unmasked", "shared")
SCALE = 4096
Fed = dict[tuple[int, Step], list[Lanes]]
"""The lanes that all sites put in, by round and step."""


def exact_plan(scheme: str, **fields: object) -> Plan:
    """A lane is exactly 1/4096: a float32 of whole 4096ths encodes to itself, however rounding falls."""
    limit = encoding_of(tiny_plan()).packing.site_limit
    update = {
        "clip_l2": (limit - 1) / SCALE,
        "lane_bits": 22,
        "maximum_sites": 50,
        "server_learning_rate": 1.0,
    }
    protection = {"scheme": scheme, "aggregators": 2} if scheme == "shared" else {"scheme": scheme}
    tier = "minimal" if scheme == "homomorphic-unmasked" else "limited"
    plan = tiny_plan(update=update, protection=protection, risk_tier=tier, **fields)
    assert encoding_of(plan).scale == SCALE
    return plan


def exact_session(number: int, fed: Fed) -> type[SiteSession]:
    """Site `number`: its update of a round is drawn from a seed, and what it feeds into each sum is noted."""

    class Exact(SiteSession):
        def train(self, plan: Plan, base: bytes, round_number: int, attempt: int) -> float:
            random = np.random.default_rng([number, round_number])
            drawn = random.integers(-300, 300, model_size(plan)) / SCALE
            self._delta, self._trained_on = drawn, self._present().begin_round()
            self._patients_by_round[round_number] = self._trained_on.patient_count
            return 0.0

        def _report(self, plan: Plan, terms: SumTerms, lanes: Lanes, sealed: SealedKey | None) -> Report:
            fed[terms.context.round, terms.context.step].append(lanes.copy())
            return super()._report(plan, terms, lanes, sealed)

    return Exact


def exact_consortium(root: Path, names: tuple[str, ...], fed: Fed) -> Consortium:
    consortium = Consortium.found(root, sites=names, patients=dict.fromkeys(names, 60))
    for number, name in enumerate(names):
        consortium.workers[name] = site_worker(exact_session(number, fed))
    return consortium


def assert_sums_are_numpys(consortium: Consortium, outcome: Outcome, plan: Plan, fed: Fed) -> str:
    """Of both steps of each round; returns the last model's digest."""
    digest, exchange = plan.content_digest(), DirectoryExchange(consortium.founded.exchange)
    for number in range(1, plan.rounds + 1):
        expected: dict[Step, Lanes] = {
            step: np.sum(fed[number, step], axis=0) for step in ("training", "evaluation")
        }
        opened = load(exchange, outcome.state.released[digest, number].sum_digest)
        assert np.array_equal(lanes_from_bytes(opened, count=model_size(plan)), expected["training"])
        assert outcome.state.evaluated[digest, number].histogram == tuple(expected["evaluation"].tolist())
    return outcome.state.released[digest, plan.rounds].model_digest


@pytest.mark.parametrize("sites", [3, pytest.param(5, marks=pytest.mark.slow)])
async def test_every_scheme_opens_numpys_sum_and_all_arrive_at_one_model(tmp_path: Path, sites: int) -> None:
    names, models = tuple(f"hospital-{letter}" for letter in "abcde"[:sites]), set()
    fed: Fed = defaultdict(list)
    consortium = exact_consortium(tmp_path, names, fed)
    keys: dict[str, set[str | None]] = {}
    for scheme in SCHEMES:
        fed.clear()
        plan = exact_plan(scheme)
        outcome = await consortium.run(plan)
        assert outcome.errors == {}, scheme
        models.add(assert_sums_are_numpys(consortium, outcome, plan, fed))
        assert all(len(lanes) == sites for lanes in fed.values())
        said = [
            receipt.statement
            for (about, *_), receipt in outcome.state.receipts.items()
            if about == plan.content_digest()
        ]
        keys[scheme] = {one.predicate.sum_key_digest for one in said}
        assert {one.shares_digest is None for one in said} == {scheme in ("shared", "homomorphic-unmasked")}
    assert len(models) == 1
    # Two plans of one study whose sums are encrypted have two keys, and the others none.
    assert keys["masked"] == keys["shared"] == {None}
    assert None not in keys["homomorphic"] | keys["homomorphic-unmasked"]
    assert len(keys["homomorphic"] | keys["homomorphic-unmasked"]) == 2


@pytest.mark.slow
async def test_twenty_sites_sum_as_numpy_does(tmp_path: Path) -> None:
    fed: Fed = defaultdict(list)
    names = tuple(f"hospital-{number:02d}" for number in range(20))
    consortium = exact_consortium(tmp_path, names, fed)
    plan = exact_plan("masked", participation={"required": [], "minimum_sites": 3, "deadline_s": 120})
    outcome = await consortium.run(plan, wait_s=120.0)
    assert outcome.errors == {}
    assert_sums_are_numpys(consortium, outcome, plan, fed)


async def test_a_roster_without_the_aggregators_that_a_plan_asks_for_ends_it_with_that_reason(
    tmp_path: Path,
) -> None:
    """Of four sites three hold keys; without one of these, shares for three aggregators could never be opened."""
    consortium = Consortium.found(tmp_path)
    deadline = {"required": [], "minimum_sites": 3, "deadline_s": 10}
    plan = tiny_plan(protection={"scheme": "shared", "aggregators": 3}, participation=deadline)
    outcome = await consortium.run(plan, absent=SITES[:1])
    assert {party: outcome.code(party) for party in outcome.errors} == {"coordinator": "roster.holders"}
    assert not outcome.state.verdicts[plan.content_digest(), 1].passed
    assert not outcome.state.rosters and not outcome.state.spent


async def test_a_plan_of_limited_risk_may_not_be_summed_without_masks(tmp_path: Path) -> None:
    consortium = Consortium.found(tmp_path)
    plan = tiny_plan(protection={"scheme": "homomorphic-unmasked"}, risk_tier="limited")
    outcome = await consortium.run(plan)
    assert outcome.code("coordinator") == "plan.scheme"
    assert outcome.state.verdicts[plan.content_digest(), 0].violations == ("plan.scheme",)
    assert not outcome.state.approvals and not outcome.state.spent
