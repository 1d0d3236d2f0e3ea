"""The evidence package: all that an auditor needs of one round or phase, in one file, checked without us.

    payload/manifest.json       every other file below payload/ by its digest (`ledger.evidence_manifest`)
    payload/ledger/tile/...     the ledger's entries [0, N) as tiles and entry bundles (`ledger.tiles`)
    payload/...                 whatever was derived from those entries; the same bytes wherever it is derived
    detached/log.vkey           the log key
    detached/policy             whose cosignatures make a checkpoint final (tlog-policy)
    detached/checkpoint         a final checkpoint, cosigned, of a size M >= N
    detached/consistency        that its tree begins with the N entries: "old <N>" and the proof's hashes in base64,
                                one a line, as a tlog-witness request begins
    detached/...                what no ledger can reproduce: DETACHED_EXTRAS, which nobody signs
    detached/reports/<sha256>   of a phase alone: a report that its ledger names by this digest

Why all entries and not only the round's: an entry that is left out can only be missed by whoever has all of them.
The file itself is a zip of one spelling (`ledger.evidence_zip`); verification is `ledger.evidence_verify`. What the
derived files say lives outside the ledger.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ledger import canonical, checkpoint, evidence_zip
from ledger.errors import InputError, VerificationError
from ledger.evidence_manifest import FileDigest, Manifest
from ledger.evidence_subject import PhaseSubject, Subject
from ledger.export import CHECKPOINT, POLICY, VKEY, static_files
from ledger.log import Log
from ledger.policy import Policy
from ledger.witness_request import encode_request, parse_request

PAYLOAD = "payload/"
DETACHED = "detached/"
LEDGER = "ledger/"
MANIFEST = "manifest.json"
CONSISTENCY = "consistency"
DETACHED_PROOFS = (CHECKPOINT, CONSISTENCY, VKEY, POLICY)
DETACHED_EXTRAS = ("mlflow.json", "pld.json", "sbom.json")
"""Told beside the evidence and part of none: lineage, the tighter privacy figure, the environment."""
REPORTS = "reports/"
_REPORT = re.compile(r"reports/([0-9a-f]{64})", re.ASCII)


class PackageContentsError(InputError):
    code = "ledger.package.contents"


class NotFinalYetError(InputError):
    code = "ledger.package.not-final"


class PackageForkError(VerificationError):
    code = "ledger.package.fork"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Where the ledger is cut, and what the package is about."""

    subject: Subject
    size: int
    """Entries that the package holds: the last is the end of the subject."""


def package(
    log: Log,
    cut: Cut,
    *,
    derived: Mapping[str, bytes],
    final_checkpoint: bytes,
    policy: Policy,
    extras: Mapping[str, bytes],
) -> bytes:
    """The package's bytes. `derived` are files by their paths below payload/, `extras` by DETACHED_EXTRAS or, of a
    phase, REPORTS and their digest.

    NotFinalYetError if the checkpoint does not cover the cut, PackageForkError if it is of another history; its
    signatures are the caller's affair.
    """
    # 1. Nothing takes the place of another file.
    if MANIFEST in derived or any(name.startswith(LEDGER) for name in derived):
        raise PackageContentsError("a derived file would take the place of the ledger or the manifest")
    if any(not is_extra(name, data, cut.subject) for name, data in extras.items()):
        raise PackageContentsError("an evidence package has no such detached file")
    # 2. The checkpoint covers the cut.
    head, _ = checkpoint.parse(final_checkpoint)
    if not 0 < cut.size <= head.size <= log.size:
        raise NotFinalYetError(
            f"the final checkpoint of size {head.size} does not cover entry {cut.size - 1}",
            remedy="Wait for the witnesses, then build the package.",
        )
    if log.root_at(head.size) != head.root:
        raise PackageForkError("the checkpoint is of another history than this log")
    # 3. The payload, then what proves it.
    payload = {**derived}
    for path, data in static_files(log, 0, cut.size):
        payload[LEDGER + path] = data
    payload[MANIFEST] = manifest_of(log.origin, cut, log.root_at(cut.size), payload).encode()
    proof = log.consistency_proof(cut.size, head.size)
    detached = {
        **extras,
        CHECKPOINT: final_checkpoint,
        CONSISTENCY: encode_request(cut.size, proof, b"").removesuffix(b"\n"),
        VKEY: f"{log.vkey}\n".encode(),
        POLICY: policy.serialise(),
    }
    return evidence_zip.pack(
        {
            **{PAYLOAD + name: data for name, data in payload.items()},
            **{DETACHED + name: data for name, data in detached.items()},
        }
    )


def manifest_of(origin: str, cut: Cut, root: bytes, payload: Mapping[str, bytes]) -> Manifest:
    """The manifest of these files, named by their paths below payload/."""
    return Manifest(
        origin=origin,
        subject=cut.subject,
        size=cut.size,
        root=root,
        files={name: FileDigest.of(data) for name, data in payload.items()},
    )


def is_extra(name: str, data: bytes, subject: Subject) -> bool:
    """Whether a detached file belongs beside such evidence; a report is the one that its name says."""
    if name in DETACHED_EXTRAS:
        return True
    report = _REPORT.fullmatch(name)
    return report is not None and isinstance(subject, PhaseSubject) and canonical.digest(data) == report[1]


def parse_consistency(data: bytes) -> tuple[int, tuple[bytes, ...]]:
    """(N, the proof's hashes) of detached/consistency; nothing is verified."""
    old_size, proof, rest = parse_request(data + b"\n")
    if rest:
        raise PackageContentsError("bytes follow the consistency proof")
    return old_size, proof


def is_package(path: Path) -> bool:
    """Whether a file means to be an evidence package, sound or not: a zip that holds parts of one."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            if file.read(2) != b"PK":
                return False
        with zipfile.ZipFile(path) as listed:
            names = listed.namelist()
    except (OSError, zipfile.BadZipFile, ValueError, RuntimeError, NotImplementedError):
        return False
    return any(name == PAYLOAD + MANIFEST or name.startswith((PAYLOAD + LEDGER, DETACHED)) for name in names)
