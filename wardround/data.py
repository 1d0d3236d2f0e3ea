"""`wardround data`: read a site's data and hold them against a plan's contract, without training anything; and make
data to try plans on, synthetic volumes and the public tables of heart disease and of hospital stays.

What is printed is what a steward may pass on: bucketed sizes, yes or no by check, codes with counts. File names,
which may hold patients' names, go only to the file of `--details`, which is the steward's own.
"""

from __future__ import annotations

import json as json_text
import os
import secrets
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from ledger.canonical import JsonValue
from ledger.errors import CodedError, InputError, PolicyViolation, Violation
from policies.data_contract import DataContract
from tasks import progress
from tasks.planning import read_plan
from tasks.progress import Progress
from wardround.display import Display
from wardround.examples import example_for

if TYPE_CHECKING:
    from adapters.sources.discovery import SourceKind

PUBLIC_TEST = "public-test"
SIZE_CHECK = "minimum-patients"

app = App(name="data", help="Look at a site's data before anybody trains on them, or make some.")


class DataOptionError(InputError):
    code = "usage.option"


class SitesRefusedError(InputError):
    code = "data.refused"


@dataclass(frozen=True, slots=True)
class Finding:
    """What may be said of one site's data."""

    site: str
    patients: str
    checks: tuple[tuple[str, bool], ...]
    """By name; empty if the data cannot be read."""
    error: CodedError | None


@app.command
def check(
    path: Path,
    /,
    *,
    plan: Annotated[
        Path | None, Parameter(help="Whose contract to check. Else the example plan that fits the data.")
    ] = None,
    sites: Annotated[int, Parameter(help="How many hospitals an .npz is split over, 3 to 26.")] = 4,
    seed: Annotated[int, Parameter(help="Splits an .npz.")] = 0,
    json: Annotated[bool, Parameter(help="Print one JSON object instead of a table.")] = False,
    details: Annotated[
        Path | None,
        Parameter(
            help="Also write which files are at fault into this new file. Keep it: names may be in it."
        ),
    ] = None,
) -> None:
    """Read the data and run the contract's checks, without training.

    Parameters
    ----------
    path
        A folder with one sub-folder of DICOM or NIfTI files or one table per site, or a MedMNIST .npz.
    """
    if not 3 <= sites <= 26:
        raise DataOptionError("--sites must be 3 to 26")
    if not 0 <= seed < 2**32:
        raise DataOptionError("--seed must be 0 to 4294967295")
    if details is not None and details.exists():
        raise DataOptionError(f"{details} exists and is left as it is", remedy="Choose another --details.")
    from adapters.sources.discovery import discover

    found = discover(path)
    used = read_plan(example_for(found) if plan is None else plan)
    with tempfile.TemporaryDirectory(prefix="wardround-") as scratch, Display() as display:
        if found.kind == "medmnist":
            from adapters.sources.medmnist import write_shards

            names = [f"hospital-{chr(ord('a') + number)}" for number in range(sites)]
            shards = write_shards(path, sites=names, seed=seed, out=Path(scratch))
            sources = {**shards.shards, PUBLIC_TEST: shards.public_test}
            display.say(f"Split over {sites} sites as `wardround demo --data` does; one image a patient")
        else:
            sources = dict(found.sites)
            if found.public_test is not None:
                sources[PUBLIC_TEST] = found.public_test
        findings = [_look(name, found.source, where, used.data) for name, where in sources.items()]
    if details is not None:
        _write_details(details, findings)
    if json:
        _print_json(used.name, findings)
    else:
        _show(used.name, findings)
    _judge(findings, details)


@app.command
def volumes(
    out: Path,
    /,
    *,
    sites: Annotated[int, Parameter(help="How many hospitals, 3 to 26.")] = 4,
    patients: Annotated[int, Parameter(help="Of a hospital, on average; sizes differ.")] = 60,
    seed: Annotated[int, Parameter(help="Everything follows from it.")] = 0,
) -> None:
    """Write synthetic volumes with masks of lesions, as NIfTI files of hospitals with different scanners.

    Parameters
    ----------
    out
        A folder to write, one sub-folder a hospital and one of public test volumes.
    """
    wrong = [] if 3 <= sites <= 26 else ["--sites must be 3 to 26"]
    wrong += [] if 3 <= patients <= 10_000 else ["--patients must be 3 to 10000"]
    wrong += [] if 0 <= seed < 2**32 else ["--seed must be 0 to 4294967295"]
    if wrong:
        raise DataOptionError("; ".join(wrong))
    _require_folder("OUT", out)
    from adapters.sources.volume_phantoms import write_volume_phantoms

    names = [f"hospital-{chr(ord('a') + number)}" for number in range(sites)]
    with Display():
        write_volume_phantoms(
            out, sites=names, seed=seed, patients_per_site=patients,
            on_progress=lambda done, total: progress.tell(Progress("data", "write volumes", 0, done, total)),
        )  # fmt: skip
    _next(out, "phantom-volumes")


@app.command
def heart(
    path: Path,
    /,
    *,
    out: Annotated[Path, Parameter(help="A folder to write, one table a hospital.")],
    keep_incomplete: Annotated[
        bool, Parameter(help="Also patients with missing fields, whom FLamby leaves out.", negative="")
    ] = False,
) -> None:
    """Write the UCI heart disease data as four hospitals' tables.

    Parameters
    ----------
    path
        The folder with UCI's files processed.cleveland.data, processed.hungarian.data and so on.
    """
    _require_folder("--out", out)
    from adapters.sources.heart import write_heart_tables

    write_heart_tables(path, out, keep_incomplete=keep_incomplete)
    _next(out, "heart-disease")


@app.command
def readmission(
    path: Path,
    /,
    *,
    out: Annotated[Path, Parameter(help="A folder to write, one table a hospital.")],
    sites: Annotated[int, Parameter(help="How many hospitals, 3 to 26.")] = 5,
    seed: Annotated[int, Parameter(help="Deals the patients out.")] = 0,
) -> None:
    """Write the UCI stays of diabetic patients as hospitals' tables, all stays of a patient at one hospital.

    Parameters
    ----------
    path
        UCI's diabetic_data.csv, or rows of it with its header.
    """
    wrong = [] if 3 <= sites <= 26 else ["--sites must be 3 to 26"]
    wrong += [] if 0 <= seed < 2**32 else ["--seed must be 0 to 4294967295"]
    if wrong:
        raise DataOptionError("; ".join(wrong))
    _require_folder("--out", out)
    from adapters.sources.stays import write_stay_tables

    names = [f"hospital-{chr(ord('a') + number)}" for number in range(sites)]
    write_stay_tables(path, out, sites=names, seed=seed)
    _next(out, "readmission")


def _require_folder(option: str, out: Path) -> None:
    """DataOptionError where a file is in the way of the folder to write."""
    there = next((path for path in (out, *out.absolute().parents) if path.exists()), out)
    if not there.is_dir():
        raise DataOptionError(f"{option}: {there} is not a folder", remedy="Name a folder to write.")


def _next(out: Path, example: str) -> None:
    console = Console(highlight=False)
    console.print(f"Written to {out}. Next:", soft_wrap=True)
    console.print(f"  wardround data check {out}", soft_wrap=True)
    console.print(f"  wardround demo --data {out}     (the example plan {example})", soft_wrap=True)


def _look(site: str, kind: SourceKind, path: Path, contract: DataContract) -> Finding:
    """Read one site and validate it. Nothing of ours is raised: everything is collected first."""
    from adapters.sources.discovery import open_source
    from tasks.select import select
    from tasks.validate import Verdict, require, validate
    from wardround.summary import bucket

    progress.tell(Progress(site, "read"))
    patients, error = "–", None
    checks: tuple[tuple[str, bool], ...] = ()
    try:
        # A secret of this run alone: the keys of patients are made, used and forgotten here.
        source = open_source(kind, path, site=site, secret=secrets.token_bytes(32))
        cohort = select(source, contract, None)  # data are looked at, not used
        patients = bucket(cohort.patient_count)
        progress.tell(Progress(site, "validate"))
        verdict = validate(cohort, contract)
        checks = verdict.checks
        if site == PUBLIC_TEST:  # it belongs to no site and may have any size
            checks = tuple(item for item in checks if item[0] != SIZE_CHECK)
        require(Verdict(all(passed for _, passed in checks), checks, verdict.suite_digest), contract)
        if site != PUBLIC_TEST:
            cohort.split(contract.held_out_fraction)
    except CodedError as refused:
        error = refused
    progress.tell(Progress(site, "done"))
    return Finding(site, patients, checks, error)


def _judge(findings: list[Finding], details: Path | None) -> None:
    """Raise everything that is wrong with all sites: exit 2 if data cannot be read, else 3 for the contract."""
    violations, broken = list[Violation](), list[CodedError]()
    for finding in findings:
        if isinstance(finding.error, PolicyViolation):
            violations += [
                Violation(item.code, f"{finding.site}: {item.message}") for item in finding.error.violations
            ]
        elif finding.error is not None:
            broken.append(finding.error)
    if broken:
        # What to do stands behind each finding: of several sites it differs.
        messages = [str(error).removeprefix(f"[{error.code}] ") for error in broken]
        messages += [f"{violation.message} ({violation.code})." for violation in violations]
        remedy = "With --details FILE, the files at fault are listed there." if details is None else ""
        raise SitesRefusedError(" ".join(messages), remedy=remedy, code=broken[0].code)
    if violations:
        raise PolicyViolation(violations)


def _show(plan: str, findings: list[Finding]) -> None:
    table = Table(title=f"Data under the contract of {plan}")
    for heading in ("site", "patients", "readable", "checks passed", "failed"):
        table.add_column(heading, overflow="fold")
    for finding in findings:
        passed = sum(ok for _, ok in finding.checks)
        failed = () if finding.error is None else _codes(finding.error)
        table.add_row(
            finding.site,
            finding.patients,
            "yes" if finding.checks else "[bold red]no[/bold red]",
            f"{passed} of {len(finding.checks)}" if finding.checks else "–",
            f"[bold red]{', '.join(failed)}[/bold red]" if failed else "",
        )
    console = Console(highlight=False)
    console.print(table)
    names = next((finding.checks for finding in findings if finding.checks), ())
    if names:
        console.print(f"checks: {', '.join(name for name, _ in names)}")


def _print_json(plan: str, findings: list[Finding]) -> None:
    sites: dict[str, JsonValue] = {
        finding.site: {
            "patients": finding.patients,
            "readable": bool(finding.checks),
            "checks": dict(finding.checks),
            "codes": [] if finding.error is None else list(_codes(finding.error)),
        }
        for finding in findings
    }
    ok = all(finding.error is None for finding in findings)
    sys.stdout.write(json_text.dumps({"ok": ok, "plan": plan, "sites": sites}) + "\n")


def _codes(error: CodedError) -> tuple[str, ...]:
    from adapters.sources.findings import DataRefusedError

    if isinstance(error, DataRefusedError):
        return error.codes
    if isinstance(error, PolicyViolation):
        return tuple(violation.code for violation in error.violations)
    return (error.code,)


def _write_details(path: Path, findings: list[Finding]) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise DataOptionError(
            f"cannot write {path}: {os.strerror(error.errno or 0)}", remedy="Choose another --details."
        ) from None
    with os.fdopen(handle, "w") as file:
        for finding in findings:
            if finding.error is not None:
                file.write(f"{finding.site}\n{finding.error}\n{finding.error.diagnostics()}\n\n")
