"""`wardround model`: take a registered model out of its federation, and check one that somebody gave you.

What an export consists of is `tasks.model.exported`, on what it stands `tasks.model.standing`; trying one on files is
`wardround predict`.
"""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console

from ledger.errors import InputError
from wardround.ledger.sources import printable

if TYPE_CHECKING:
    from tasks.model.exported import ExportedModel
    from tasks.model.standing import Standing

NOT_FINAL = 1

app = App(name="model", help="Export a registered model for use, check an export, roll a champion back.")
app.command(
    "wardround.rollback:rollback", name="rollback", help="Take a champion out of the clinic, at once."
)


class ModelOptionError(InputError):
    code = "usage.option"


@app.command
def export(
    home: Path,
    /,
    *,
    out: Annotated[Path, Parameter(help="The new folder to write, or a new file that ends in .zip.")],
    plan_digest: Annotated[
        str | None, Parameter(help="Of this plan; the digest's beginning if that is unambiguous.")
    ] = None,
    round_number: Annotated[int | None, Parameter(name="--round", help="Of this round.")] = None,
) -> None:
    """Write the newest registered model with all that is needed to use it. Whatever exists is left as it is.

    Parameters
    ----------
    home
        The coordinator's home, or a site's.
    """
    if round_number is not None and not 1 <= round_number <= 1000:
        raise ModelOptionError("--round must be 1 to 1000")
    if plan_digest is not None and (not plan_digest or set(plan_digest) - set("0123456789abcdef")):
        raise ModelOptionError("--plan-digest must be hexadecimal digits")
    from tasks.model.exporting import export_model

    about = export_model(home, out, plan_digest=plan_digest, round_number=round_number)
    console = Console(highlight=False)
    console.print(f"model  {about.study}, round {about.round}, {about.network.name}", soft_wrap=True)
    console.print(f"digest {about.model_digest}", soft_wrap=True)
    console.print(f"in     {out}; try it with `wardround predict {out} PATH`", soft_wrap=True)


@app.command
def verify(
    model: Path,
    /,
    *,
    federation: Annotated[
        Path | None,
        Parameter(
            help="The founding document, a member's federation.json: its witnesses must have cosigned."
        ),
    ] = None,
    home: Annotated[
        Path | None, Parameter(help="A member's home: its founding document, and the card from its ledger.")
    ] = None,
    policy: Annotated[
        Path | None, Parameter(help="A tlog-policy file: whose cosignatures count, instead of a document's.")
    ] = None,
    vkey: Annotated[
        str | None, Parameter(help="The log's verifier key. Alone it does not show that anything is final.")
    ] = None,
    json: Annotated[bool, Parameter(help="Print one JSON object.", negative="")] = False,
) -> int:
    """Check that an export's files belong together, and that its registration is final on the ledger.

    Exit 3 if anything does not hold; 1 if all holds that was asked for, which does not show that it is final.

    Parameters
    ----------
    model
        What `wardround model export` wrote.
    """
    given = [federation is not None, home is not None, policy is not None or vkey is not None]
    if sum(given) > 1:
        raise ModelOptionError("give --federation, --home, or --policy and --vkey")
    from ledger.commands import read_policy
    from tasks.model import standing
    from tasks.model.exported import ExportedModel

    opened, trusted = ExportedModel.open(model), read_policy(policy)
    if home is not None:
        found = standing.by_home(opened, home)
    elif federation is not None:
        found = standing.by_federation(opened, standing.read_federation(federation))
    elif trusted is not None:
        found = standing.by_policy(opened, trusted, vkey)
    else:
        found = standing.by_log_key(opened, vkey)
    if json:
        sys.stdout.write(f"{json_text.dumps({**opened.about.to_json(), **found.to_json()})}\n")
    else:
        _show(opened, found)
    return 0 if found.final else NOT_FINAL


def _show(model: ExportedModel, found: Standing) -> None:
    about, console = model.about, Console(highlight=False)
    registered = f"entry {found.index} of {found.origin}"
    if found.registrar is not None:
        registered += f", by {found.registrar}"
    final = f"cosigned by {found.quorum}"
    if not found.final:
        final = "NOT shown to be final: signed by the log alone. Give --federation or --home"
    card = "is what the ledger says"
    if not found.card:
        card = "NOT verified: no signature covers it, and who passed it on may have rewritten it. Give --home"
    for word, said in (
        ("model", f"{about.study}, round {about.round}, {about.network.name}"),
        ("digest", about.model_digest),
        ("plan", about.plan_digest),
        ("input", about.data.described()),
        ("entry", registered),
        ("trusted", found.trusted),
        ("final", final),
        ("card", card),
    ):
        console.print(f"{word:<8} {printable(said)}", soft_wrap=True)
