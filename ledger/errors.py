"""The one error root, and what every error of this project carries.

It lives in the ledger because the ledger imports nothing of ours; every other package derives from it.
Errors of one concept are defined beside that concept, not here.

    code            stable, dotted, for machines and documentation: "plan.malformed"
    kind            what went wrong, from which the command line derives its exit code
    public_message  free of patient data: may be printed, logged, stored by an orchestrator, sent to others
    remedy          what to do about it, likewise free of patient data
    diagnostics()   details for the institution where it happened, and for nobody else
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["input", "policy", "fault"]


class CodedError(Exception):
    """Root of all errors. `str(error)` is the public text alone, never the diagnostics."""

    code: str = "fault.unknown"
    kind: Kind = "fault"

    def __init__(
        self, public_message: str, *, remedy: str = "", diagnostics: str = "", code: str | None = None
    ) -> None:
        self.public_message = public_message
        self.remedy = remedy
        self._diagnostics = diagnostics
        self.is_kept = False
        """Whether the institution's log has it: one error may end several steps."""
        if code is not None:
            self.code = code
        super().__init__(public_message)

    def __str__(self) -> str:
        text = f"[{self.code}] {self.public_message}"
        if not self.remedy:
            return text
        return f"{text} {self.remedy}" if text.endswith((".", "!", "?")) else f"{text}. {self.remedy}"

    def diagnostics(self) -> str:
        """Details that must not leave the institution."""
        return self._diagnostics


class InputError(CodedError):
    """What the caller gave cannot be used: a path, a file, a document, an option."""

    code = "input.invalid"
    kind = "input"


class VerificationError(CodedError):
    """Something that was received, or found in storage, does not hold: a signature, a proof, a sequence."""

    code = "verification.failed"
    kind = "policy"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: a stable code and a sentence that a data steward understands."""

    code: str
    message: str


class PolicyViolation(CodedError):  # noqa: N818 - "violation" is the term of the field
    """One or more rules refuse. Carries every reason, never only the first, whose code stands for all."""

    code = "policy.violation"
    kind = "policy"

    def __init__(self, violations: Sequence[Violation], *, diagnostics: str = "") -> None:
        if not violations:
            raise ValueError("a policy violation names at least one reason")
        self.violations = tuple(violations)
        message = "; ".join(f"{violation.message} ({violation.code})" for violation in self.violations)
        super().__init__(message, diagnostics=diagnostics, code=self.violations[0].code)
