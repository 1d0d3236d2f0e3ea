"""The code digest: which code is running, as plans approve it.

SHA-256 over the sorted relative paths and contents of every `.py` and `.rego` file of this project's packages
and of the constraints file. Each path and each content is preceded by its length (u64, big endian), so that
no two trees share a digest.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

PACKAGES = ("adapters", "deployments", "flows", "ledger", "policies", "privacy", "tasks", "wardround")
CONSTRAINTS = "deployments/constraints.txt"


def covered_files(root: Path) -> list[Path]:
    """Every file that the digest covers, sorted by its path relative to `root`."""
    found = [
        path
        for package in PACKAGES
        for suffix in ("*.py", "*.rego")
        for path in (root / package).rglob(suffix)
        if "__pycache__" not in path.parts
    ]
    found.append(root / CONSTRAINTS)
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def digest_of(root: Path) -> str:
    state = hashlib.sha256()
    for path in covered_files(root):
        for part in (path.relative_to(root).as_posix().encode(), path.read_bytes()):
            state.update(len(part).to_bytes(8, "big"))
            state.update(part)
    return state.hexdigest()


@cache
def running_code_digest() -> str:
    """The digest of the code that this process runs from."""
    return digest_of(Path(__file__).resolve().parent.parent)
