"""`wardround demo`: the main job on this machine, all roles at once."""

from __future__ import annotations

import asyncio
import functools
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from cyclopts import Parameter
from rich.console import Console

from ledger.errors import InputError, PolicyViolation
from policies.federation import Pool
from policies.plan import Plan, Scheme
from privacy.accounting import MICRO
from tasks import progress
from tasks.progress import Progress
from wardround.demo_words import resuming, site_logs, ways_on
from wardround.display import Display
from wardround.examples import EXAMPLES, example_for

MARKER = ".wardround-demo"
CONSENT_DOCUMENT = EXAMPLES / "consent-2026-1.md"
_WITHDRAWS = "consent/demo-patient"
DELTA = 1e-5
DEFAULT_SITES = 4
_WORDS = {"dicom": "DICOM files", "nifti": "NIfTI files", "table": "tables", "npz": "shards"}


class OutError(InputError):
    code = "out.exists"


class OptionError(InputError):
    code = "usage.option"


@dataclass(frozen=True, slots=True)
class Prepared:
    """Where the sites' data lie, and what is said about them."""

    sources: dict[str, tuple[str, Path]]
    public_test: tuple[str, Path] | None
    note: str


def demo(
    *,
    data: Path | None = None,
    sites: Annotated[
        int, Parameter(help="Number of hospitals, 3 to 26. A folder brings its own.")
    ] = DEFAULT_SITES,
    rounds: int | None = None,
    epsilon_cap: Annotated[
        float | None, Parameter(help="Refuse a plan that would pass this ε; the noise is never recalibrated.")
    ] = None,
    out: Path = Path("wardround-demo"),
    seed: int = 0,
    plan: Annotated[
        Path | None, Parameter(help="A plan to run instead of the example that fits the data.")
    ] = None,
    scheme: Annotated[
        Scheme | None, Parameter(help="How updates are hidden in their sum, instead of the plan's word.")
    ] = None,
    withdraw: Annotated[
        bool,
        Parameter(
            help="While round 1 is trained, one patient of the first hospital withdraws consent.", negative=""
        ),
    ] = False,
    json: Annotated[bool, Parameter(help="Print one JSON object as the last line of stdout.")] = False,
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Train one model over several hospitals on this machine and show what came of it.

    Parameters
    ----------
    data
        A folder with one sub-folder of DICOM or NIfTI files or one table per site, or a MedMNIST .npz that is
        split over the sites.
        Without it, synthetic DICOM studies are written.
    rounds
        Rounds to train, instead of the plan's.
    out
        Folder for everything that the run writes.
    seed
        Splits the data and draws first weights; privacy noise is never seeded.
    resume
        Continue an interrupted run in --out.
    overwrite
        Remove an earlier demo in --out first.
    """
    began = time.monotonic()
    _check_options(sites=sites, rounds=rounds, epsilon_cap=epsilon_cap, seed=seed)
    out = out.resolve()
    with Display() as display:
        if _resumes(out, resume=resume, overwrite=overwrite):
            _refuse_changes(
                out,
                data=data,
                sites=sites,
                rounds=rounds,
                epsilon_cap=epsilon_cap,
                seed=seed,
                plan=plan,
                scheme=scheme,
            )
            wanted = Plan.from_yaml((out / "plan.yaml").read_text(), what="plan")
            display.say(f"Continuing in {out}")
            prepare = None
        else:
            wanted = _read_plan(plan, data, rounds=rounds, seed=seed, scheme=scheme)
            if withdraw and wanted.rounds < 2:
                raise OptionError("--withdraw shows in the second round, and the plan has one")
            cap = wanted.budget.epsilon_cap if epsilon_cap is None else epsilon_cap
            prepare = functools.partial(
                _found, out, data, sites=sites, seed=seed, plan=wanted, cap=cap, display=display
            )
        if prepare is not None or not _finished(out, wanted):
            try:
                with _withdrawal(out, wanted) if withdraw else nullcontext():
                    _run(out, wanted, prepare, inputs=(data, plan))
            except PolicyViolation as violation:
                violation.remedy = site_logs(out)
                if json and (out / "plan.yaml").exists():
                    _print_json(out, wanted, seconds=time.monotonic() - began, violation=violation)
                raise
    if json:
        _print_json(out, wanted, seconds=time.monotonic() - began)
        return
    from wardround.summary import Summary

    Summary.read(out, wanted.content_digest(), seconds=time.monotonic() - began).show(
        Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    )


def _print_json(out: Path, plan: Plan, *, seconds: float, violation: PolicyViolation | None = None) -> None:
    from wardround.summary import Summary

    violations = () if violation is None else violation.violations
    text = Summary.read(out, plan.content_digest(), seconds=seconds).to_json(violations)
    sys.stdout.write(f"{text}\n")


def _finished(out: Path, plan: Plan) -> bool:
    """Whether every round of the plan is registered: then there is nothing to resume but the summary."""
    from adapters.home import Home
    from adapters.institution_log import read_state

    state, _ = read_state(Home(out / "coordinator"))
    return (plan.content_digest(), plan.rounds) in state.registered


def _check_options(*, sites: int, rounds: int | None, epsilon_cap: float | None, seed: int) -> None:
    wrong = []
    if not 3 <= sites <= 26:
        wrong.append("--sites must be 3 to 26: with two sites each would learn the other's update")
    if rounds is not None and not 1 <= rounds <= 1000:
        wrong.append("--rounds must be 1 to 1000")
    if epsilon_cap is not None and not 0 < epsilon_cap <= 1e6:
        wrong.append("--epsilon-cap must be a positive number")
    if not 0 <= seed < 2**32:
        wrong.append("--seed must be 0 to 4294967295")
    if wrong:
        raise OptionError("; ".join(wrong))


def _resumes(out: Path, *, resume: bool, overwrite: bool) -> bool:
    """Whether an earlier run in `out` is to be continued. Refuses a folder that is not free for this run."""
    if resume and overwrite:
        raise OptionError("--resume and --overwrite exclude each other")
    ours = (out / MARKER).exists()
    if resume:
        if not ours or not (out / "plan.yaml").exists():
            raise OutError(f"there is no demo to resume in {out}", code="out.nothing-to-resume")
        return True
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if not overwrite:
            raise OutError(f"{out} exists", remedy=ways_on(out, ours=ours))
        if not ours:
            raise OutError(
                f"{out} is not an earlier demo and is left as it is",
                remedy="Choose another --out.",
                code="out.not-ours",
            )
    return False


def _refuse_changes(
    out: Path,
    *,
    data: Path | None,
    sites: int,
    rounds: int | None,
    epsilon_cap: float | None,
    seed: int,
    plan: Path | None,
    scheme: Scheme | None,
) -> None:
    """A founded federation and a published plan are continued as they are: a cap cannot be changed on the way."""
    defaults = (None, DEFAULT_SITES, None, None, 0, None, None)
    if (data, sites, rounds, epsilon_cap, seed, plan, scheme) != defaults:
        raise OptionError(
            "--resume continues the run as it was founded: leave out --data, --sites, --rounds, --epsilon-cap, "
            "--seed, --plan and --scheme",
            remedy=f"Write: {resuming(out)}",
        )


def _set_aside(out: Path, *inputs: Path | None) -> Path | None:
    """Move an earlier demo out of the way, to be removed once the new one is founded and put back if it is not."""
    if not (out / MARKER).exists():
        return None
    if any(given is not None and given.resolve().is_relative_to(out) for given in inputs):
        raise OutError(
            f"--data or --plan lies in {out}, which --overwrite would remove",
            remedy="Copy it elsewhere or choose another --out.",
            code="out.holds-input",
        )
    aside = out.with_name(f".{out.name}.replaced")
    shutil.rmtree(aside, ignore_errors=True)
    return out.rename(aside)


def _read_plan(
    path: Path | None, data: Path | None, *, rounds: int | None, seed: int, scheme: Scheme | None
) -> Plan:
    from adapters.sources.discovery import discover
    from tasks.planning import approved, read_plan

    plan = read_plan(example_for(None if data is None else discover(data)) if path is None else path)
    plan = plan.with_fields({"seed": seed, "rounds": plan.rounds if rounds is None else rounds})
    if scheme is not None:
        plan = plan.with_fields({"protection": {**plan.protection.to_json(), "scheme": scheme}})
    return approved(plan)


def _found(
    out: Path, data: Path | None, *, sites: int, seed: int, plan: Plan, cap: float, display: Display
) -> None:
    """Prepare the data, found the federation and take in its invented patients' consents."""
    from adapters.home import SourceConfig
    from tasks.enrol import consent_config, enrol
    from tasks.found import COORDINATOR, FoundingSite, found
    from tasks.rollout.officers import default_officers, default_sign_offs

    def source(where: tuple[str, Path]) -> SourceConfig:
        return SourceConfig.from_value({"kind": where[0], "path": str(where[1])}, what="source")

    prepared = _prepare_data(out, data, sites=sites, seed=seed, display=display)
    display.say(prepared.note)
    consent = consent_config(CONSENT_DOCUMENT, plan.consent)
    founded = found(
        out,
        tuple(FoundingSite(name, source(where), consent) for name, where in prepared.sources.items()),
        name="demo",
        pool=Pool.of(epsilon_cap_micro=int(cap * MICRO), delta=DELTA),
        public_test=None if prepared.public_test is None else source(prepared.public_test),
        model_families=(plan.network.name,),
        officers=default_officers(tuple(prepared.sources), coordinator=COORDINATOR),
        sign_offs=default_sign_offs(len(prepared.sources)),
    )
    for name, root in founded.sites.items():
        progress.tell(Progress(name, "take in consents"))
        one = enrol(root, plan, now_s=int(time.time()))
        (root / _WITHDRAWS).write_text(one)
    # Last: only a founded federation with its plan can be resumed.
    (out / "plan.yaml").write_text(yaml.safe_dump(plan.to_json(), sort_keys=False))


@contextmanager
def _withdrawal(out: Path, plan: Plan) -> Iterator[None]:
    """Withdraw one consent of the first hospital as soon as its first update is on its way."""
    from adapters.consent.store import ConsentStore
    from adapters.home import Home

    done = False

    def watch(seen: Progress) -> None:
        nonlocal done
        root = out / "sites" / seen.party
        first = not done and seen.round == 1 and seen.step == "submit"
        if first and root == min((out / "sites").iterdir()):
            done = True
            ConsentStore.open(Home(root)).withdraw(
                (root / _WITHDRAWS).read_text(),
                policy_version=plan.consent.policy_version,
                now_s=int(time.time()),
            )
            progress.tell(Progress(root.name, "one patient withdraws consent", 1))

    stop = progress.listen(watch)
    try:
        yield
    finally:
        stop()


def _prepare_data(out: Path, data: Path | None, *, sites: int, seed: int, display: Display) -> Prepared:
    from adapters.sources.discovery import discover

    names = [f"hospital-{chr(ord('a') + number)}" for number in range(sites)]
    folder = out / "data"
    if data is None:
        from adapters.sources.phantoms import write_phantoms

        write_phantoms(
            folder,
            sites=names,
            seed=seed,
            on_progress=lambda done, total: progress.tell(
                Progress("data", "write synthetic studies", 0, done, total)
            ),
        )
        found = discover(folder)
        sources = {name: ("dicom", path) for name, path in found.sites.items()}
        test = None if found.public_test is None else ("dicom", found.public_test)
        return Prepared(
            sources, test, "Data: synthetic DICOM studies with invented patients (no --data given)"
        )
    found = discover(data)
    if found.kind == "medmnist":
        from adapters.sources.medmnist import write_shards

        shards = write_shards(data, sites=names, seed=seed, out=folder)
        sources = {name: ("npz", path) for name, path in shards.shards.items()}
        note = f"Data: {data.name}, split over {sites} sites unevenly by label and size; one image a patient"
        return Prepared(sources, ("npz", shards.public_test), note)
    if len(found.sites) < 3:
        raise OptionError(f"{data} holds {len(found.sites)} sites; a protected sum needs at least 3")
    sources = {name: (str(found.source), path.resolve()) for name, path in found.sites.items()}
    test = None if found.public_test is None else (found.source, found.public_test.resolve())
    return Prepared(sources, test, f"Data: {_WORDS[found.source]} of {len(sources)} sites in {data}")


def _run(
    out: Path, plan: Plan, prepare: Callable[[], None] | None, *, inputs: tuple[Path | None, ...]
) -> None:
    """Start Prefect, prepare while it starts, run the flows. If preparing fails, nothing is left behind."""
    from adapters.prefect_server import PrefectServer

    aside = None if prepare is None else _set_aside(out, *inputs)
    existed = out.exists()
    out.mkdir(parents=True, exist_ok=True)
    (out / MARKER).write_text("made by `wardround demo`; --overwrite may remove this folder\n")
    server = PrefectServer(out / "coordinator" / "prefect")
    server.start()
    try:
        if prepare is not None:
            prepare()
        progress.tell(Progress("prefect", "start the local server"))
        server.wait()
        progress.tell(Progress("prefect", "serving"))
        from flows.consortium import run_together

        homes = {path.name: path for path in sorted((out / "sites").iterdir())}
        asyncio.run(
            run_together(out / "coordinator", homes, out / "plan.yaml", plan_digest=plan.content_digest())
        )
    finally:
        server.stop()
        founded = (out / "plan.yaml").exists()
        if not founded:
            _empty(out, remove=not existed)
        if aside is not None and founded:
            shutil.rmtree(aside)
        elif aside is not None:
            aside.rename(out)


def _empty(out: Path, *, remove: bool) -> None:
    for item in out.iterdir():
        if item.is_dir():
            shutil.rmtree(item)
        else:
            item.unlink()
    if remove:
        out.rmdir()
