"""Rounds whose noise is shared out: each site adds its part in the ring, and only the sum is private by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from adapters import objects
from adapters.exchange import DirectoryExchange
from policies.cost import epsilon_micro, plan_cost, round_cost
from policies.plan import Plan
from privacy.encoding import Vector
from privacy.mechanisms import DistributedGaussian
from privacy.packing import Lanes
from tasks import site_noise
from tasks.aggregate import lanes_from_bytes, model_size
from tasks.worker import site_session
from tasks.worker.coordinator_session import CoordinatorSession
from tests.consortium import SITES, Consortium, PowerCut, coordinator_worker, site_worker
from tests.plans import distributed_plan

pytestmark = pytest.mark.xdist_group("rounds-1")


class Sent:
    """What every site would have sent without noise, and with it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.exact: list[npt.NDArray[np.float64]] = []
        self.noised: list[Lanes] = []
        made = site_noise.noised_update

        def noted(plan: Plan, update: Vector) -> Lanes:
            self.exact.append(update.astype(np.float64))
            self.noised.append(made(plan, update))
            return self.noised[-1]

        monkeypatch.setattr(site_session, "noised_update", noted)


async def test_the_opened_sum_is_the_plain_sum_of_integers_and_carries_the_noise_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Sent(monkeypatch)
    consortium, plan = Consortium.found(tmp_path), distributed_plan(rounds=2)
    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    digest, share = plan.content_digest(), plan.noise_share
    assert share is not None and share.shares == 3
    exchange = DirectoryExchange(consortium.founded.exchange)
    for number in (1, 2):
        opened = objects.load(exchange, outcome.state.released[digest, number].sum_digest)
        total = lanes_from_bytes(opened, count=model_size(plan))
        mine = slice(4 * (number - 1), 4 * number)
        assert total.tolist() == np.sum(sent.noised[mine], axis=0, dtype=np.int64).tolist()
        noise = total / share.scale - np.sum(sent.exact[mine], axis=0)
        # Four sites added theirs; three shares are what is claimed: sigma = noise_multiplier * 0.01 on the sum.
        claimed = plan.training.noise_multiplier * 0.01
        assert noise.std() == pytest.approx(claimed * np.sqrt(4 / 3), rel=0.35)
        assert outcome.state.released[digest, number].norm_l2_micro <= 4 * 500_000
        assert outcome.state.verdicts[digest, number].passed
    # 2. Every receipt and reservation names the trust setting, with what a stranger recomputes its price from.
    for receipt in outcome.state.usable_receipts(digest, 1, "training"):
        (mechanism,) = receipt.statement.predicate.mechanisms
        assert isinstance(mechanism, DistributedGaussian)
        assert (mechanism.shares, mechanism.share_bits) == (3, share.bits)
    assert all(outcome.state.spent_by(site) for site in SITES)


async def test_a_set_with_too_few_shares_is_never_opened(tmp_path: Path) -> None:
    consortium, plan = (
        Consortium.found(tmp_path),
        distributed_plan(participation={"required": [], "minimum_sites": 4, "deadline_s": 2}),
    )

    class Failing(site_session.SiteSession):
        def train(self, plan: Plan, base: bytes, round_number: int, attempt: int) -> float:
            raise site_session.NothingTrainedError("the process died")

    consortium.workers["hospital-d"] = site_worker(Failing)
    outcome = await consortium.run(plan)
    assert outcome.code("coordinator") == "participation.too-few"
    assert not outcome.state.closed and not outcome.state.released


async def test_a_network_too_large_for_the_lanes_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    narrow = {"clip_l2": 8.0, "lane_bits": 18, "maximum_sites": 4, "server_learning_rate": 1.0}
    plan = distributed_plan(update={**narrow, "coordinate_clip": 0.05})
    consortium = Consortium.found(tmp_path)
    outcome = await consortium.run(plan, wait_s=1.0)
    assert outcome.code("coordinator") == "privacy.resolution"
    assert not outcome.state.plans

    # A coordinator that does not look publishes it all the same: every site says no, by the same code.
    class Careless(CoordinatorSession):
        def check_network(self, plan: Plan) -> None:
            """All is well."""

    consortium.coordinator = coordinator_worker(Careless)
    outcome = await consortium.run(plan, wait_s=10.0)
    assert {outcome.code(site) for site in SITES} == {"privacy.resolution"}
    refused = {site: code for (_, number, _, site), code in outcome.state.refusals.items() if number == 0}
    assert refused == dict.fromkeys(SITES, "privacy.resolution")
    assert not outcome.state.receipts and not outcome.state.spent


async def test_rounds_between_evaluations_are_summed_and_charged_and_the_last_is_judged(
    tmp_path: Path,
) -> None:
    consortium = Consortium.found(tmp_path)
    plan = distributed_plan(rounds=5, evaluation={"bins": 4, "noise_std": 3.0, "every": 3})
    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    digest, state = plan.content_digest(), outcome.state
    assert {number for (_, number) in state.verdicts} == {0, 3, 5}
    assert {number for (_, number) in state.released} == {1, 2, 3, 4, 5}
    assert (
        {number for (_, number) in state.evaluated} == {number for (_, number) in state.registered} == {3, 5}
    )
    assert all(state.spent_by(site) == plan_cost(plan) for site in SITES)
    assert [row["round"] for row in consortium.report()["rounds"]] == [3, 5]
    packages = (consortium.founded.coordinator / "evidence").glob(f"{digest[:16]}*.zip")
    assert sorted(path.stem.rpartition("-")[2] for path in packages) == ["3", "5"]


@pytest.mark.parametrize("moment", ["train", "submit", "collect (training)", "release the model"])
async def test_a_run_cut_off_between_evaluations_goes_on_and_trains_no_round_twice(
    tmp_path: Path, moment: str
) -> None:
    consortium = Consortium.found(tmp_path)
    plan = distributed_plan(rounds=3, evaluation={"bins": 4, "noise_std": 3.0, "every": 3})
    cut = await consortium.run(plan, cut_at=lambda told: told.step == moment and told.round == 2)
    assert any(isinstance(error, PowerCut) for error in cut.errors.values())
    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    digest = plan.content_digest()
    assert outcome.state.verdicts[digest, 3].passed
    spent = {outcome.state.spent_by(site) for site in SITES}
    # A site that had reserved and not begun reserves anew.
    assert spent <= {plan_cost(plan), plan_cost(plan) + round_cost(plan, 2)}
    assert spent == {plan_cost(plan)} or moment != "release the model"


async def test_a_poisoned_sum_between_evaluations_ends_the_plan_for_everybody(tmp_path: Path) -> None:
    class Poisoner(site_session.SiteSession):
        def train(self, plan: Plan, base: bytes, round_number: int, attempt: int) -> float:
            return super().train(plan, base, round_number, attempt)

        def _protected(self, plan: Plan, terms: object, lanes: Lanes, *rest: object) -> object:  # type: ignore[override]
            share = plan.noise_share
            assert share is not None
            lanes = np.full(len(lanes), int(0.9 * 0.5 * share.scale), dtype=np.int32)
            return super()._protected(plan, terms, lanes, *rest)  # type: ignore[arg-type]

    consortium = Consortium.found(tmp_path)
    consortium.workers["hospital-d"] = site_worker(Poisoner)
    plan = distributed_plan(rounds=3, evaluation={"bins": 4, "noise_std": 3.0, "every": 3})
    outcome = await consortium.run(plan, leave=True)
    assert outcome.code("coordinator") == "update.norm"
    assert {number for (_, number) in outcome.state.released} == {1}
    assert not outcome.state.verdicts[plan.content_digest(), 1].passed


async def test_the_cap_refuses_in_the_middle_of_a_run(tmp_path: Path) -> None:
    """The pool has room for what the plan costs, until another plan draws on it: here two plans at once."""
    plan = distributed_plan(rounds=4, evaluation={"bins": 4, "noise_std": 3.0, "every": 4})
    cap = epsilon_micro(plan_cost(plan), 1e-5) / 1e6 * 1.05
    consortium = Consortium.found(tmp_path, cap=cap)
    outcome = await consortium.run(plan)
    spent = {site: outcome.state.spent_by(site) for site in SITES}
    again = plan.with_fields({"edition": "2"})
    outcome = await consortium.run(again, wait_s=2.0)
    assert outcome.code("coordinator") == "budget.pool-cap"
    assert {site: outcome.state.spent_by(site) for site in SITES} == spent
