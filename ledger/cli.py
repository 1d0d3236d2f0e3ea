"""The command line of the ledger alone: what an auditor needs, with nothing else of ours installed.

    python -m ledger verify LOG      [--vkey V] [--policy FILE] [--events auto|require|skip] [--json]
    python -m ledger verify DATABASE [--vkey V] [--events require|skip] [--json]
    python -m ledger verify EVIDENCE --vkey V         a witness's proof that the log key signed a contradiction
    python -m ledger verify PACKAGE  [--vkey V] [--policy FILE] [--json]      the evidence package of one round
    python -m ledger show   LOG [--type T] [--institution I] [--study S] [--json]
    python -m ledger prove  LOG INDEX [-o PROOF] [--entry FILE]
    python -m ledger check  PROOF ENTRY [--vkey V] [--policy FILE]
    python -m ledger export DATABASE DIRECTORY [--checkpoint NOTE] [--policy FILE] [--archive FILE]
    python -m ledger witness status WITNESS_DB [--export LOG] [--evidence DIR] [--json]

LOG is a static export: a folder, or a .zip, .tar or .tar.gz of one. Exit codes: 0 done, 2 bad input or usage,
3 verification failed, 130 interrupted, 1 anything else. What the commands do is `ledger.commands`'s; logs that
others serve are read through `wardround ledger`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ledger import commands
from ledger.errors import CodedError
from ledger.listing import Listing

_INTERRUPTED = 130
_EXIT = {"input": 2, "policy": 3, "fault": 1}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
        sys.stdout.flush()
    except CodedError as error:
        sys.stderr.write(f"{error}\n")
        return _EXIT[error.kind]
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"[ledger.cli.file] {where}{os.strerror(error.errno or 0)}\n")
        return _EXIT["input"]
    return 0


def _run(options: argparse.Namespace) -> None:
    match options.command:
        case "verify":
            commands.verify(
                options.path, options.vkey, options.policy, events=options.events, as_json=options.json
            )
        case "show":
            listing = Listing(options.type, options.institution, options.study)
            commands.show(options.path, listing, as_json=options.json)
        case "prove":
            commands.prove(options.path, options.index, options.output, options.entry)
        case "check":
            commands.check(options.proof, options.entry, options.vkey, options.policy)
        case "export":
            commands.export_database(
                options.database,
                options.directory,
                checkpoint_path=options.checkpoint,
                policy_path=options.policy,
                archive=options.archive,
            )
        case _:
            commands.witness_status(options.path, options.export, options.evidence, as_json=options.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ledger", description="Check and read a ledger offline.")
    every = parser.add_subparsers(dest="command", required=True)
    log = "a static export: a folder, or a .zip, .tar or .tar.gz of one"
    verify = every.add_parser(
        "verify", help="check every byte of a static export, a database, a package or evidence"
    )
    verify.add_argument(
        "path", type=Path, help=f"{log}; a database; an evidence package; a witness's evidence"
    )
    verify.add_argument("--vkey", help="the log's verifier key")
    verify.add_argument("--policy", type=Path, help="a tlog-policy file: whose cosignatures count")
    verify.add_argument("--events", choices=("auto", "require", "skip"), default="auto")
    verify.add_argument("--json", action="store_true", help="one JSON object, with every check")
    show = every.add_parser("show", help="list the events")
    show.add_argument("path", type=Path, help=log)
    show.add_argument("--type", help="only this event type, or those that begin so before a dot")
    show.add_argument("--institution", help="only this institution's events")
    show.add_argument("--study", help="only events of this study: they name it, or a plan that does")
    show.add_argument("--json", action="store_true", help="one JSON object a line, with the bodies")
    prove = every.add_parser("prove", help="write an offline proof of one entry (tlog-proof)")
    prove.add_argument("path", type=Path, help=log)
    prove.add_argument("index", type=int, help="number of the entry, as `show` lists it")
    prove.add_argument("-o", "--output", type=Path, help="default: standard output")
    prove.add_argument("--entry", type=Path, help="write the entry itself here; `check` needs both")
    check = every.add_parser("check", help="verify an offline proof of one entry")
    check.add_argument("proof", type=Path)
    check.add_argument("entry", type=Path)
    check.add_argument("--vkey", help="the log's verifier key")
    check.add_argument(
        "--policy", type=Path, help="a tlog-policy file: then the checkpoint must be final by it"
    )
    export = every.add_parser("export", help="bring a static export up to date from a database")
    export.add_argument("database", type=Path, help="a ledger's SQLite file")
    export.add_argument("directory", type=Path, help="an earlier export of it, or a new folder")
    export.add_argument(
        "--checkpoint", type=Path, help="the cosigned checkpoint to publish; else the log's own"
    )
    export.add_argument("--policy", type=Path, help="a tlog-policy file to publish beside it")
    export.add_argument("--archive", type=Path, help="pack the export as this .tar.gz too")
    witness = every.add_parser("witness", help="look at a witness").add_subparsers(dest="what", required=True)
    status = witness.add_parser("status", help="what it cosigned last, and whether it holds evidence")
    status.add_argument("path", type=Path, help="a witness's SQLite file; it is not changed")
    status.add_argument("--export", type=Path, help=f"{log}, to compare with")
    status.add_argument("--evidence", type=Path, help="write the evidence here, for `verify EVIDENCE`")
    status.add_argument("--json", action="store_true", help="one JSON object")
    return parser
