"""A hospital whose images are inverted one night takes itself out, and everybody else's night goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adapters.home import SourceConfig
from adapters.unsaid import Unsaid
from ledger.errors import CodedError
from policies.cost import round_mechanisms
from policies.events import Body
from policies.plan import Plan
from privacy import accounting
from privacy.drift import Level
from tasks.progress import Progress
from tasks.summing import SumTerms
from tasks.worker.site_session import SiteSession
from tasks.worker.sum_session import Protected, SealedKey
from tests.consortium import SITES, Consortium, Outcome, PowerCut, site_worker
from tests.plans import tiny_plan

pytestmark = pytest.mark.xdist_group("rounds-2")

A, B, C, D = SITES
PERFORMANCE = "drift.performance"


def watched(
    edition: str, *, base: str = "latest", rounds: int = 1, every: int = 1, **training: object
) -> Plan:
    """Held-out patients enough, and noise little enough, that an inverted hospital is told from an unlucky one."""
    terms = {
        "sampling_rate": 0.2, "steps": 15, "noise_multiplier": 0.5, "clip_l2": 1.0, "learning_rate": 2.0,
        "nominal_batch_patients": 40.0, **training,
    }  # fmt: skip
    return tiny_plan(
        edition=edition,
        base=base,
        rounds=rounds,
        training=terms,
        participation={"required": [], "minimum_sites": 3, "deadline_s": 60},
        budget={"epsilon_cap": 90.0, "delta": 1e-5},
        evaluation={"bins": 4, "noise_std": 2.0, "every": every},
        gates={"minimum_auc": 0.0, "drift": {"margin": 0.15, "deviations": 3.0}},
    )


def write(path: Path, *, seed: int, inverted: bool = False) -> None:
    """800 patients with a bright left half, or a bright right half if they have the finding; `inverted`: what a new
    scanner's software makes of the same."""
    random = np.random.default_rng(seed)
    labels = np.arange(800) % 2
    images = random.integers(0, 120, (800, 8, 8))
    images[labels == 0, :, :4] += 60
    images[labels == 1, :, 4:] += 60
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        path,
        images=(255 - images if inverted else images).astype(np.uint8),
        labels=labels.astype(np.int64),
        patients=np.array([f"invented-{seed}-{number}" for number in range(800)]),
        modality=np.array("CR"),
    )


def consortium_of_halves(root: Path) -> Consortium:
    data = {}
    for number, site in enumerate(SITES):
        write(root / "data" / f"{site}.npz", seed=number)
        data[site] = SourceConfig(kind="npz", path=str(root / "data" / f"{site}.npz"))
    return Consortium.found(root, data=data)


def invert(root: Path, *sites: str) -> None:
    for site in sites:
        write(root / "data" / f"{site}.npz", seed=SITES.index(site), inverted=True)


def figure(outcome: Outcome, plan: Plan, round_number: int = 1) -> float:
    evaluated = outcome.state.evaluated[plan.content_digest(), round_number]
    assert evaluated.auc_micro is not None
    return evaluated.auc_micro / 1e6


async def test_an_inverted_hospital_is_quarantined_by_its_own_word_and_the_night_goes_on(
    tmp_path: Path,
) -> None:
    consortium = consortium_of_halves(tmp_path)
    # 1. The first night: nothing is in force yet, and nothing is compared.
    first = watched("monday", base="initial")
    outcome = await consortium.run(first, wait_s=60.0)
    assert not outcome.errors and not outcome.state.quarantined
    assert figure(outcome, first) > 0.8
    # 2. The second: one hospital's images come inverted.
    invert(tmp_path, D)
    second = watched("tuesday", rounds=2)
    outcome = await consortium.run(second, wait_s=60.0)
    state, digest = outcome.state, second.content_digest()
    assert not outcome.errors
    assert state.quarantined == {D: PERFORMANCE}
    # What it trained was in the sum before anybody could know; its evaluation is not.
    assert outcome.missing(second, 1, "training") == {}
    assert outcome.missing(second, 1, "evaluation") == {D: PERFORMANCE}
    assert figure(outcome, second) > 0.8
    # From then on nothing of it counts, and the others' second round stands.
    assert set(outcome.missing(second, 2, "training")) == {D}
    assert (digest, 2) in state.registered
    # 3. Its pool paid for one evaluation, once: that of the night in which it drifted. Nothing was given back.
    mechanisms = round_mechanisms(first, 1) + round_mechanisms(second, 1)
    assert state.spent_by(D) == accounting.total(mechanisms)
    assert state.settled[digest, 1, D].released == ("training", "evaluation")
    assert not Unsaid(consortium.founded.sites[D]).waiting()


async def test_a_hospital_cut_off_as_it_speaks_says_it_on_its_return_and_evaluates_nothing_again(
    tmp_path: Path,
) -> None:
    consortium = consortium_of_halves(tmp_path)
    await consortium.run(watched("monday", base="initial"), wait_s=60.0)
    invert(tmp_path, D)
    plan = watched("tuesday")

    def dies(progress: Progress) -> bool:
        return progress.party == D and progress.step == "quarantine itself"

    await consortium.run(plan, wait_s=60.0, cut_at=dies)
    assert len(Unsaid(consortium.founded.sites[D]).waiting()) == 2
    drawn: list[str] = []

    def watch(progress: Progress) -> bool:
        if progress.party == D and progress.step in ("evaluate", "reserve"):
            drawn.append(progress.step)
        return False

    outcome = await consortium.run(plan, wait_s=60.0, cut_at=watch)
    assert outcome.state.quarantined == {D: PERFORMANCE}
    # Whoever else was cut off in the middle is left out as well: of this hospital it is asked.
    assert outcome.state.refusals.get((plan.content_digest(), 1, "evaluation", D)) in (PERFORMANCE, None)
    assert not drawn


def counting(drawn: list[str], *, dies: bool = False) -> type[SiteSession]:
    """A site's process that notes each evaluation; `dies`: with the noise drawn and nothing told of it."""

    class Counting(SiteSession):
        def protect_evaluation(
            self,
            plan: Plan,
            terms: SumTerms,
            model: bytes,
            *,
            sealed: SealedKey | None,
            in_force: Level | None = None,
        ) -> Protected:
            drawn.append("evaluation")
            try:
                return super().protect_evaluation(plan, terms, model, sealed=sealed, in_force=in_force)
            except CodedError:
                if dies:
                    raise PowerCut from None
                raise

    return Counting


def pull_the_plug(_: CodedError) -> bool:
    raise PowerCut


def put_and_pull_the_plug(put: Callable[[Unsaid, Body], str]) -> Callable[[Unsaid, Body], str]:
    def dying(unsaid: Unsaid, body: Body) -> str:
        put(unsaid, body)
        raise PowerCut

    return dying


@pytest.mark.parametrize("moment", ["draw", "first word", "decision"])
async def test_a_hospital_whose_power_is_cut_draws_no_kinder_noise_on_its_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Right after the draw, before anybody knows what it came to; between the two statements that follow from it; and
    right after both. Whoever could draw again would pull the plug until the noise hides the drift."""
    consortium = consortium_of_halves(tmp_path)
    await consortium.run(watched("monday", base="initial"), wait_s=60.0)
    invert(tmp_path, D)
    plan, drawn = watched("tuesday"), list[str]()
    consortium.workers[D] = site_worker(counting(drawn, dies=moment == "draw"))
    with monkeypatch.context() as cut:
        if moment == "decision":
            cut.setattr("flows.site.is_drift", pull_the_plug)
        if moment == "first word":
            cut.setattr(Unsaid, "put", put_and_pull_the_plug(Unsaid.put))
        first = await consortium.run(plan, wait_s=60.0)
    assert isinstance(first.errors[D], PowerCut) and len(drawn) == 1
    kept = len(Unsaid(consortium.founded.sites[D]).waiting())
    assert kept == {"draw": 0, "first word": 1, "decision": 2}[moment]

    consortium.workers[D] = site_worker(counting(drawn))
    outcome = await consortium.run(plan, wait_s=60.0)
    assert len(drawn) == 1
    assert outcome.state.quarantined == ({D: PERFORMANCE} if kept else {})
    # Whoever else was cut off in the middle is left out as well: of this hospital it is asked.
    said = outcome.state.refusals.get((plan.content_digest(), 1, "evaluation", D))
    assert said in ((PERFORMANCE, None) if kept else ("budget.release-lost",))
    assert not Unsaid(consortium.founded.sites[D]).waiting()


async def test_where_a_model_is_bad_for_all_it_is_the_model_that_fails(tmp_path: Path) -> None:
    """All images are inverted: not one hospital drifted but the world did. One is taken out at the most, so that the
    others can take it back, and the night fails by name."""
    consortium = consortium_of_halves(tmp_path)
    await consortium.run(watched("monday", base="initial"), wait_s=60.0)
    invert(tmp_path, *SITES)
    plan = watched("tuesday", learning_rate=1e-6)
    outcome = await consortium.run(plan, wait_s=60.0)
    assert len(outcome.state.quarantined) == 1
    verdict = outcome.state.verdicts[plan.content_digest(), 1]
    assert not verdict.passed
    assert not any(Unsaid(home).waiting() for home in consortium.founded.sites.values())


async def test_nobody_watches_where_the_plan_does_not(tmp_path: Path) -> None:
    consortium = consortium_of_halves(tmp_path)
    await consortium.run(watched("monday", base="initial"), wait_s=60.0)
    invert(tmp_path, D)
    plan = watched("tuesday").with_fields({"gates": {"minimum_auc": 0.0}})
    outcome = await consortium.run(plan, wait_s=60.0)
    assert not outcome.errors and not outcome.state.quarantined
