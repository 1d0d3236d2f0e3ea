"""Reading the file of a plan or an inquiry and making a draft publishable: edition and approved code. Signing comes
with publishing."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from ledger.errors import InputError
from policies.code import running_code_digest
from policies.inquiry import AnyPlan, Inquiry
from policies.plan import Plan

BY_DATE = "date"
PlanT = TypeVar("PlanT", Plan, Inquiry)


class PlanFileError(InputError):
    code = "plan.unreadable"


def read_plan(path: Path, *, edition: str | None = None) -> Plan:
    """Read and validate; every wrong field is named at once. `edition` replaces the file's, "date" by today's."""
    return _of_edition(Plan.from_yaml(_text(path), what="plan"), edition)


def read_inquiry(path: Path, *, edition: str | None = None) -> Inquiry:
    """As `read_plan`, of an inquiry."""
    return _of_edition(Inquiry.from_yaml(_text(path), what="inquiry"), edition)


def read_either(path: Path) -> AnyPlan:
    """A plan or an inquiry, whichever the file holds."""
    return parse_either(_text(path))


def parse_either(text: str) -> AnyPlan:
    """As `read_either`, of the file's text. What asks `queries` is an inquiry, even a malformed one."""
    if re.search(r"^queries:", text, re.MULTILINE):
        return Inquiry.from_yaml(text, what="inquiry")
    return Plan.from_yaml(text, what="plan")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        raise PlanFileError(
            f"cannot read the file {path}", remedy="Write one with `wardround plan new`."
        ) from None


def _of_edition(plan: PlanT, edition: str | None) -> PlanT:
    if edition is None:
        return plan
    today = datetime.now(UTC).date().isoformat()
    return plan.with_fields({"edition": today if edition == BY_DATE else edition})


def approved(plan: PlanT) -> PlanT:
    """The plan with the code that runs here among those it approves."""
    digest = running_code_digest()
    if digest in plan.code_digests:
        return plan
    return plan.with_fields({"code_digests": [*plan.code_digests, digest]})
