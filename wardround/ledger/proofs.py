"""`wardround ledger prove` and `check`: one entry's proof, written here and verified anywhere, offline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from wardround.ledger.sources import LedgerOptionError, Serving, open_export


def prove(
    path: str,
    index: int,
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
    from ledger.commands import how_to_check

    with open_export(path, serving) as files:
        opened = source.opened(files)
        if not 0 <= index < opened.tree.size:
            raise LedgerOptionError(f"there is no entry {index}: the ledger has {opened.tree.size}, from 0")
        made, data = opened.prove(index)
    if entry is not None:
        source.write_file(entry, data)
    if out is None:
        sys.stdout.write(made.encode().decode())
    else:
        source.write_file(out, made.encode())
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
