"""The command line of the ledger alone: what an auditor needs, with nothing else of ours installed.

    python -m ledger verify DIR      [--vkey V] [--policy FILE] [--events auto|require|skip] [--json]
    python -m ledger verify DATABASE [--vkey V] [--events require|skip] [--json]
    python -m ledger verify EVIDENCE --vkey V         a witness's proof that the log key signed a contradiction
    python -m ledger show   DIR [--type T] [--institution I] [--study S] [--json]
    python -m ledger prove  DIR INDEX [-o PROOF] [--entry FILE]
    python -m ledger check  PROOF ENTRY [--vkey V] [--policy FILE]

Exit codes: 0 done, 2 bad input or usage, 3 verification failed, 1 anything else. Files that others serve are
read through `wardround ledger`, not here.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ledger import checkpoint, equivocation, note, proof
from ledger.errors import CodedError, InputError
from ledger.event import parse_entry
from ledger.export import CHECKPOINT, VKEY
from ledger.policy import parse_policy
from ledger.reader import TileReader, VerifiedTree
from ledger.report import Report, VerificationFailedError
from ledger.verify import Events, NoLedgerError, verify_database, verify_directory

_EVENTS: dict[str, Events] = {"auto": "auto", "require": "require", "skip": "skip"}
_EXIT = {"input": 2, "policy": 3, "fault": 1}


class UsageError(InputError):
    code = "ledger.cli.usage"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "verify":
            _verify(options.path, options.vkey, options.policy, options.events, as_json=options.json)
        elif options.command == "show":
            _show(options.path, options.type, options.institution, options.study, as_json=options.json)
        elif options.command == "prove":
            _prove(options.path, options.index, options.output, options.entry)
        else:
            _check(options.proof, options.entry, options.vkey, options.policy)
    except CodedError as error:
        sys.stderr.write(f"{error}\n")
        return _EXIT[error.kind]
    except BrokenPipeError:
        return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ledger", description="Check and read a ledger offline.")
    commands = parser.add_subparsers(dest="command", required=True)
    verify = commands.add_parser("verify", help="check every byte of a static export or a database")
    verify.add_argument("path", type=Path)
    verify.add_argument("--vkey", help="the log's verifier key")
    verify.add_argument("--policy", type=Path, help="a tlog-policy file: whose cosignatures count")
    verify.add_argument("--events", choices=tuple(_EVENTS), default="auto")
    verify.add_argument("--json", action="store_true")
    show = commands.add_parser("show", help="list the events")
    show.add_argument("path", type=Path)
    show.add_argument("--type", help="only this event type, or those that begin so before a dot")
    show.add_argument("--institution")
    show.add_argument("--study", help="only events whose body names this study")
    show.add_argument("--json", action="store_true", help="one JSON object a line, with the bodies")
    prove = commands.add_parser("prove", help="write an offline proof of one entry (tlog-proof)")
    prove.add_argument("path", type=Path)
    prove.add_argument("index", type=int)
    prove.add_argument("-o", "--output", type=Path, help="default: standard output")
    prove.add_argument("--entry", type=Path, help="write the entry itself here")
    check = commands.add_parser("check", help="verify an offline proof of one entry")
    check.add_argument("proof", type=Path)
    check.add_argument("entry", type=Path)
    check.add_argument("--vkey", help="the log's verifier key")
    check.add_argument(
        "--policy", type=Path, help="a tlog-policy file: then the checkpoint must be final by it"
    )
    return parser


def _verify(path: Path, vkey: str | None, policy_path: Path | None, events: str, *, as_json: bool) -> None:
    policy = None if policy_path is None else parse_policy(_bytes(policy_path))
    if path.is_file() and path.read_bytes()[:1] == b"{":
        _evidence(path, vkey)
        return
    try:
        if path.is_file():
            report = verify_database(path, log_vkey=vkey, events="skip" if events == "skip" else "require")
        else:
            report = verify_directory(path, log_vkey=vkey, policy=policy, events=_EVENTS[events])
    except VerificationFailedError as error:
        _print_report(error.report, as_json=as_json)
        raise
    _print_report(report, as_json=as_json)


def _print_report(report: Report, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(report.to_json()) + "\n")
        return
    for line in report.lines():
        sys.stdout.write(line + "\n")
    verdict = "verified" if report.ok else "NOT verified"
    sys.stdout.write(f"{verdict}: {report.origin} at size {report.size}\n")


def _show(path: Path, kind: str | None, institution: str | None, study: str | None, *, as_json: bool) -> None:
    opened = _open(path)
    if not as_json:
        sys.stdout.write(f"{'INDEX':>7}  {'TIME (claimed)':<20} {'INSTITUTION':<20} {'SEQ':>5}  TYPE\n")
    for index, entry in enumerate(opened.entries(0, opened.size)):
        event = parse_entry(entry).event
        if kind is not None and event.type != kind and not event.type.startswith(f"{kind}."):
            continue
        if institution is not None and event.institution != institution:
            continue
        if study is not None and event.body.get("study") != study:
            continue
        if as_json:
            sys.stdout.write(json.dumps({"index": index, **event.to_json()}) + "\n")
            continue
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(event.time_s))
        sys.stdout.write(
            f"{index:>7}  {when:<20} {_plain(event.institution):<20} {event.sequence:>5}  {event.type}\n"
        )


def _prove(path: Path, index: int, output: Path | None, entry: Path | None) -> None:
    opened = _open(path)
    made = proof.TlogProof(index, opened.inclusion_proof(index), (path / CHECKPOINT).read_bytes())
    if entry is not None:
        entry.write_bytes(opened.entry(index))
    if output is None:
        sys.stdout.write(made.encode().decode())
    else:
        output.write_bytes(made.encode())


def _check(path: Path, entry: Path, vkey: str | None, policy_path: Path | None) -> None:
    policy = None if policy_path is None else parse_policy(_bytes(policy_path))
    if vkey is None and policy is None:
        raise UsageError("give --vkey or --policy: a proof says nothing without a key to trust")
    parsed = proof.parse(_bytes(path))
    head = parsed.verify(_bytes(entry), log_vkey=vkey, policy=policy)
    final = "" if policy is None else f", final by {policy.describe()}"
    sys.stdout.write(f"verified: entry {parsed.index} of {head.origin} at size {head.size}{final}\n")


def _evidence(path: Path, vkey: str | None) -> None:
    if vkey is None:
        raise UsageError("give --vkey: evidence accuses the holder of a key")
    found = equivocation.parse(_bytes(path))
    found.verify(note.parse_vkey(vkey))
    sizes = [checkpoint.parse(data)[0].size for data in (found.first, found.second)]
    sys.stdout.write(
        f"proven: the log key signed two checkpoints that contradict each other, of sizes {sizes[0]} and {sizes[1]}\n"
    )


def _open(path: Path) -> VerifiedTree:
    """The tree of an export, under its own checkpoint; signatures are `verify`'s affair."""
    if not (path / CHECKPOINT).is_file():
        raise NoLedgerError("this folder holds no checkpoint", remedy="Name the folder of a static export.")
    data = (path / CHECKPOINT).read_bytes()
    if (path / VKEY).is_file():
        head = checkpoint.verify(data, note.parse_vkey((path / VKEY).read_text().removesuffix("\n")))
    else:
        head, _ = checkpoint.parse(data)

    def fetch(name: str) -> bytes | None:
        file = path / name
        return file.read_bytes() if file.is_file() else None

    return TileReader(fetch).at_checkpoint(head)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise UsageError("a file that was named cannot be read") from None


def _plain(text: str) -> str:
    """No control characters on the reader's terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
