"""A champion as people make and unmake one: officers sign, the coordinator promotes, and goes back in one command."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest

from ledger.errors import PolicyViolation
from policies.rollout.record import Champion, Rollout
from policies.rollout.statements import ModelPromoted, SignOff
from tests.consortium import SITES
from tests.flows.rollout.clinic import OFFICERS, clinical, conform, new, plan, terms
from tests.flows.rollout.founding import package
from tests.policies.founding import named
from tests.policies.rollout.phases import clinical_terms
from tests.wardround.conftest import Command
from tests.wardround.test_phase import serving, signed
from wardround.rollback import RollbackError, _study, _target

pytestmark = pytest.mark.xdist_group("rounds-3")


def test_a_model_is_signed_promoted_shown_and_rolled_back(wardround: Command, tmp_path: Path) -> None:
    consortium = new(tmp_path / "f")
    conform(consortium)
    asyncio.run(consortium.serve(partial(clinical, terms=terms(consortium), plan=plan())))
    home, evidence = consortium.founded.coordinator, package(consortium)
    files = [tmp_path / f"{officer}.json" for officer in OFFICERS]
    for officer, file in zip(OFFICERS, files, strict=True):
        assert signed(wardround, consortium, officer, evidence, file).code == 0
    for given in ((home,), ("--home", home)):
        none = wardround("model", "rollback", *given, "--kind", "model-harm")
        assert none.code == 3 and none.error.startswith("[model.no-champion]")
    few = wardround("phase", "advance", evidence, *files[:4], "--home", home)
    assert few.code == 3 and "clinical-lead" in few.error and "regulatory-officer" in few.error
    with serving(consortium):
        done = wardround("phase", "advance", evidence, *files, "--home", home)
        assert done.code == 0 and "the champion of pneumonia-xray is model" in done.out, done.err
        shown = wardround("phase", "status", "--home", home)
        assert "Every phase is over" in shown.out and "promoted by entry" in shown.out
        (champion,) = json.loads(wardround("phase", "status", "--home", home, "--json").out)["champions"]
        # Every member sees what it was held to, also when the phase is over.
        shown = wardround("phase", "status", "--home", consortium.founded.sites[SITES[0]])
        least = f"a figure of at least {champion['terms']['minimum_figure']:g}, at its lower 95% limit"
        assert (
            least in shown.out and "signed by" in shown.out and champion["evidence_digest"][:16] in shown.out
        )
        # An incident leaves it named, and in doubt.
        major = ("--severity", "major", "--kind", "model-harm")
        assert wardround("phase", "incident", "--home", home, *major).code == 0
        assert "IN DOUBT since: major" in wardround("phase", "status", "--home", home).out
        stranger = wardround("model", "rollback", home, "--kind", "model-harm", "--to", "ff" * 32)
        assert stranger.code == 2 and "0 champions begin" in stranger.error
        gone = wardround("model", "rollback", home, "--kind", "model-harm")
        assert gone.code == 0 and "pneumonia-xray has no champion" in gone.out, gone.err
        again = wardround("model", "rollback", home, "--kind", "model-harm", "--to", "none")
        assert again.code == 0 and len(consortium.state().rollout.rolled_back) == 1
    assert champion["model_digest"] and consortium.state().rollout.champion("pneumonia-xray") is None


def test_a_champion_to_go_back_to_is_named_by_the_beginning_of_its_digest() -> None:
    def one(number: int) -> Champion:
        body = ModelPromoted(
            plan_digest=named("plan"), round=number, model_digest=f"{number}" * 64, measured=named("m"),
            evidence_digest=named("e"), policy_digest=named("p"), change_plan_digest=named("c"),
            sign_offs=(SignOff(officer="steward", signature="AA=="),),
        )  # fmt: skip
        return Champion(number, clinical_terms(), body)

    told = Rollout(champions={"a": (one(1), one(2), one(3)), "b": ()})
    assert _target(told, "a", "before") == "2" * 64 and _target(told, "b", "before") is None
    assert _target(told, "a", "11") == "1" * 64 and _target(told, "a", "none") is None
    assert _study(told, "b") == "b"
    for wanted in ("", "4"):
        with pytest.raises(RollbackError):
            _target(told, "a", wanted)
    for study in (None, "c"):
        with pytest.raises(RollbackError):
            _study(told, study)
        with pytest.raises(PolicyViolation, match="no-champion"):
            _study(Rollout(), study)
