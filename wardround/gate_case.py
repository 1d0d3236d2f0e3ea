"""One plan file before the gate: what was found of it, and on which line of the file each finding belongs.

A file that cannot be read as a plan is a case as well: its one finding is the error. Nothing is judged here
(`policies.build_gate`) and nothing printed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from ledger.errors import InputError, Violation
from policies.forecast import PLAN

if TYPE_CHECKING:
    from policies.build_gate import Judgement

_FIELDS: Final = {
    "plan.no-code": "code_digests",
    "plan.code": "code_digests",
    "plan.too-few-members": "participation.minimum_sites",
    "plan.too-many-members": "update.maximum_sites",
    "plan.unknown-site": "participation.required",
    "plan.published-twice": "edition",
    "budget.plan-cap": "budget.epsilon_cap",
    "budget.pool-cap": "rounds",
    "phase.risk-tier": "risk_tier",
    "phase.patient-data": "data",
    "plan.scheme": "protection.scheme",
    "plan.robust-sites": "robust.hostile",
    "consent.version": "consent.policy_version",
    "consent.not-in-force": "consent.policy_version",
    "consent.purpose": "consent.purpose",
}
"""Code → the field that somebody would change."""
_WRONG_FIELD: Final = re.compile(r"(?:^plan: |; )([a-z0-9_]+(?:\.[a-z0-9_]+)*): ", re.ASCII)
_SYNTAX_LINE: Final = re.compile(r"not valid YAML at line (\d+)")


@dataclass(frozen=True, slots=True)
class Case:
    """Exactly one of `judgement` and `error` is there."""

    path: Path
    judgement: Judgement | None
    error: InputError | None
    text: str

    @property
    def admitted(self) -> bool:
        return self.judgement is not None and self.judgement.admitted

    @property
    def findings(self) -> tuple[tuple[str, Violation], ...]:
        """(whom it concerns, what), the plan itself first."""
        if self.error is not None:
            message = f"{self.error.public_message}. {self.error.remedy}" if self.error.remedy else None
            return ((PLAN, Violation(self.error.code, message or self.error.public_message)),)
        if self.judgement is None:
            return ()
        return tuple((site, item) for site, listed in self.judgement.found.items() for item in listed)

    def line(self, violation: Violation) -> int:
        """The line, from 1, of the field that the finding is about; 1 if it is about none."""
        if self.error is None:
            return _line_of(self.text, _FIELDS.get(violation.code, ""))
        syntax = _SYNTAX_LINE.search(violation.message)
        if syntax is not None:
            return int(syntax[1])
        named = _WRONG_FIELD.search(violation.message)
        return _line_of(self.text, "" if named is None else named[1])


def _line_of(text: str, field: str) -> int:
    """The line of a dotted field, or of the nearest part of its path that the file has."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return 1
    line = 1
    for part in filter(None, field.split(".")):
        if not isinstance(node, yaml.MappingNode):
            break
        pair = next((pair for pair in node.value if pair[0].value == part), None)
        if pair is None:
            break
        line, node = pair[0].start_mark.line + 1, pair[1]
    return line
