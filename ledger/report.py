"""What a verification did: numbered checks, each passed, failed or skipped, and where it failed.

A report of a verification that failed travels inside the error that says so; nobody can mistake it for a
good one. What the checks are lives in `ledger.verify` and `ledger.verify_database`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from ledger.canonical import JsonValue
from ledger.errors import CodedError, VerificationError
from ledger.static_files import UnreadableError

Outcome = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Check:
    number: int
    name: str  # stable, dotted into the error code: ledger.verify.<name>
    title: str
    outcome: Outcome
    detail: str = ""
    index: int | None = None


@dataclass(slots=True)
class Report:
    origin: str = ""
    size: int = 0
    root: bytes = b""
    cosigners: tuple[str, ...] = ()
    trusted_on_first_use: bool = False
    checks: list[Check] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return all(check.outcome != "failed" for check in self.checks)

    def to_json(self) -> dict[str, JsonValue]:
        return {
            "ok": self.ok,
            "origin": self.origin,
            "size": self.size,
            "root": self.root.hex(),
            "cosigners": list(self.cosigners),
            "trusted_on_first_use": self.trusted_on_first_use,
            "checks": [
                {
                    "number": check.number,
                    "name": check.name,
                    "title": check.title,
                    "outcome": check.outcome,
                    "detail": check.detail,
                    "index": check.index,
                }
                for check in self.checks
            ],
            "notices": list(self.notices),
        }

    def lines(self) -> list[str]:
        """The report for people, one line a check."""
        mark = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}
        out = [
            f"{check.number:>2}. {mark[check.outcome]:<8}{check.title}"
            + (f": {check.detail}" if check.detail else "")
            for check in self.checks
        ]
        return [*out, *(f"    note: {notice}" for notice in self.notices)]


class VerificationFailedError(VerificationError):
    """Check `number` failed, at entry or tile `index` if it has one; `report` holds those before it."""

    code = "ledger.verify.failed"

    def __init__(self, check: Check, report: Report, cause_code: str) -> None:
        where = "" if check.index is None else f" at index {check.index}"
        super().__init__(
            f"check {check.number} ({check.title}) failed{where}: {check.detail}",
            code=f"ledger.verify.{check.name}",
        )
        self.number, self.index, self.report, self.cause_code = check.number, check.index, report, cause_code


class Mismatch(VerificationError):  # noqa: N818 - what a check found, not a way of failing
    """Raised inside a check: what does not fit, and at which index."""

    code = "ledger.verify.mismatch"

    def __init__(self, message: str, *, index: int | None = None) -> None:
        super().__init__(message)
        self.index = index


class Checklist:
    """Runs numbered checks into a report; the first that fails ends it."""

    def __init__(self) -> None:
        self.report = Report()

    @contextmanager
    def check(self, name: str, title: str) -> Iterator[list[str]]:
        """The body of one check; what it appends to the list becomes the detail."""
        number, details = len(self.report.checks) + 1, list[str]()
        try:
            yield details
        except UnreadableError:
            raise  # nothing was found out: neither passed nor failed
        except CodedError as error:
            index = getattr(error, "index", None)
            failed = Check(number, name, title, "failed", error.public_message, index)
            self.report.checks.append(failed)
            raise VerificationFailedError(failed, self.report, error.code) from error
        self.report.checks.append(Check(number, name, title, "passed", "; ".join(details)))

    def skip(self, name: str, title: str, why: str) -> None:
        self.report.checks.append(Check(len(self.report.checks) + 1, name, title, "skipped", why))
