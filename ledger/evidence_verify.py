"""Offline verification of an evidence package, with the ledger alone: every byte of the payload is accounted for.

     1 package       the file is spelt as packages are, and holds the files of one
     2 manifest      every payload file is listed, with its digest; the ledger's files are exactly those of N entries
     3 keys          the log key and the policy: from the caller, or (trust on first use) the package
     4 checkpoint    it parses, is of this log and covers the N entries
     5 signature     the log key signed it
     6 quorum        a quorum of witnesses cosigned it
     7 entries       every bundle holds exactly its entries, and they hash to their level-0 tile
     8 tiles         every tile equals what the entries hash to
     9 root          the entries lead to the manifest's root
    10 events        every entry is an event, signed by its institution, in sequence
    11 consistency   the checkpoint's tree begins with exactly these entries: none left out, changed or added
    12 founding      the founding event names the very log key and witnesses that were trusted above
    13 end           the last entry is the end of the round, or the phase, that the manifest names

What derives from the entries (accounting, cards, verdicts) is checked to be what the manifest lists, not to be true:
that takes the rules, and `wardround evidence verify`. Checks 3 to 10 and 12 are `ledger.verify`'s own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from ledger import evidence_manifest, reader, tiles, tree
from ledger.checkpoint import Checkpoint
from ledger.event import parse_entry
from ledger.evidence_manifest import FileDigest, Manifest
from ledger.evidence_package import (
    CONSISTENCY,
    DETACHED,
    DETACHED_PROOFS,
    LEDGER,
    MANIFEST,
    PAYLOAD,
    REPORTS,
    is_extra,
    parse_consistency,
)
from ledger.evidence_zip import PackedFiles
from ledger.export import CHECKPOINT, POLICY, VKEY
from ledger.note import VerifierKey, parse_vkey
from ledger.policy import Policy
from ledger.report import Checklist, Mismatch, Report
from ledger.static_files import OversizedFileError, StaticFiles, byte_limit

# The package's keys are trusted, and its head judged, by the very steps that judge an export's.
from ledger.verify import _founding, _head, _keys, _Texts
from ledger.verify_tree import Progress, walk

_TITLE_END = "the last entry is the end of what the package is about"


@dataclass(frozen=True, slots=True)
class VerifiedPackage:
    """A package whose checks all passed. Close it."""

    files: PackedFiles
    manifest: Manifest
    report: Report

    def payload(self, name: str) -> bytes:
        """A file of the payload, by its path below payload/."""
        return self.files.read(PAYLOAD + name)

    def detached(self, name: str) -> bytes | None:
        """A detached file, None if there is none."""
        path = DETACHED + name
        return self.files.read(path) if path in self.files.names else None

    def reports(self) -> tuple[str, ...]:
        """Digests of the reports that are enclosed; each is the digest of what it names."""
        start = DETACHED + REPORTS
        return tuple(name.removeprefix(start) for name in self.files.names if name.startswith(start))

    def enclosed(self, digest: str) -> bytes:
        return self.files.read(DETACHED + REPORTS + digest)

    def entries(self) -> Iterator[bytes]:
        """The N entries, which were verified."""
        within = _LedgerFiles(self.files)
        for name in tiles.names(self.manifest.size, None):
            yield from reader.read_bundle(within.read, name)

    def close(self) -> None:
        self.files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def verify_package(
    path: Path,
    *,
    log_vkey: VerifierKey | str | None = None,
    policy: Policy | None = None,
    progress: Progress | None = None,
    run: Checklist | None = None,
) -> VerifiedPackage:
    """Return the package if every check passed, else raise VerificationFailedError that carries the report.

    The checks go into `run`, to which a caller may add more of its own.
    """
    run = run or Checklist()
    with run.check("package", "the file is an evidence package") as details:
        files = PackedFiles(path)
        details.append(f"{len(files.names)} files")
    try:
        return _verified(run, files, log_vkey, policy, progress)
    except BaseException:
        files.close()
        raise


def _verified(
    run: Checklist,
    files: PackedFiles,
    log_vkey: VerifierKey | str | None,
    policy: Policy | None,
    progress: Progress | None,
) -> VerifiedPackage:
    # 2. What is there, and nothing else.
    with run.check("manifest", "every file of the payload is what the manifest lists") as details:
        manifest = evidence_manifest.parse(_required(files, PAYLOAD + MANIFEST))
        _account_for(files, manifest)
        details.append(f"{len(manifest.files)} files; {manifest.subject}")
    # 3.-6. Whom to trust, and what they signed.
    given = parse_vkey(log_vkey) if isinstance(log_vkey, str) else log_vkey
    note = files.read(DETACHED + CHECKPOINT)
    texts = _Texts(note, files.read(DETACHED + VKEY), files.read(DETACHED + POLICY))
    key, trusted = _keys(run, texts, given, policy)
    head = _head(run, note, key, trusted, own=policy is None)
    # 7.-10. The entries, under the root that the manifest claims.
    claimed = Checkpoint(manifest.origin, manifest.size, manifest.root)
    founding = walk(run, _LedgerFiles(files), claimed, progress=progress, events="require")
    # 11. That root is the beginning of what the witnesses cosigned.
    with run.check("consistency", "the checkpoint's tree begins with these entries") as details:
        old_size, proof = parse_consistency(files.read(DETACHED + CONSISTENCY))
        if head.origin != manifest.origin:
            raise Mismatch("the checkpoint is of another log than the payload")
        if old_size != manifest.size:
            raise Mismatch("the proof begins at another size than the payload ends")
        tree.verify_consistency(manifest.size, manifest.root, head.size, head.root, proof)
        details.append(f"{manifest.size} entries, all of them in {head.size}")
    # 12. The members, who signed the founding, named these keys.
    _founding(run, founding, key, trusted, note)
    # 13. The package is of the round, or the phase, that it says.
    with run.check("end", _TITLE_END) as details:
        details.append(_end(manifest, files))
    proofs = {DETACHED + name for name in DETACHED_PROOFS}
    beside = [
        name.removeprefix(DETACHED)
        for name in files.names
        if name.startswith(DETACHED) and not name.startswith(DETACHED + REPORTS) and name not in proofs
    ]
    if beside:
        run.report.notices.append(f"{', '.join(beside)}: told beside the evidence; nobody signed them")
    return VerifiedPackage(files, manifest, run.report)


def _account_for(files: PackedFiles, manifest: Manifest) -> None:
    """Every name is one that belongs here, and every payload file is the listed one, byte for byte."""
    listed = {PAYLOAD + name for name in manifest.files} | {PAYLOAD + MANIFEST}
    wanted = listed | {DETACHED + name for name in DETACHED_PROOFS}
    there = set(files.names)
    problems = [
        f"{name} is in the package and not listed"
        for name in sorted(there - wanted)
        if not name.startswith(DETACHED)
        or not is_extra(name.removeprefix(DETACHED), files.read(name), manifest.subject)
    ]
    problems += [f"{name} is missing" for name in sorted(wanted - there)]
    if manifest.size == 0:
        problems.append("it holds no entries of a ledger")
    held = {name for name in manifest.files if name.startswith(LEDGER)}
    needed = (
        {LEDGER + path for path in _tree_files(manifest.size)} if manifest.size <= len(held) << 8 else set()
    )
    problems += [f"{PAYLOAD}{name} belongs to no ledger of this size" for name in sorted(held - needed)]
    problems += [f"{PAYLOAD}{name} is not listed" for name in sorted(needed - held)]
    for name, expected in sorted(manifest.files.items()):
        if PAYLOAD + name in there and FileDigest.of(files.read(PAYLOAD + name)) != expected:
            problems.append(f"{PAYLOAD}{name} is not the file that the manifest lists")
    if problems:
        more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise Mismatch("; ".join(problems[:8]) + more)


def _tree_files(size: int) -> Iterable[str]:
    for level in (None, *range(tiles.levels(size))):
        for name in tiles.names(size, level):
            yield name.path


def _end(manifest: Manifest, files: PackedFiles) -> str:
    index = manifest.size - 1
    last = next(tiles.names(manifest.size, None, start=index))
    entry = reader.read_bundle(_LedgerFiles(files).read, last)[-1]
    manifest.subject.require_end(entry, index)
    return f"{parse_entry(entry).event.type}, entry {index}"


def _required(files: PackedFiles, name: str) -> bytes:
    if name not in files.names:
        raise Mismatch(f"{name} is missing")
    return files.read(name)


class _LedgerFiles(StaticFiles):
    """The ledger's files within a package."""

    def __init__(self, files: PackedFiles) -> None:
        self._files, self._names = files, frozenset(files.names)

    def read(self, path: str) -> bytes | None:
        name = PAYLOAD + LEDGER + path
        if name not in self._names:
            return None
        data = self._files.read(name)
        if len(data) > byte_limit(path):
            raise OversizedFileError(path)
        return data

    def names(self, under: str) -> Iterator[str]:
        start = PAYLOAD + LEDGER
        return (name.removeprefix(start) for name in self._files.names if name.startswith(f"{start}{under}/"))

    def expect(self, paths: Iterable[str]) -> None:
        """What is packed needs no telling."""

    def close(self) -> None:
        """The package is its opener's to close."""
