"""`wardround model`: take a registered model out of its federation, and check one that somebody gave you.

What an export consists of is `tasks.model.exported`; trying one on files is `wardround predict`.
"""

from __future__ import annotations

import json as json_text
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from ledger.errors import InputError

app = App(name="model", help="Export a registered model for use, and check an export.")


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
    vkey: Annotated[
        str | None,
        Parameter(help="The log's verifier key, from the federation. Else the export's own is trusted."),
    ] = None,
    json: Annotated[bool, Parameter(help="Print one JSON object.", negative="")] = False,
) -> None:
    """Check that weights, network line, plan and registration belong together and are on the ledger.

    Parameters
    ----------
    model
        What `wardround model export` wrote.
    """
    from tasks.model.exported import VKEY, ExportedModel

    opened = ExportedModel.open(model)
    own = opened.files[VKEY].decode("utf-8", "replace").strip()
    index = opened.require_proof(vkey or own)
    about = opened.about
    if json:
        value = {**about.to_json(), "ledger_index": index, "trusted_key": vkey or own, "ok": True}
        sys.stdout.write(f"{json_text.dumps(value)}\n")
        return
    console = Console(highlight=False)
    console.print(f"model    {about.study}, round {about.round}, {about.network.name}", soft_wrap=True)
    console.print(f"digest   {about.model_digest}", soft_wrap=True)
    console.print(f"plan     {about.plan_digest}", soft_wrap=True)
    console.print(f"input    {about.data.described()}", soft_wrap=True)
    console.print(f"verified registered as entry {index} of the ledger", soft_wrap=True)
    if vkey is None:
        console.print("         by the key inside the export: give --vkey to trust the federation's instead")
