"""What the commands of `python -m ledger` do and print. `wardround ledger` shows the same with tables.

Results go to standard output; how to check a proof, and which files were written, to standard error. Options and exit
codes are `ledger.cli`'s.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ledger import note, proof, source
from ledger.archive_writer import require_target, write_archive
from ledger.errors import InputError
from ledger.evidence_package import is_package
from ledger.evidence_verify import verify_package
from ledger.export import Exported, export
from ledger.listing import HEADINGS, RIGHT_ALIGNED, Listing
from ledger.log import Log
from ledger.policy import Policy, parse_policy
from ledger.proof import TlogProof
from ledger.report import Report, VerificationFailedError
from ledger.static_files import Folder, StaticFiles
from ledger.storage import StorageCorruptError, StorageMissingError
from ledger.verify import Events, verify_database, verify_static
from ledger.witness_status import WitnessAlarmError, WitnessStatus, read_status

_WIDTHS = (7, 20, 20, 5, 20, 16, 5)


class UsageError(InputError):
    code = "ledger.cli.usage"


def verify(path: Path, vkey: str | None, policy_path: Path | None, *, events: Events, as_json: bool) -> None:
    policy = read_policy(policy_path)
    source.refuse_url(path)
    if is_package(path):
        _verify_package(path, vkey, policy, as_json=as_json)
        return
    kind = source.kind_of(path)
    if kind == "evidence":
        proven = source.verify_evidence(path, evidence_key(vkey))
        _say(json.dumps({"ok": True, "path": str(path), "proven": proven}) if as_json else proven)
        return
    try:
        if kind == "database":
            source.require_database(path)
            report = verify_database(path, log_vkey=vkey, events="skip" if events == "skip" else "require")
        else:
            with source.static_files(path) as files:
                report = verify_static(files, log_vkey=vkey, policy=policy, events=events)
    except VerificationFailedError as error:
        _print_report(path, error.report, as_json=as_json)
        raise
    _print_report(path, report, as_json=as_json)


def _verify_package(path: Path, vkey: str | None, policy: Policy | None, *, as_json: bool) -> None:
    try:
        with verify_package(path, log_vkey=vkey, policy=policy) as found:
            report = found.report
    except VerificationFailedError as error:
        _print_report(path, error.report, as_json=as_json)
        raise
    _print_report(path, report, as_json=as_json)
    if not as_json:
        _say(
            f"the LEDGER of {found.manifest.subject} is verified; its accounting, verdict, rules and cards are "
            "NOT checked here: `wardround evidence verify` makes them again"
        )


def show(path: Path, listing: Listing, *, as_json: bool) -> None:
    with source.static_files(path) as files:
        tree = source.opened(files).tree
        if not as_json:
            _say(_aligned(HEADINGS))
        for row in listing.rows(tree.entries(0, tree.size)):
            _say(json.dumps(row.to_json()) if as_json else _aligned(row.cells()))


def prove(path: Path, index: int, output: Path | None, entry_path: Path | None) -> None:
    with source.static_files(path) as files:
        made, entry = source.opened(files).prove(index)
    write_proof(made, entry, output, entry_path)
    sys.stderr.write(f"{how_to_check('python -m ledger', output, entry_path)}\n")


def check(path: Path, entry: Path, vkey: str | None, policy_path: Path | None) -> None:
    _say(check_proof(path, entry, vkey, read_policy(policy_path)))


def export_database(
    database: Path,
    directory: Path,
    *,
    checkpoint_path: Path | None,
    policy_path: Path | None,
    archive: Path | None,
) -> None:
    data = None if checkpoint_path is None else source.read_file(checkpoint_path)
    with source.readonly_log(database) as log:
        _say(export_log(log, directory, data, policy=read_policy(policy_path), archive=archive))


def witness_status(path: Path, export_path: Path | None, evidence: Path | None, *, as_json: bool) -> None:
    if export_path is None:
        status = witness_state(path, None)
    else:
        with source.static_files(export_path) as files:
            status = witness_state(path, files)
    for line in [json.dumps(status.to_json())] if as_json else status.lines():
        _say(line)
    if evidence is not None:
        for written in write_evidence([status], evidence):
            sys.stderr.write(f"wrote {written}\n")
    require_calm([status])


# -- what both command lines say -------------------------------------------------------------------------------


def read_policy(path: Path | None) -> Policy | None:
    return None if path is None else parse_policy(source.read_file(path))


def evidence_key(vkey: str | None) -> str:
    if vkey is None:
        raise UsageError("give --vkey: evidence accuses the holder of a key")
    return vkey


def check_proof(path: Path, entry: Path, vkey: str | None, policy: Policy | None) -> str:
    """Return the verdict on a proof in words, or raise."""
    if vkey is None and policy is None:
        raise UsageError("give --vkey or --policy: a proof says nothing without a key to trust")
    parsed = proof.parse(source.read_file(path))
    head = parsed.verify(source.read_file(entry), log_vkey=vkey, policy=policy)
    final = "" if policy is None else f", final by {policy.describe()}"
    return f"verified: entry {parsed.index} of {head.origin} at size {head.size}{final}"


def write_proof(made: TlogProof, entry: bytes, output: Path | None, entry_path: Path | None) -> None:
    """Into new files, both or neither; the proof to standard output if it has no file."""
    targets = ((entry_path, entry), (output, made.encode()))
    source.write_files([(target, data) for target, data in targets if target is not None])
    if output is None:
        sys.stdout.write(made.encode().decode())


def how_to_check(program: str, output: Path | None, entry: Path | None) -> str:
    """What to say beside a proof: it is worth nothing to whoever does not check it."""
    named, entry_named = output or "PROOF", entry or "ENTRY"
    return (
        f"check it with: {program} check {named} {entry_named} --policy FILE   "
        "(the members' policy, from them rather than from here; or --vkey)"
        + ("" if entry is not None else "\nENTRY is the entry itself, which --entry writes")
    )


def export_log(
    log: Log, directory: Path, checkpoint_note: bytes | None, *, policy: Policy | None, archive: Path | None
) -> str:
    """Export, pack if asked to, and say what was written."""
    if archive is not None:
        require_target(archive, log)
    done: Exported = export(log, directory, checkpoint_note, policy=policy)
    said = (
        f"exported {log.origin}: size {done.old_size} -> {done.new_size}, {done.files} files of tiles written"
    )
    if archive is not None:
        with Folder(directory) as files:
            write_archive(files, archive)
        said += f", packed as {archive}"
    return said


def witness_state(path: Path, files: StaticFiles | None) -> WitnessStatus:
    """`read_status`, whose errors then name the file."""
    source.require_sqlite(path)
    try:
        return read_status(path, files)
    except (StorageCorruptError, StorageMissingError) as error:
        raise type(error)(
            f"{path}: {error.public_message}", diagnostics=error.diagnostics(), code=error.code
        ) from None


def write_evidence(statuses: Sequence[WitnessStatus], folder: Path) -> list[Path]:
    """One new file a proof, named by its witness; those that are there already stay."""
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise source.unwritable(folder, error) from None
    for status in statuses:
        key_id = note.parse_vkey(status.vkey).key_id.hex()  # a name may hold what no file's name may
        for number, data in enumerate(status.evidences):
            path = folder / f"evidence-{key_id}-{number}.json"
            if not path.is_file() or source.read_file(path) != data:
                source.write_file(path, data)
            written.append(path)
    return written


def require_calm(statuses: Sequence[WitnessStatus]) -> None:
    """Raise if any witness holds evidence, or stands on another history than the export."""
    alarmed = [status.name for status in statuses if status.alarming]
    if alarmed:
        raise WitnessAlarmError(
            f"{', '.join(alarmed)}: holds proof of two histories, or disagrees with the export",
            remedy="Write it with --evidence and show it to the other members; stop using this log."
            if any(status.evidences for status in statuses)
            else "Ask the other members what their witnesses say; stop using this log until you know.",
        )


def verdict(report: Report, where: str) -> str:
    """The last line of a report. Where the checkpoint was not reached, nothing has an origin or a size."""
    found = f"{report.origin} at size {report.size}" if report.origin else where
    return f"{'verified' if report.ok else 'NOT verified'}: {found}"


def _print_report(path: Path, report: Report, *, as_json: bool) -> None:
    if as_json:
        _say(json.dumps(report.to_json()))
        return
    for line in report.lines():
        _say(line)
    _say(verdict(report, str(path)))


def _aligned(cells: Sequence[str]) -> str:
    out = [
        cell.rjust(width) if heading in RIGHT_ALIGNED else cell.ljust(width)
        for cell, width, heading in zip(cells, _WIDTHS, HEADINGS, strict=True)
    ]
    return "  ".join(out).rstrip()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
