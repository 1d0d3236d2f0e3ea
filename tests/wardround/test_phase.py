"""`wardround phase` as people give it: a foundation from its terms to its end, and everybody who would hurry it."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from adapters.home import CoordinatorConfig, Home, SiteConfig
from adapters.sequencer import Sequencer
from adapters.unsaid import Unsaid
from flows.rehearsal import WAIT_S
from flows.site import keep_serving
from ledger.evidence_zip import pack
from tasks.coordinator.party import opened_coordinator
from tasks.planning import read_plan
from tasks.site.party import opened_site
from tests.consortium import SITES, Consortium, site_worker
from tests.flows.rollout.founding import TERMS, founding, new, package, record
from tests.plans import tiny_plan
from tests.tasks.evidence.witnessed import files_of
from tests.wardround.conftest import Command, Done
from tests.wardround.copied import copied
from wardround.examples import EXAMPLES
from wardround.phase.standing import show_next, standing_of
from wardround.phase.work import _dry_round as dry_round_file

STEWARDS = tuple(f"steward-of-{site}" for site in SITES[:3])
OFFICERS = (*STEWARDS, "the-compliance-officer")


@contextmanager
def serving(consortium: Consortium, *sites: str) -> Iterator[None]:
    """These sites, by default all, serve on a thread of their own, as in hospitals; all of them once this is entered,
    or a command that comes sooner holds a home, and none serves."""
    stop, begun = threading.Event(), threading.Event()

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            tasks = []
            for name in sites or SITES:
                site = await stack.enter_async_context(
                    opened_site(consortium.founded.sites[name], worker=site_worker())
                )
                tasks.append(asyncio.create_task(keep_serving(site, wait_s=WAIT_S)))
            begun.set()
            while not stop.is_set():
                await asyncio.sleep(0.05)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert begun.wait(60)
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a federation whose foundation is measured and waits for its officers. Read-only."""
    root = tmp_path_factory.mktemp("foundation")
    consortium = new(root)
    record(consortium)

    async def lay() -> None:
        await consortium.serve(founding)

    asyncio.run(lay())
    return root


@pytest.fixture
def consortium(worked: Path, tmp_path: Path) -> Consortium:
    """A copy of it, to be ended."""
    shutil.copytree(worked, tmp_path / "f")
    return copied(tmp_path / "f")


def signed(
    wardround: Command, consortium: Consortium, officer: str, evidence: Path, out: Path, **files: Path
) -> Done:
    root = consortium.founded.coordinator
    federation = files.get("federation", root / "federation.json")
    folder = consortium.founded.officers[officer]
    return wardround("phase", "sign", evidence, "--officer", folder, "--federation", federation, "--out", out)


def test_a_phase_ends_with_its_officers_signatures_and_not_before(
    wardround: Command, consortium: Consortium, tmp_path: Path
) -> None:
    home, evidence = consortium.founded.coordinator, package(consortium)
    shown = wardround("phase", "status", "--home", home)
    assert (
        shown.code == 0 and "phase foundation" in shown.out and "3 more of the role data-steward" in shown.out
    )
    told = json.loads(wardround("phase", "status", "--home", home, "--json").out)
    assert all(one["met"] for one in told["conditions"]) and told["phase"] == "foundation"
    at_site = json.loads(
        wardround("phase", "status", "--home", consortium.founded.sites[SITES[0]], "--json").out
    )
    assert at_site["conditions"] == told["conditions"]  # everybody sees the same

    checked = wardround("evidence", "verify", evidence, "--no-tighter")
    assert checked.code == 0 and "the phase foundation" in checked.out
    files = [tmp_path / f"{officer}.json" for officer in OFFICERS]
    for officer, file in zip(OFFICERS, files, strict=True):
        done = signed(wardround, consortium, officer, evidence, file)
        assert done.code == 0, done.err
    kept = files[0].read_bytes()
    over = signed(wardround, consortium, OFFICERS[1], evidence, files[0])
    assert (
        over.code == 2 and over.error.startswith("[phase.signature-exists]") and files[0].read_bytes() == kept
    )
    lost = signed(wardround, consortium, OFFICERS[1], evidence, tmp_path / "typo" / "x.json")
    assert lost.code == 2 and lost.error.startswith("[usage.option]") and not (tmp_path / "typo").exists()
    few = wardround("phase", "advance", evidence, *files[:2], "--home", home)
    assert few.code == 3 and "phase.sign-off" in few.error and "2 of 3 of the role data-steward" in few.error
    with serving(consortium):
        done = wardround("phase", "advance", evidence, *files[2:], "--home", home)  # the others were kept
    assert done.code == 0 and "in its phase pilot" in done.out, done.err
    assert consortium.state().phase == "pilot"
    again = wardround("phase", "advance", evidence, "--home", home)
    assert again.code == 0 and len(consortium.state().rollout.ended) == 1


def test_a_file_that_is_no_signature_takes_nobody_s_away(
    wardround: Command, consortium: Consortium, tmp_path: Path
) -> None:
    home, evidence = consortium.founded.coordinator, package(consortium)
    files = [tmp_path / f"{officer}.json" for officer in OFFICERS]
    for officer, file in zip(OFFICERS, files, strict=True):
        assert signed(wardround, consortium, officer, evidence, file).code == 0
    assert wardround("phase", "advance", evidence, *files[:2], "--home", home).code == 3  # kept
    (kept,) = (home / "sign-offs").iterdir()
    (kept / "aaa.json").write_bytes(b"\xff junk")
    (kept / "zzz.json").mkdir()
    shown = wardround("phase", "status", "--home", home, "--json")
    assert shown.code == 0, shown.err
    counted = {one["role"]: one["signed"] for one in json.loads(shown.out)["signatures"]}
    assert counted["data-steward"] == 2
    given = wardround("phase", "advance", evidence, kept / "aaa.json", "--home", home)
    assert given.code == 2 and given.error.startswith("[phase.signature-file]")
    with serving(consortium):
        done = wardround("phase", "advance", evidence, *files[2:], "--home", home)
    assert done.code == 0, done.err
    assert consortium.state().phase == "pilot"


def test_evidence_that_was_damaged_is_written_again_and_signatures_stay_valid(
    wardround: Command, consortium: Consortium, tmp_path: Path
) -> None:
    home, evidence = consortium.founded.coordinator, package(consortium)
    file = tmp_path / "steward.json"
    assert signed(wardround, consortium, OFFICERS[0], evidence, file).code == 0
    assert wardround("phase", "advance", evidence, file, "--home", home).code == 3  # kept
    whole = evidence.read_bytes()
    middle = len(whole) // 2
    for damaged in (whole[:middle], b"", whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]):
        evidence.write_bytes(damaged)
        assert wardround("phase", "status", "--home", home).code == 0
        with serving(consortium):
            done = wardround("phase", "measure", "--home", home)
        assert done.code == 0, done.err
        assert wardround("evidence", "verify", evidence, "--no-tighter").code == 0
        assert "2 more of the role data-steward" in wardround("phase", "status", "--home", home).out
    there = evidence.stat().st_ino, evidence.stat().st_mtime_ns
    with serving(consortium):
        assert wardround("phase", "measure", "--home", home).code == 0
    assert (evidence.stat().st_ino, evidence.stat().st_mtime_ns) == there  # it reads well: left as it is


def test_a_phase_that_is_over_is_said_to_be_so_before_anything_starts(
    wardround: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardround.coordinator.prefect_api", lambda home: pytest.fail("Prefect was started"))
    consortium = Consortium.found(tmp_path, phase="pilot")
    done = wardround("phase", "run", "foundation", "--home", consortium.founded.coordinator)
    assert done.code == 0, done.err
    assert done.out == "foundation is over: the federation is in its phase pilot; nothing was done\n"


def test_a_phase_that_comes_later_is_refused_before_anything_starts(
    wardround: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wardround.coordinator.prefect_api", lambda home: pytest.fail("Prefect was started"))
    consortium = Consortium.found(tmp_path, phase="pilot")
    plan = ("--plan", EXAMPLES / "rollout" / "xray-clinical.yaml")
    done = wardround("phase", "run", "clinical", *plan, "--home", consortium.founded.coordinator)
    assert done.code == 3 and done.error.startswith("[phase.order]"), done.err


def test_a_measured_phase_says_who_does_what_with_its_evidence(
    consortium: Consortium, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(consortium.founded.coordinator)
    show_next(home, standing_of(home, home.read(CoordinatorConfig)))
    told = capsys.readouterr().out.replace("\n", "")
    assert f"phase sign {package(consortium)}" in told and "phase advance" in told


def test_a_dry_round_that_was_refused_is_run_anew_as_another_edition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path)
    refused: dict[tuple[str, int], SimpleNamespace] = {}
    monkeypatch.setattr(
        "adapters.institution_log.read_state", lambda _: (SimpleNamespace(verdicts=refused), b"")
    )
    first = read_plan(dry_round_file(home))
    assert read_plan(dry_round_file(home)) == first
    refused[first.content_digest(), 1] = SimpleNamespace(passed=False)
    second = read_plan(dry_round_file(home))
    assert second == first.with_fields({"edition": "2"})


def test_who_may_not_sign_does_not(wardround: Command, consortium: Consortium, tmp_path: Path) -> None:
    evidence, out = package(consortium), tmp_path / "x.json"
    # 1. Evidence that does not verify: a figure made prettier, its manifest to match.
    files = files_of(evidence.read_bytes())
    bent = tmp_path / "bent.zip"
    bent.write_bytes(pack({**files, "payload/phase.json": files["payload/phase.json"] + b" "}))
    assert "ledger.verify.manifest" in signed(wardround, consortium, STEWARDS[0], bent, out).error
    # 2. Another federation's: a proof under keys that are not this one's.
    other = new(tmp_path / "other")
    theirs = other.founded.coordinator / "federation.json"
    refused = signed(wardround, consortium, STEWARDS[0], evidence, out, federation=theirs)
    assert refused.error.startswith("[phase.other-federation]") and not out.exists()
    # 3. An officer whose key is not the one of the founding document.
    folder = consortium.founded.officers[STEWARDS[0]]
    shutil.rmtree(folder / "keys")
    shutil.copytree(other.founded.officers[STEWARDS[0]] / "keys", folder / "keys")
    assert "phase.not-an-officer" in signed(wardround, consortium, STEWARDS[0], evidence, out).error
    # 4. One who gave herself another role.
    officer = yaml.safe_load((folder / "officer.yaml").read_text())
    (folder / "officer.yaml").write_text(yaml.safe_dump({**officer, "role": "compliance-officer"}))
    assert "phase.signer" in signed(wardround, consortium, STEWARDS[0], evidence, out).error
    # 5. A round's evidence is none of a phase.
    (of_a_round,) = (path for path in evidence.parent.iterdir() if not path.name.startswith("foundation"))
    assert "phase.evidence" in signed(wardround, consortium, STEWARDS[1], of_a_round, out).error
    assert not out.exists()


def test_signatures_that_are_not_of_this_evidence_end_nothing(
    wardround: Command, consortium: Consortium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, old = consortium.founded.coordinator, package(consortium)
    files = [tmp_path / f"{officer}.json" for officer in OFFICERS]
    for officer, file in zip(OFFICERS, files, strict=True):
        assert signed(wardround, consortium, officer, old, file).code == 0
    twice = wardround("phase", "advance", old, files[0], files[0], "--home", home)
    assert twice.code == 3 and "phase.signed-twice" in twice.error
    lent = json.loads(files[0].read_text())
    lent["sign_off"]["officer"] = STEWARDS[1]
    (tmp_path / "lent.json").write_text(json.dumps(lent, sort_keys=True, separators=(",", ":")))
    done = wardround("phase", "advance", old, tmp_path / "lent.json", "--home", home)
    assert done.code == 3 and "phase.signature" in done.error
    with serving(consortium):
        # An incident, however minor, sends the evidence back. Nobody holds the log when the site sends it.
        site = consortium.founded.sites[SITES[0]]
        minor = ("--severity", "minor", "--kind", "other", "--wait", "1")
        kept = wardround("phase", "incident", "--home", site, *minor)
        assert kept.code == 1 and "site.unsaid" in kept.error
        with monkeypatch.context() as slow:  # a log that would take the coordinator's word first
            take_in = Sequencer._take_in
            slow.setattr(Sequencer, "_take_in", lambda log: (time.sleep(0.5), take_in(log))[1])
            refused = wardround("phase", "advance", old, *files, "--home", home)
        assert refused.code == 3 and "phase.not-measured" in refused.error
        measured = wardround("phase", "measure", "--home", home)
        assert measured.code == 0, measured.err
        newer = Path(measured.out.splitlines()[0])
        older = wardround("phase", "advance", newer, *files, "--home", home)
        assert older.code == 3 and "older evidence" in older.error
        stale = wardround("phase", "advance", old, *files, "--home", home)
        assert stale.code == 3 and "phase.other-evidence" in stale.error
        # And one that is major takes all of it away.
        major = ("--severity", "critical", "--kind", "data-exposure")
        assert wardround("phase", "incident", "--home", home, *major).code == 0
        gone = wardround("phase", "measure", "--home", home)
        assert gone.code == 3 and "phase.not-opened" in gone.error
    assert "none are published" in wardround("phase", "status", "--home", home).out


def test_terms_are_published_once_and_of_the_phase_in_force(
    wardround: Command, consortium: Consortium, tmp_path: Path
) -> None:
    home, terms = consortium.founded.coordinator, tmp_path / "terms.yaml"
    terms.write_text(yaml.safe_dump(TERMS.to_json()))
    checked = ("phase", "open", terms, "--home", home, "--check")
    assert wardround(*checked).out == "these terms of foundation are in force\n"
    with serving(consortium):
        assert wardround("phase", "open", terms, "--home", home).code == 0  # these stand
        terms.write_text(yaml.safe_dump({**TERMS.to_json(), "minimum_sites": 3}))
        size = consortium.state().size
        would = wardround(*checked)
        assert would.code == 3 and "phase.terms-fixed" in would.error and consortium.state().size == size
        changed = wardround("phase", "open", terms, "--home", home)
        assert changed.code == 3 and "phase.terms-fixed" in changed.error
        pilot = {**TERMS.to_json(), "phase": "pilot", "minimum_figure": 0.6}
        terms.write_text(yaml.safe_dump(pilot))
        early = wardround("phase", "open", terms, "--home", home)
        assert early.code == 3 and "phase.order" in early.error
    terms.write_text("phase: foundation\n")
    assert wardround("phase", "open", terms, "--home", home).code == 2
    assert wardround("phase", "open", tmp_path / "none", "--home", home).code == 2


def test_terms_are_checked_before_they_are_published(wardround: Command, tmp_path: Path) -> None:
    consortium, terms = new(tmp_path / "f"), tmp_path / "terms.yaml"
    size = consortium.state().size
    checked = ("phase", "open", terms, "--home", consortium.founded.coordinator, "--check")
    terms.write_text(yaml.safe_dump(TERMS.to_json()))
    assert wardround(*checked).out == "these terms of foundation may be published\n"
    terms.write_text(yaml.safe_dump({**TERMS.to_json(), "minimum_sites": 30, "agreements": []}))
    would = wardround(*checked)
    assert would.code == 3 and "phase.terms-sites" in would.err and "phase.terms-weak" in would.err
    assert consortium.state().size == size


def test_a_hospital_records_its_papers_and_its_source(wardround: Command, tmp_path: Path) -> None:
    consortium = new(tmp_path / "f")
    site = consortium.founded.sites[SITES[0]]
    paper, plan, terms = tmp_path / "baa.pdf", tmp_path / "plan.yaml", tmp_path / "terms.yaml"
    paper.write_bytes(b"signed by both")
    terms.write_text(yaml.safe_dump(TERMS.to_json()))
    plan.write_text(yaml.safe_dump(tiny_plan().to_json()))
    with serving(consortium):
        opened = wardround("phase", "open", terms, "--home", consortium.founded.coordinator)
        # The coordinator's log is not open between its commands: a statement waits for the next of them.
        assert opened.code == 0, opened.err
        left = wardround("site", "agreement", paper, "--kind", "baa", "--home", site, "--wait", "0.5")
        assert left.code == 1 and "site.unsaid" in left.error
        left = wardround("site", "conform", "--home", site, "--plan", plan, "--wait", "0.5")
        assert left.code == 1 and "ok" in left.out and "FAILED" not in left.out
        asyncio.run(_said(consortium, site))
    state = consortium.state()
    assert state.rollout.agreements[SITES[0], "baa"] and SITES[0] in state.rollout.conformance
    # A source that does not conform is not recorded, and what was found stays here.
    config = Home(site).read(SiteConfig)
    shard = Path(config.source.path)
    shard.rename(shard.with_name("1970-03-17.npz"))
    broken = config.source.with_fields({"path": str(shard.with_name("1970-03-17.npz"))})
    Home(site).write(config.model_copy(update={"source": broken}), consortium.founded.federation)
    done = wardround("site", "conform", "--home", site, "--plan", plan)
    assert done.code == 3 and "conformance.failed" in done.error and "FAILED" in done.out
    assert Unsaid(site).waiting() == ()


async def _said(consortium: Consortium, site: Path) -> None:
    async with opened_coordinator(consortium.founded.coordinator):
        while Unsaid(site).waiting():
            await asyncio.sleep(0.05)
