"""Budgets and a hospital's own policy over whole runs: one register, settlements, limits, exhaustion."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from adapters.home import Home, SiteConfig
from adapters.pool_journal import PoolJournal
from policies.budget import given_back
from policies.cost import plan_cost, round_cost
from policies.plan import Plan
from tasks.worker.site_session import Prepared, SiteSession
from tests.consortium import SITES, Consortium, site_worker
from tests.plans import tiny_plan
from tests.policies.test_two_studies import CAP

pytestmark = pytest.mark.xdist_group("rounds-1")
A, *_, D = SITES


def configure(consortium: Consortium, site: str, **changed: object) -> None:
    """Edit fields of the site's institution.yaml; those of `policy` by their own names."""
    path = consortium.founded.sites[site] / "institution.yaml"
    value = yaml.safe_load(path.read_text())
    for name, new in changed.items():
        (value if name in value else value["policy"])[name] = new
    path.write_text(yaml.safe_dump(value))


def journal_of(consortium: Consortium, site: str) -> PoolJournal:
    home = Home(consortium.founded.sites[site])
    config = home.read(SiteConfig)
    return PoolJournal(home.resolve(config.pool), config.policy.pool, owner=site)


async def test_two_coordinators_draw_on_one_register(tmp_path: Path) -> None:
    """One hospital in two federations: each ledger has room for a round, the register for one in all."""
    plan = tiny_plan(participation={"required": [], "minimum_sites": 3, "deadline_s": 20})
    outcomes = []
    for name in ("one", "other"):
        consortium = Consortium.found(tmp_path / name)
        configure(consortium, D, epsilon_cap=CAP, pool=str(tmp_path / "register"))
        outcomes.append((consortium, await consortium.run(plan)))
    (_, first), (other, second) = outcomes
    assert first.errors == {} and D in first.state.spent
    assert second.code(D) == "budget.register-cap"
    assert f"of its cap {CAP:g}" in str(second.errors[D])
    assert second.missing(plan, 1) == {D: "budget.register-cap"}
    assert D not in second.state.spent and second.state.registered
    register = journal_of(other, D)
    assert register.epsilon_spent_micro() <= CAP * 1_000_000


async def test_what_never_began_is_given_back_on_the_ledger_and_in_the_journal(tmp_path: Path) -> None:
    """A training that fails has begun, and is spent; the evaluation that nobody began is not."""

    class Diverging(SiteSession):
        def train(self, plan: Plan, base: bytes, round_number: int, attempt: int) -> float:
            raise ValueError("diverged")

    consortium = Consortium.found(tmp_path)
    consortium.workers[D] = site_worker(Diverging)
    plan = tiny_plan()
    outcome = await consortium.run(plan)
    assert outcome.errors == {}
    back = given_back(plan, 1, ("training",))
    assert outcome.state.spent_by(D) == round_cost(plan, 1) - back != round_cost(plan, 1)
    assert outcome.state.spent_by(A) == round_cost(plan, 1)
    for site in (A, D):
        pool = journal_of(consortium, site)
        assert pool.epsilon_spent_micro() == pool._pool.epsilon_micro(outcome.state.spent_by(site))
    settled = {site: body.released for (_, _, site), body in outcome.state.settled.items()}
    assert settled[D] == ("training",) and settled[A] == ("training", "evaluation")


async def test_a_journal_that_lost_draws_stops_its_site_before_any_noise(tmp_path: Path) -> None:
    consortium = Consortium.found(tmp_path)
    assert (await consortium.run(tiny_plan())).errors == {}
    for path in (consortium.founded.sites[D] / "pool").iterdir():
        path.unlink()
    plan = tiny_plan(edition="2")
    outcome = await consortium.run(plan)
    assert outcome.missing(plan, 1) == {D: "budget.journal-behind"}
    assert outcome.state.spent_by(D) == plan_cost(plan)  # of the first run alone
    # What the ledger shows is drawn again, and the site takes part in the next.
    assert journal_of(consortium, D).restore(consortium.state(), D) == 1
    last = tiny_plan(edition="3")
    assert (await consortium.run(last)).missing(last, 1) == {}


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"noise_multiplier_floor": 3.0}, "site.noise-floor"),
        ({"clip_l2_ceiling": 0.5}, "site.clip-ceiling"),
        ({"plan_epsilon_cap": 0.1}, "site.plan-cap"),
    ],
)
async def test_a_plan_can_only_be_stricter_than_the_hospital(
    tmp_path: Path, changed: dict[str, object], code: str
) -> None:
    class Closed(SiteSession):
        """Would show that data was opened."""

        def prepare(self, plan: Plan) -> Prepared:
            raise AssertionError("data was opened")

    consortium = Consortium.found(tmp_path)
    consortium.workers[D] = site_worker(Closed)
    configure(consortium, D, **changed)
    plan = tiny_plan()
    outcome = await consortium.run(plan)
    assert outcome.code(D) == code
    assert outcome.missing(plan, 1) == {D: code}
    assert D not in outcome.state.spent


@pytest.mark.parametrize(
    ("changed", "code"), [({"minimum_patients": 500}, "site.cohort"), ({"delta": 1e-3}, "site.delta")]
)
async def test_a_cohort_is_judged_before_anything_is_reserved_and_nobody_outside_learns_why(
    tmp_path: Path, changed: dict[str, object], code: str
) -> None:
    consortium = Consortium.found(tmp_path)
    configure(consortium, D, **changed)
    plan = tiny_plan()
    outcome = await consortium.run(plan)
    assert outcome.missing(plan, 1) == {D: "site.withheld"}
    assert D not in outcome.state.spent
    log = consortium.site_log(D)
    assert log.count(f"[{code}]") == 1 and "\n\n" not in log
    reason = log[log.index(f"[{code}]") :].splitlines()[1]  # the hospital's own figures, and what it can do
    wanted = {
        "site.cohort": ("asks for 20", "for 500", "wardround consent"),
        "site.delta": ("0.001", "1/(10 ·"),
    }
    assert re.search("[0-9]+ patients", reason) and all(words in reason for words in wanted[code]), reason
    outside = [path for path in tmp_path.rglob("*") if path.is_file() and D not in path.parts]
    assert outside and not [path for path in outside if reason.encode() in path.read_bytes()]
