"""The foundation of a federation, with real homes, ledger, witnesses and a dry round: laid, refused, cut off."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapters.home import Home
from ledger.errors import PolicyViolation
from ledger.evidence_verify import verify_package
from tasks.evidence.audit import audit
from tasks.progress import Progress
from tests.consortium import SITES, Consortium, PowerCut
from tests.flows.rollout.founding import dry_round, founding, new, package, record, sign
from tests.tasks.evidence.witnessed import files_of


async def test_a_foundation_is_laid_signed_and_over(tmp_path: Path) -> None:
    consortium = new(tmp_path)
    record(consortium)
    standing = await consortium.serve(founding)
    assert standing.phase == "foundation" and standing.measured is not None
    assert {line.split(" more ")[0] for line in standing.missing} == {"1", "3"}  # signatures alone

    path = package(consortium)
    verify_package(path).close()
    found = audit(path)
    assert found.passed
    document = json.loads(files_of(path.read_bytes())["payload/phase.json"])
    assert {one["site"] for one in document["agreements"]} == set(SITES)
    assert document["rounds"][0]["reported"] == list(SITES)

    # Of phantoms a hospital gains nothing, and is told nothing of the kind.
    for site in SITES:
        assert "auc_local_only" not in json.loads(Home(consortium.founded.sites[site]).report.read_text())

    sign(consortium)
    standing = await consortium.serve(founding)
    state = consortium.state()
    assert standing.phase == state.phase == "pilot"
    (ended,) = state.rollout.ended
    assert ended.body.evidence_digest == found.manifest.digest
    again = await consortium.serve(founding)  # it lies behind: nothing is done
    assert again.phase == "pilot" and consortium.state().size == state.size


async def test_what_is_missing_is_named_and_nothing_is_measured(tmp_path: Path) -> None:
    consortium = new(tmp_path)
    record(consortium, *SITES[:3])
    with pytest.raises(PolicyViolation) as caught:
        await consortium.serve(lambda coordinator: founding(coordinator, wait_s=0.5))
    missing = {"phase.conformance", "phase.agreements", "phase.reported"}
    assert {one.code for one in caught.value.violations} == missing
    assert consortium.state().rollout.measured is None
    record(consortium, SITES[3])
    standing = await consortium.serve(founding)  # the dry round is not repeated
    assert standing.measured is not None
    assert len(consortium.state().registered) == 1


async def test_no_patient_s_file_is_opened_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sites' data are gone: a round that touched them would fail."""
    consortium = new(tmp_path)
    for shard in (tmp_path / "data").iterdir():
        shard.unlink()
    record(consortium)
    assert (await consortium.serve(founding)).measured is not None


async def test_a_run_that_is_killed_between_any_two_steps_is_continued(tmp_path: Path) -> None:
    """No round is repeated, no budget drawn twice, nothing said twice."""
    consortium = new(tmp_path)
    record(consortium)
    seen: set[str] = set()

    def at_a_new_step(progress: Progress) -> bool:
        if progress.party != "coordinator" or progress.step in seen:
            return False
        seen.add(progress.step)
        return True

    async def until_done(consortium: Consortium) -> int:
        for cuts in range(60):
            try:
                standing = await consortium.conduct(founding, cut_at=at_a_new_step)
            except PowerCut:
                continue
            if standing.phase == "pilot":
                return cuts
            sign(consortium)
        raise AssertionError(f"never done: {sorted(seen)}")

    async with consortium.serving():
        cuts = await until_done(consortium)
    assert cuts >= 8 and {"enter foundation", "measure foundation", "end foundation"} <= seen
    state = consortium.state()
    digest = dry_round().content_digest()
    assert list(state.registered) == [(digest, 1)] and len(state.rollout.ended) == 1
    assert {state.attempts[digest, 1, site] for site in SITES} == {1}
