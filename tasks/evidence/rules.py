"""The rules that a package encloses: every .rego file that is installed, with the policy digest they belong to.

A policy digest covers the Python kernel beside the rules too (`policies.code`), so rules are enclosed only by an
installation that judges by the very policy in force; any other would enclose something that judged nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import policies.code
from policies.code import running_policy_digest

RULES = Path(policies.code.__file__).resolve().parent / "rules"


@dataclass(frozen=True, slots=True)
class RuleFiles:
    policy_digest: str
    files: Mapping[str, bytes]
    """By name, as they lie in one folder."""


def installed_rule_files() -> RuleFiles:
    """The rules of this installation; none where it has none."""
    found = sorted(RULES.glob("*.rego"))
    return RuleFiles(running_policy_digest(), {path.name: path.read_bytes() for path in found})
