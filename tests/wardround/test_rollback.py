"""The stop button when things are bad: witnesses are down, the registry fails, another run holds the home."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from adapters.home import Home
from adapters.lineage import champion_version
from flows.rollout.phase import run_phase
from policies.rollout.record import Champion, Opened
from policies.rollout.standing import Standing
from tasks.background import DeadlineError
from tasks.coordinator.party import Coordinator
from tasks.rollout import promotion
from tasks.rollout.promotion import roll_back
from tasks.step import StepError
from tests.consortium import SITES, Consortium
from tests.flows.rollout.clinic import OFFICERS, clinical, conform, new, plan, terms
from tests.flows.rollout.founding import sign
from tests.wardround.conftest import Command
from tests.wardround.copied import copied
from tests.wardround.test_phase import serving

pytestmark = pytest.mark.xdist_group("rounds-3")
STUDY = "pneumonia-xray"
TOO_FEW = SITES[:2]


def alias(consortium: Consortium) -> int | None:
    return champion_version(consortium.founded.coordinator, STUDY)


def champions(consortium: Consortium) -> tuple[Champion, ...]:
    return consortium.state().rollout.champions[STUDY]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a federation with two champions, of which the second is in force. Read-only."""
    root = tmp_path_factory.mktemp("clinic")
    consortium = new(root)
    for phase in (
        partial(clinical, terms=terms(consortium), plan=plan()),
        partial(
            clinical, terms=terms(consortium, maximum_regression=0.2), plan=plan(edition="2", base="latest")
        ),
    ):
        conform(consortium)
        asyncio.run(consortium.serve(phase))
        sign(consortium, *OFFICERS)
        asyncio.run(consortium.serve(phase))
    return root


@pytest.fixture
def consortium(two: Path, tmp_path: Path) -> Consortium:
    shutil.copytree(two, tmp_path / "f")
    found = copied(tmp_path / "f")
    assert len(champions(found)) == 2 and alias(found) == 2
    return found


@contextmanager
def hasty() -> Iterator[None]:
    """For what never comes."""
    with pytest.MonkeyPatch.context() as cut:
        cut.setattr("tasks.coordinator.party.LEDGER_TIMEOUT_S", 3.0)
        yield


def test_a_rollback_without_witnesses_moves_the_alias_and_given_again_goes_back_no_further(
    wardround: Command, consortium: Consortium
) -> None:
    home, (former, _) = consortium.founded.coordinator, champions(consortium)
    command = ("model", "rollback", home, "--kind", "model-harm")
    # 1. Too few witnesses: the entry stands, the harmful version has lost its name, and the operator is told so.
    with serving(consortium, *TOO_FEW), hasty():
        for _ in range(2):
            few = wardround(*command)
            assert few.code == 1 and few.error.startswith("[model.not-final]"), few.err
            assert "stands on the coordinator's ledger" in few.error and "quorum" in few.error
            assert champions(consortium) == (former,) and alias(consortium) == 1
    # 2. They are back: the same command finishes what was said.
    with serving(consortium):
        done = wardround(*command)
        assert done.code == 0 and former.body.model_digest in done.out and "--to DIGEST" in done.out, done.err
        assert len(consortium.state().rollout.rolled_back) == 1 and champions(consortium) == (former,)
        # 3. Further back by name alone.
        gone = wardround(*command, "--to", "none")
        assert gone.code == 0 and "--to" not in gone.out and "has no champion" in gone.out, gone.err
        assert champions(consortium) == () and alias(consortium) is None
        again = wardround(*command)
        assert again.code == 0 and "has no champion" in again.out and "--to DIGEST" in again.out
    assert len(consortium.state().rollout.rolled_back) == 2


def test_an_alias_that_was_not_moved_is_moved_by_whatever_phase_runs_next(
    consortium: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    former, _ = champions(consortium)
    back = partial(roll_back, study=STUDY, to=former.body.model_digest, kind="model-harm")
    with monkeypatch.context() as cut:
        cut.setattr(promotion, "name_champion", _cut_off)
        with pytest.raises(StepError):
            asyncio.run(consortium.serve(back))
    assert champions(consortium) == (former,) and alias(consortium) == 2
    standing = asyncio.run(consortium.serve(partial(_next_night, consortium=consortium)))
    assert not standing.through and alias(consortium) == 1  # its terms are open, and nothing was trained yet


def test_a_promotion_that_no_quorum_has_signed_moves_no_alias(tmp_path: Path) -> None:
    consortium = new(tmp_path / "f")
    conform(consortium)
    phase = partial(clinical, terms=terms(consortium), plan=plan())
    asyncio.run(consortium.serve(phase))
    sign(consortium, *OFFICERS)
    for _ in range(2):
        with hasty(), pytest.raises(DeadlineError):
            asyncio.run(consortium.conduct(phase))
        assert len(champions(consortium)) == 1 and alias(consortium) is None
    asyncio.run(consortium.serve(phase))
    assert alias(consortium) == 1


def test_beside_a_run_the_refusal_says_what_helps_at_once(wardround: Command, tmp_path: Path) -> None:
    home = Consortium.found(tmp_path).founded.coordinator
    with Home(home).alone():
        for command in (
            ("model", "rollback", home, "--kind", "model-harm"),
            ("phase", "incident", "--home", home, "--severity", "critical", "--kind", "model-harm"),
        ):
            busy = wardround(*command)
            assert busy.code == 2 and busy.error.startswith("[home.in-use]")
            assert "Stop that run now" in busy.error and "phase incident --home SITE" in busy.error


async def _next_night(coordinator: Coordinator, *, consortium: Consortium) -> Standing:
    """Of the next model's clinical phase, whose sites have nothing to report yet."""
    return await run_phase(coordinator, terms(consortium, maximum_regression=0.15), _nothing)


async def _nothing(_coordinator: Coordinator, _opened: Opened) -> None: ...


def _cut_off(*_: object) -> None:
    raise ConnectionError
