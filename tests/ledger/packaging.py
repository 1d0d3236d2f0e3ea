"""Evidence packages of an invented federation, to be bent in one place each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ledger import evidence_manifest
from ledger.evidence_manifest import FileDigest
from ledger.evidence_package import (
    Cut,
    package,
)
from ledger.evidence_subject import RoundSubject
from ledger.evidence_verify import verify_package
from ledger.evidence_zip import pack
from ledger.export import static_files
from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.memory import MemoryStorage
from ledger.report import VerificationFailedError

PLAN = "ab" * 32
DERIVED = {"accounting.json": b'{"pools":[]}', "receipts/1.json": b"{}", "empty": b""}


def ended(federation, *, entries: int = 270, round_number: int = 1) -> Cut:
    """A log whose last entry refuses a model."""
    federation.grow(entries)
    body = {"plan_digest": PLAN, "round": round_number, "passed": False, "violations": ["a.b"]}
    federation.log.append([federation.coordinator.event("gate.verdict", body)])
    return Cut(subject=RoundSubject(PLAN, round_number), size=federation.log.size)


def packaged(federation, cut: Cut, **changed) -> bytes:
    return package(
        federation.log,
        cut,
        **{
            "derived": DERIVED,
            "final_checkpoint": federation.cosign(),
            "policy": federation.policy,
            "extras": {"sbom.json": b"{}"},
            **changed,
        },
    )


def written(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "package.zip"
    path.write_bytes(pack(files))
    return path


def with_manifest(files: dict[str, bytes], **changed) -> dict[str, bytes]:
    """The same files under a manifest that fits them, as whoever tampers would write it."""
    manifest = evidence_manifest.parse(files["payload/manifest.json"])
    listed = {
        name.removeprefix("payload/"): FileDigest.of(data)
        for name, data in files.items()
        if name.startswith("payload/") and name != "payload/manifest.json"
    }
    fitting = replace(manifest, **{"files": listed, **changed})
    return {**files, "payload/manifest.json": fitting.encode()}


def with_entries(files: dict[str, bytes], entries: list[bytes]) -> dict[str, bytes]:
    """Another ledger in the same package, its tiles, root and manifest recomputed."""
    signer = MemorySigner("log", seed=b"not the log's")
    log = Log.create(MemoryStorage(), origin="any", signer=signer)
    log.append(entries)
    kept = {name: data for name, data in files.items() if not name.startswith("payload/ledger/")}
    kept |= {f"payload/ledger/{name}": data for name, data in static_files(log, 0, log.size)}
    return with_manifest(kept, size=log.size, root=log.root)


def entries_of(path: Path) -> list[bytes]:
    with verify_package(path) as found:
        return list(found.entries())


def failure(path: Path, **trust) -> str:
    """The check that fails."""
    with pytest.raises(VerificationFailedError) as caught:
        verify_package(path, **trust).close()
    assert not caught.value.report.ok and caught.value.kind == "policy"
    return caught.value.code.removeprefix("ledger.verify.")
