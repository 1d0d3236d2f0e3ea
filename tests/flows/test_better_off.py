"""What each hospital gains, told without telling whose: whole rounds, under every way to sum and to encode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.home import SourceConfig
from adapters.sources.volume_phantoms import write_volume_phantoms
from policies.comparison import answers_of
from policies.cost import plan_cost
from policies.plan import Plan
from privacy.noise import NoiseStream
from privacy.packing import Lanes
from privacy.protected_sum import Report
from tasks.summing import SumTerms
from tasks.train.local_only import train_local
from tasks.worker import site_session
from tasks.worker.site_session import SiteSession
from tasks.worker.sum_session import SealedKey
from tests.consortium import SITES, Consortium, Outcome, site_worker
from tests.flows.test_budgets import configure
from tests.flows.test_masks import mask_plan
from tests.flows.test_robust import sites
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-3")

ASKING: dict[str, Any] = {"bins": 4, "noise_std": 1.0, "compare": {"epsilon": 3.0}}
ROOM = {"epsilon_cap": 20.0, "delta": 1e-5}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Every site's answer: the first of a run is a no, the others a yes, whatever is true."""
    answers: list[bool] = []

    def noted(truth: bool, epsilon: float, stream: NoiseStream) -> bool:
        answers.append(bool(answers))
        return answers[-1]

    monkeypatch.setattr(site_session, "respond", noted)
    return answers


def counted(outcome: Outcome, plan: Plan, round_number: int) -> int | None:
    return outcome.state.evaluated[plan.content_digest(), round_number].better_off


@pytest.mark.parametrize(
    "fields",
    [
        {
            "rounds": 2,
            "evaluation": {**ASKING, "subgroups": "sex"},
            "compression": {"keep": 0.5},
            "update": {
                "clip_l2": 8.0, "lane_bits": 8, "maximum_sites": 8, "server_learning_rate": 1.0,
                "coordinate_clip": 0.5,
            },
        },
        {"evaluation": ASKING, "protection": {"scheme": "homomorphic"}},
        {"evaluation": ASKING, "protection": {"scheme": "shared", "aggregators": 2}},
    ],
    ids=["narrow", "homomorphic", "shared"],
)  # fmt: skip
async def test_the_sum_of_the_answers_is_on_the_ledger_and_in_the_report(
    tmp_path: Path, said: list[bool], monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    trained: list[int] = []

    def noted(*arguments: Any, **options: Any) -> None:  # noqa: ANN401
        trained.append(1)
        train_local(*arguments, **options)

    monkeypatch.setattr(site_session, "train_local", noted)
    consortium, plan = Consortium.found(tmp_path), tiny_plan(budget=ROOM, **fields)
    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    assert len(said) == len(SITES) and counted(outcome, plan, plan.rounds) == 3
    assert all(counted(outcome, plan, number) is None for number in range(1, plan.rounds))
    for site in SITES:
        assert outcome.state.spent_by(site) == plan_cost(plan)
    assert len(trained) == len(SITES), "the report of a site takes the model that was trained for the answer"
    told = consortium.report()["rounds"]
    assert [one["better_off"] is not None for one in told] == [False] * (plan.rounds - 1) + [True]
    assert (told[-1]["better_off"]["yes"], told[-1]["better_off"]["asked"]) == (3, 4)
    cards = sorted(consortium.founded.coordinator.rglob("model-card.md"))
    assert ["3 of 4 sites said yes" in card.read_text() for card in cards] == [
        number == plan.rounds for number in range(1, plan.rounds + 1)
    ]


async def test_masks_are_compared_by_their_dice(tmp_path: Path, said: list[bool]) -> None:
    write_volume_phantoms(tmp_path / "volumes", sites=SITES, seed=0, patients_per_site=60)
    sources = {site: SourceConfig(kind="nifti", path=str(tmp_path / "volumes" / site)) for site in SITES}
    consortium = Consortium.found(tmp_path, data=sources, families=("UNet",))
    plan = mask_plan(evaluation=ASKING, budget=ROOM)
    outcome = await consortium.run(plan)
    assert outcome.errors == {} and counted(outcome, plan, 1) == 3


@pytest.mark.slow
async def test_of_a_robust_plan_all_answers_are_in_one_sum(tmp_path: Path, said: list[bool]) -> None:
    names = sites(12)
    consortium = Consortium.found(tmp_path, sites=names, patients=dict.fromkeys(names, 60))
    plan = tiny_plan(
        robust={"hostile": 1},
        participation={"required": [], "minimum_sites": 3, "deadline_s": 60},
        evaluation=ASKING,
        budget=ROOM,
    )
    outcome = await consortium.run(plan, wait_s=60.0)
    assert outcome.errors == {} and counted(outcome, plan, 1) == 11


async def test_a_site_that_answers_for_others_is_seen_and_changes_no_model(
    tmp_path: Path, said: list[bool]
) -> None:
    """Nine yeses of four sites: nobody knows whose, so the answers say nothing. The figures beside them stand."""

    class Loud(SiteSession):
        def _report(self, plan: Plan, terms: SumTerms, lanes: Lanes, sealed: SealedKey | None) -> Report:
            if terms.context.step == "evaluation":
                lanes = np.append(lanes[:-1], np.int32(9))
            return super()._report(plan, terms, lanes, sealed)

    consortium, plan = Consortium.found(tmp_path), tiny_plan(evaluation=ASKING, budget=ROOM)
    consortium.workers[SITES[3]] = site_worker(Loud)
    outcome = await consortium.run(plan)
    assert outcome.errors == {} and (counted(outcome, plan, 1) or 0) > len(SITES)
    assert answers_of(outcome.state, plan.content_digest(), 1) is None
    assert consortium.report()["rounds"][-1]["better_off"] is None


async def test_a_hospital_that_lets_no_answer_be_so_sure_takes_no_part_in_the_plan(tmp_path: Path) -> None:
    consortium = Consortium.found(tmp_path)
    configure(consortium, SITES[1], comparison_epsilon_ceiling=2.9)
    plan = tiny_plan(evaluation=ASKING, budget=ROOM)
    outcome = await consortium.run(plan)
    assert outcome.code(SITES[1]) == "site.comparison"
    assert outcome.missing(plan, 1)[SITES[1]] == "site.comparison"
    assert outcome.state.evaluated[plan.content_digest(), 1].better_off in range(4)
