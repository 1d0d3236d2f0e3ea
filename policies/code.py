"""The code digest, by which plans approve the code that runs, and the policy digest, by which a federation adopts
the rules that judge: SHA-256 over this project's packages and its constraints file, or over `policies/` alone.

Both cover the sorted relative paths and contents of every `.py` and `.rego` file, tests of rules left out: they judge
nothing. Each path and each content is
preceded by its length (u64, big endian), so that no two trees share a digest.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

PACKAGES = ("adapters", "deployments", "flows", "ledger", "policies", "privacy", "tasks", "wardround")
CONSTRAINTS = "deployments/constraints.txt"
_ROOT = Path(__file__).resolve().parent.parent


def covered_files(root: Path) -> list[Path]:
    """Every file that the code digest covers, sorted by its path relative to `root`."""
    return _sources(root, PACKAGES, CONSTRAINTS)


def digest_of(root: Path) -> str:
    """The code digest of the project at `root`."""
    return _digest(root, covered_files(root))


def policy_digest_of(root: Path) -> str:
    """The policy digest of the project at `root`."""
    return _digest(root, _sources(root, ("policies",)))


@cache
def running_code_digest() -> str:
    """The digest of the code that this process runs from."""
    return digest_of(_ROOT)


@cache
def running_policy_digest() -> str:
    """The digest of the policy that this process judges by."""
    return policy_digest_of(_ROOT)


def _sources(root: Path, packages: tuple[str, ...], *more: str) -> list[Path]:
    found = [
        path
        for package in packages
        for suffix in ("*.py", "*.rego")
        for path in (root / package).rglob(suffix)
        if "__pycache__" not in path.parts and not path.name.endswith("_test.rego")
    ]
    found += [root / name for name in more]
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _digest(root: Path, files: list[Path]) -> str:
    state = hashlib.sha256()
    for path in files:
        for part in (path.relative_to(root).as_posix().encode(), path.read_bytes()):
            state.update(len(part).to_bytes(8, "big"))
            state.update(part)
    return state.hexdigest()
