"""What can be wrong with a home and a plan before Prefect starts, for the coordinator's commands that run one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ledger.errors import PolicyViolation, Violation
from policies.plan import BasePlan

PlanT = TypeVar("PlanT", bound=BasePlan)


def checked(home: Path, path: Path, read: Callable[[Path], PlanT]) -> PlanT:
    """The plan or inquiry in `path`; raises if the home is no coordinator's, its keys cannot be opened, or the plan
    is a draft."""
    from adapters.home import CoordinatorConfig, Home

    institution = Home(home)
    institution.read(CoordinatorConfig)
    _ = institution.federation, institution.passphrase
    wanted = read(path)
    if not wanted.code_digests:
        message = f"{path.name} is a draft: it approves no code. `wardround plan new` stamps the code installed here"
        raise PolicyViolation([Violation("plan.no-code", message)])
    return wanted
