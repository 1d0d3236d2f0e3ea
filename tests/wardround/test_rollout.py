"""`wardround rollout demo`: what it needs and what it leaves alone. The walk itself is `.ci/rollout`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from policies.federation import PHASES
from policies.rollout.change_plan import ChangePlan
from tasks.planning import read_plan
from tasks.rollout.terms import read_terms
from tests.wardround.conftest import Command
from wardround.examples import EXAMPLES
from wardround.rollout import act, demo
from wardround.rollout.act import Act, Refusal
from wardround.rollout.cast import PLANS, Cast
from wardround.rollout.demo import MARKER
from wardround.rollout.failures import FAILURES
from wardround.rollout.walk import Walk


def test_it_says_which_data_it_needs_and_where_they_are(wardround: Command, tmp_path: Path) -> None:
    out = tmp_path / "walk"
    done = wardround("rollout", "demo", "--out", out)
    assert done.code == 2 and "--stays and --images are needed" in done.error and "UCI" in done.error
    gone = wardround("rollout", "demo", "--stays", out / "a.csv", "--images", out / "b.npz", "--out", out)
    assert gone.code == 2 and "no such file" in gone.error and "a.csv" in gone.error
    assert not out.exists()


def test_a_folder_that_is_not_its_own_is_left_as_it_is(wardround: Command, tmp_path: Path) -> None:
    out, data = tmp_path / "walk", tmp_path / "data"
    data.touch()
    out.mkdir()
    (out / "thesis.tex").touch()
    given = ("--stays", data, "--images", data, "--out", out)
    for more in ((), ("--overwrite",)):
        done = wardround("rollout", "demo", *given, *more)
        assert done.code == 2 and "no walk of ours" in done.error
    assert (out / "thesis.tex").exists()
    (out / MARKER).touch()
    assert "--resume" in wardround("rollout", "demo", *given).error
    inside = out / "stays.csv"
    inside.touch()
    held = wardround("rollout", "demo", "--stays", inside, "--images", data, "--out", out, "--overwrite")
    assert held.error.startswith("[out.holds-input]") and inside.exists()


def test_what_was_never_begun_is_not_gone_on_with(wardround: Command, tmp_path: Path) -> None:
    assert "no walk to go on with" in wardround("rollout", "demo", "--out", tmp_path / "x", "--resume").error
    both = wardround("rollout", "demo", "--resume", "--overwrite", "--out", tmp_path)
    assert both.code == 2 and "--resume goes on with what is there" in both.error


def test_a_walk_that_was_cut_off_tells_all_its_phases(tmp_path: Path) -> None:
    assert act.kept(tmp_path) == ()
    pilot, foundation = Act("pilot", signed=("a", "b")), Act("foundation", evidence="foundation-1.zip")
    refused = Act("pilot", [Refusal("the threshold is lowered", ("phase.terms-fixed",))], "AUC 0.7")
    for told in (pilot, foundation, refused):
        act.keep(tmp_path, told)
    assert act.kept(tmp_path) == (foundation, refused)
    (tmp_path / act.FILE).write_text("[{")
    assert act.kept(tmp_path) == ()


def test_a_walk_that_is_cut_off_as_a_phase_ends_has_kept_what_it_tells_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resumed, it finds the phase over and never plays it again."""

    class PowerCut(Exception):  # noqa: N818
        pass

    async def statement(*_: object) -> None:
        return None

    async def promoted_and_cut(*_: object) -> None:
        raise PowerCut

    steward = SimpleNamespace(name="steward", role="data-steward")
    federation = SimpleNamespace(sign_offs_for=lambda phase: {"data-steward": 1}, officers=(steward,))
    rollout = SimpleNamespace(opened=object(), measured=SimpleNamespace(entry_digest="ab" * 32))
    monkeypatch.setattr(Cast, "federation", federation)
    monkeypatch.setattr(Walk, "state", lambda self: SimpleNamespace(rollout=rollout))
    monkeypatch.setattr(Walk, "_advanced", promoted_and_cut)
    monkeypatch.setattr("wardround.rollout.walk.verified", statement)
    monkeypatch.setattr("wardround.rollout.walk.signed_evidence", lambda *_: object())
    told = Act("foundation", [Refusal("somebody has not conformed", ("phase.conformance",))])
    with pytest.raises(PowerCut):
        asyncio.run(Walk(Cast(tmp_path), None, lambda _: None).end(told))
    (kept,) = act.kept(tmp_path)
    assert kept == told and kept.refusals and kept.signed == ("steward",) and kept.evidence


def test_a_walk_that_was_left_at_a_gate_shows_how_far_it_came(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    act.keep(tmp_path, Act("pilot", [Refusal("the threshold is lowered", ("phase.terms-fixed",))]))
    demo._show_left(tmp_path, "pilot")
    told = capsys.readouterr().out
    assert "phase.terms-fixed" in told and "on purpose" in told and f"--resume --out {tmp_path}" in told


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_has_a_plan_terms_and_something_that_fails(phase: str) -> None:
    plan = read_plan(EXAMPLES / PLANS[phase])  # type: ignore[index]
    terms = read_terms(EXAMPLES / "rollout" / f"{phase}.yaml")
    assert (terms.phase, terms.study) == (phase, plan.study)
    assert FAILURES[terms.phase].told


def test_the_clinic_s_example_has_a_change_plan_of_its_study() -> None:
    text = (EXAMPLES / "rollout" / "change-plan.yaml").read_text()
    plan = ChangePlan.from_yaml(text, what="change plan")
    assert plan.study == read_terms(EXAMPLES / "rollout" / "clinical.yaml").study
