"""`wardround evidence`: build a round's evidence package, show what is in one, and audit it, or a phase's.

An auditor needs this program and the file, nothing else: no home, no ledger, no network. What is checked lives in
`tasks.evidence.audit`; what the ledger alone can check, `python -m ledger verify` does as well.
"""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from ledger.canonical import JsonValue
    from ledger.report import Report
    from tasks.evidence.audit import Audit

_WORD = 40  # longer ones are copied whole or not at all
_STYLES = {
    "passed": "[green]ok[/green]",
    "failed": "[bold red]FAILED[/bold red]",
    "skipped": "[dim]skipped[/dim]",
}

app = App(name="evidence", help="Build, show and audit the evidence package of a round.")


@app.command
def verify(
    file: Path,
    /,
    *,
    vkey: Annotated[
        str | None, Parameter(help="The log's verifier key. Else the package's is trusted.")
    ] = None,
    policy: Annotated[
        Path | None,
        Parameter(help="A tlog-policy file: whose cosignatures count, instead of the package's own."),
    ] = None,
    tighter: Annotated[
        bool, Parameter(help="Compute the tighter PLD figure beside every epsilon; takes seconds.")
    ] = True,
    json: Annotated[bool, Parameter(help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Check everything: signatures, proofs, rules and accounting, all from the file alone. Exit 3 if one fails.

    Parameters
    ----------
    file
        An evidence package, as `wardround evidence build` and every round write it.
    """
    from ledger.commands import read_policy
    from ledger.report import VerificationFailedError
    from tasks.evidence.audit import audit
    from wardround.ledger.entries_progress import EntriesProgress

    trusted = read_policy(policy)
    _require_file(file)
    try:
        with EntriesProgress() as progress:
            found = audit(file, vkey=vkey, policy=trusted, progress=progress.update)
    except VerificationFailedError as error:
        if json:
            _print_json({"path": str(file), **error.report.to_json(), "pools": []})
        else:
            _show_report(file, error.report)
            Console(highlight=False).print("NOT verified", style="bold red")
        raise
    figures = _figures(found) if tighter else {}
    if json:
        _print_json(
            {"path": str(file), **found.report.to_json(), **_subject(found), "pools": _pools(found, figures)}
        )
        return
    _show_report(file, found.report)
    _show_pools(found, figures)


@app.command
def build(
    *,
    home: Annotated[Path, Parameter(help="The coordinator's home.")],
    plan_digest: Annotated[str, Parameter(help="The plan's digest; its beginning if that is unambiguous.")],
    round_number: Annotated[int, Parameter(name="--round", help="0: the verdict on the plan itself.")],
    out: Annotated[
        Path | None, Parameter(help="The file to write; else one in the home's evidence folder.")
    ] = None,
    tighter: Annotated[bool, Parameter(help="Enclose the tighter PLD figures; takes seconds.")] = True,
) -> None:
    """Write the package of a round that ended, passed or failed. The payload is the same whenever it is built."""
    from adapters.exchange import DirectoryExchange
    from adapters.home import CoordinatorConfig, Home
    from tasks.evidence.building import plan_named, write_evidence

    opened = Home(home)
    config = opened.read(CoordinatorConfig)
    written = write_evidence(
        opened,
        DirectoryExchange(opened.resolve(config.exchange)),
        plan_digest=plan_named(opened, plan_digest),
        round_number=round_number,
        path=out,
        tighter=tighter,
    )
    sys.stdout.write(f"{written}\n")


@app.command
def show(
    file: Path, /, *, card: Annotated[bool, Parameter(help="Print the model card instead.")] = False
) -> None:
    """List what is in a package. Nothing is checked: `verify` does that.

    Parameters
    ----------
    file
        An evidence package.
    """
    from ledger.evidence_manifest import parse
    from ledger.evidence_package import MANIFEST, PAYLOAD
    from ledger.evidence_zip import PackedFiles
    from wardround.ledger.sources import printable

    _require_file(file)
    console = Console(highlight=False)
    with PackedFiles(file) as files:
        for name in (PAYLOAD + MANIFEST, *((PAYLOAD + "model-card.md",) if card else ())):
            if name not in files.names:
                raise _no_package(file)
        manifest = parse(files.read(PAYLOAD + MANIFEST))
        if card:
            text = files.read(PAYLOAD + "model-card.md").decode("utf-8", "backslashreplace")
            sys.stdout.write("\n".join(map(printable, text.split("\n"))))
            return
        table = Table(title=printable(str(file)), title_justify="left")
        table.add_column("file")
        table.add_column("bytes", justify="right")
        for name in files.names:
            if not name.startswith(f"{PAYLOAD}ledger/"):
                table.add_row(printable(name), str(len(files.read(name))))
    console.print(table)
    console.print(
        f"{manifest.subject}\n"
        f"{printable(manifest.origin)}, entries 0 to {manifest.size - 1}, root {manifest.root.hex()}\n"
        "not checked: see `wardround evidence verify`",
        soft_wrap=True,
    )


def _require_file(file: Path) -> None:
    from ledger.evidence_package import is_package

    if not is_package(file):
        raise _no_package(file)


def _no_package(file: Path) -> Exception:
    from ledger.errors import InputError

    return InputError(
        f"{file} is no evidence package",
        remedy="Name a file of a coordinator's evidence folder.",
        code="evidence.file",
    )


def _figures(found: Audit) -> dict[str, str]:
    from tasks.evidence.tighter import tighter_figures

    return tighter_figures(found.accounts)


def _subject(found: Audit) -> dict[str, JsonValue]:
    return {
        **found.manifest.subject.fields(),
        "evidence_digest": found.manifest.digest,
        "passed": found.passed,
        "entries": found.manifest.size,
    }


def _pools(found: Audit, figures: dict[str, str]) -> list[JsonValue]:
    pools: list[JsonValue] = []
    for account in found.accounts:
        told: dict[str, JsonValue] = {**account.to_json(), "epsilon_pld": figures.get(account.site)}
        pools.append(told)
    return pools


def _print_json(value: dict[str, JsonValue]) -> None:
    sys.stdout.write(f"{json_text.dumps(value)}\n")


def _show_report(file: Path, report: Report) -> None:
    from wardround.ledger.sources import printable

    console = Console(highlight=False)
    table, below = Table(title=printable(str(file)), title_justify="left"), list[str]()
    for heading in ("", "what was checked", "", "detail"):
        table.add_column(heading, overflow="fold")
    for check in report.checks:
        at = "" if check.index is None else f" (at index {check.index})"
        detail = printable(f"{check.detail}{at}")
        if any(len(word) > _WORD for word in detail.split()):
            below.append(f"{check.number}: {detail}")
            detail = "see below"
        table.add_row(str(check.number), check.title, _STYLES[check.outcome], detail)
    console.print(table)
    for line in (*below, *(f"note: {printable(notice)}" for notice in report.notices)):
        console.print(line, soft_wrap=True, markup=False)


def _show_pools(found: Audit, figures: dict[str, str]) -> None:
    from ledger.evidence_subject import PhaseSubject
    from policies.recount import decimal_text
    from privacy.accounting import MICRO

    console = Console(highlight=False)
    table = Table(
        title="what the sites' patients have spent, recomputed from the ledger", title_justify="left"
    )
    table.add_column("site")
    for heading in ("ε", "of the cap", "δ", "order", "reservations", "ε by PLD"):
        table.add_column(heading, justify="right")
    for account in found.accounts:
        terms = account.terms
        table.add_row(
            account.site,
            f"{account.epsilon_micro // MICRO}.{account.epsilon_micro % MICRO:06d}",
            f"{terms.epsilon_cap_micro // MICRO}.{terms.epsilon_cap_micro % MICRO:06d}",
            decimal_text(terms.delta),
            str(terms.order),
            str(len(account.uses)),
            figures.get(account.site, "-"),
        )
    console.print(table)
    verdict = "passed its gates and was registered" if found.passed else "was refused by its gates"
    if isinstance(found.manifest.subject, PhaseSubject):
        verdict = "met its terms"
    console.print(
        "ε counts every plan, study and settlement of this ledger up to the end, at the order that each pool "
        "pins; the PLD figure is tighter and for people: nothing is admitted by it.\n"
        f"verified: {found.manifest.subject}, which {verdict}; evidence {found.manifest.digest}",
        soft_wrap=True,
    )
