"""Reading the file of a plan or an inquiry and making a draft publishable: edition and approved code. Signing comes
with publishing."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from adapters.bundle import Bundle, check_contract, read_bundle
from ledger.canonical import JsonValue
from ledger.errors import InputError
from policies.code import running_code_digest
from policies.document import mapping_of
from policies.inquiry import AnyPlan, Inquiry
from policies.plan import Plan
from policies.training import Network

BY_DATE = "date"
PlanT = TypeVar("PlanT", Plan, Inquiry)


class PlanFileError(InputError):
    code = "plan.unreadable"


def read_plan(path: Path, *, edition: str | None = None) -> Plan:
    """Read and validate; every wrong field is named at once. `edition` replaces the file's, "date" by today's in UTC;
    the date of a night is `tasks.nightly.tonight`'s."""
    return _of_edition(_plan(_text(path), path.parent), edition)


def read_inquiry(path: Path, *, edition: str | None = None) -> Inquiry:
    """As `read_plan`, of an inquiry."""
    return _of_edition(Inquiry.from_yaml(_text(path), what="inquiry"), edition)


def read_either(path: Path) -> AnyPlan:
    """A plan or an inquiry, whichever the file holds."""
    return parse_either(_text(path), folder=path.parent)


def parse_either(text: str, *, folder: Path = Path()) -> AnyPlan:
    """As `read_either`, of a file's text; `folder` is the file's. What asks `queries` is an inquiry."""
    if re.search(r"^queries:", text, re.MULTILINE):
        return Inquiry.from_yaml(text, what="inquiry")
    return _plan(text, folder)


def _plan(text: str, folder: Path) -> Plan:
    """A plan whose network may be `bundle: PATH`, relative to the plan's folder."""
    value = mapping_of(text, what="plan")
    network = value.get("network")
    path = network.get("bundle") if isinstance(network, dict) else None
    if not isinstance(network, dict) or not isinstance(path, str):
        return Plan.from_value(value, what="plan")
    if re.fullmatch("[0-9a-f]{64}", path) and "name" in network:  # a plan that was resolved already
        return Plan.from_value(value, what="plan")
    beside = sorted(set(network) - {"bundle", "norm_groups", "standardised"})
    if beside:
        raise PlanFileError(
            f"the plan names a bundle, and beside it {', '.join(beside)}",
            remedy="Name and arguments come from the bundle: leave these out.",
            code="plan.malformed",
        )
    bundle = read_bundle(folder / path)
    value["network"] = {**network, **_named(bundle)}
    plan = Plan.from_value(value, what="plan")
    check_contract(bundle, plan.data)
    return plan


def bundle_network(folder: Path) -> Network:
    """The network of a bundle as plans name it, with the bundle's digest. BundleError, BundleCodeError."""
    return Network.from_value(_named(read_bundle(folder)), what="bundle")


def _named(bundle: Bundle) -> dict[str, JsonValue]:
    return {**bundle.arguments, "name": bundle.name, "bundle": bundle.digest}


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
