"""`wardround ledger prove` and `check`: one entry's proof, written here and verified anywhere, offline."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token

from wardround.ledger.sources import Serving, open_export


def _whole(_kind: object, tokens: Sequence[Token]) -> int:
    """The command line's own conversion would round 1.5, to the proof of another entry."""
    if re.fullmatch(r"-?[0-9]{1,18}", tokens[0].value, re.ASCII) is None:
        raise ValueError("INDEX must be a whole number, as `show` lists it.")
    return int(tokens[0].value)


def prove(
    path: str,
    index: Annotated[int, Parameter(converter=_whole)],
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Write the proof to this new file instead of stdout.")] = None,
    entry: Annotated[
        Path | None, Parameter(help="Write the entry itself to this new file; `check` needs both.")
    ] = None,
    serving: Serving | None = None,
) -> None:
    """Write an offline proof that an entry is on the ledger (tlog-proof), for whoever has the log's key.

    Parameters
    ----------
    path
        A demo's folder, an exchange, a static export or an archive of one, or the URL that serves one.
    index
        Number of the entry, as `show` lists it.
    """
    from ledger import source
    from ledger.commands import how_to_check, write_proof

    with open_export(path, serving) as files:
        opened = source.opened(files)
        made, data = opened.prove(index)
    write_proof(made, data, out, entry)
    sys.stderr.write(f"{how_to_check('wardround ledger', out, entry)}\n")


def check(
    proof: Path,
    entry: Path,
    /,
    *,
    vkey: Annotated[str | None, Parameter(help="The log's verifier key.")] = None,
    policy: Annotated[
        Path | None, Parameter(help="A tlog-policy file: then the checkpoint must be final by it.")
    ] = None,
) -> None:
    """Verify an offline proof. It says nothing without a key or a policy to trust.

    Parameters
    ----------
    proof
        What `prove` wrote.
    entry
        The entry that it is about, byte for byte.
    """
    from ledger.commands import check_proof, read_policy

    sys.stdout.write(f"{check_proof(proof, entry, vkey, read_policy(policy))}\n")
