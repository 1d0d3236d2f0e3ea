"""The manifest of an evidence package: what it is about, where its ledger was cut, and every file of its payload.

    payload/manifest.json, canonical JSON (RFC 8785):

    {"files":{"<path below payload/>":{"sha256":"<64 hex>","size":<bytes>},...},
     "origin":"<log origin>","root":"<64 hex>","schema_version":1,"size":123, and the fields of its subject
     (`ledger.evidence_subject`)}

`size` and `root` are the tree of the entries that the package holds; the last of them is the end of the subject.
The digest of these bytes names the evidence: it is the same whoever builds it, as the payload is.
Nobody signs a manifest: it is worth what the ledger in the package makes of it (`ledger.evidence_verify`). What the
files say, and whether it is true, is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ledger import canonical
from ledger.canonical import JsonValue
from ledger.errors import InputError
from ledger.evidence_subject import Subject, parse_subject

SCHEMA_VERSION = 1
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FIELDS = frozenset(("files", "origin", "root", "schema_version", "size"))


class ManifestError(InputError):
    code = "ledger.package.manifest"


@dataclass(frozen=True, slots=True)
class FileDigest:
    sha256: str
    size: int

    @classmethod
    def of(cls, data: bytes) -> FileDigest:
        return cls(canonical.digest(data), len(data))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    origin: str
    subject: Subject
    size: int
    """Entries of the ledger that the package holds, from the first on."""
    root: bytes
    """Root over them, 32 bytes."""
    files: Mapping[str, FileDigest]

    @property
    def digest(self) -> str:
        """Names the evidence: what officers sign and `phase.advanced` carries."""
        return canonical.digest(self.encode())

    def encode(self) -> bytes:
        files: dict[str, JsonValue] = {
            name: {"sha256": file.sha256, "size": file.size} for name, file in self.files.items()
        }
        return canonical.encode(
            {
                "files": files,
                "origin": self.origin,
                "root": self.root.hex(),
                "schema_version": SCHEMA_VERSION,
                "size": self.size,
                **self.subject.fields(),
            }
        )


def parse(data: bytes) -> Manifest:
    """Read a manifest in its only spelling; ManifestError, SubjectError or NotCanonicalError."""
    value = canonical.decode(data)
    if not isinstance(value, dict) or not value.keys() >= _FIELDS:
        raise ManifestError("a manifest has exactly the fields of its format")
    if _integer(value["schema_version"], "schema_version", maximum=2**31) != SCHEMA_VERSION:
        raise ManifestError("the manifest's schema version is unknown", code="ledger.package.version")
    origin, files = value["origin"], value["files"]
    if not isinstance(origin, str) or not origin:
        raise ManifestError("a manifest names the log")
    if not isinstance(files, dict):
        raise ManifestError("a manifest lists files by their names")
    return Manifest(
        origin=origin,
        subject=parse_subject({name: value[name] for name in value.keys() - _FIELDS}),
        size=_integer(value["size"], "size", maximum=2**53 - 1),
        root=bytes.fromhex(_hex(value["root"], "root")),
        files={name: _file(file) for name, file in files.items()},
    )


def _file(value: JsonValue) -> FileDigest:
    if not isinstance(value, dict) or value.keys() != {"sha256", "size"}:
        raise ManifestError("a file in a manifest has a sha256 and a size")
    return FileDigest(
        _hex(value["sha256"], "sha256"), _integer(value["size"], "the size of a file", maximum=2**53 - 1)
    )


def _hex(value: JsonValue, what: str) -> str:
    if not isinstance(value, str) or not _HEX.fullmatch(value):
        raise ManifestError(f"{what} in the manifest is not 64 hex digits")
    return value


def _integer(value: JsonValue, what: str, *, maximum: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= maximum:
        raise ManifestError(f"{what} in the manifest is not a whole number of 0 to {maximum}")
    return value
