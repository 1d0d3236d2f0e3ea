"""The predetermined change plan: what may be changed about a champion without another clinical phase, and what not.

Written as YAML by the coordinator before the clinical phase (`deployments/examples/rollout/change-plan.yaml`), named
by the digest of its canonical bytes in the terms and in the promotion, and enclosed in the evidence that officers
sign. It follows the idea of the FDA's guidance on predetermined change control plans (December 2024). It is a record:
what it permits is for people to follow; without a promotion no champion follows another anyway
(`policies.rollout.promotion`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from policies.document import Document, Name

Edition = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,63}$")]
Change = Literal[
    "retraining-on-new-patients",
    "calibration-at-site",
    "threshold-at-site",
    "site-joins",
    "site-leaves",
    "new-data-contract",
    "new-network",
    "new-training-terms",
    "new-intended-use",
    "new-population",
]
Safeguard = Literal[
    "plan-gates",
    "same-data-contract",
    "same-network",
    "non-inferiority",
    "subgroup-floor",
    "drift-monitor",
    "steward-approval",
    "rollback-ready",
]


class PermittedChange(Document):
    """May be made as long as all of these hold."""

    change: Change
    within: Annotated[tuple[Safeguard, ...], Field(min_length=1, max_length=8)]


class ChangePlan(Document):
    """No free text: what it says is said by these words alone."""

    schema_version: Literal[1]
    name: Name
    edition: Edition
    study: Name
    permitted: Annotated[tuple[PermittedChange, ...], Field(max_length=10)]
    clinical_phase: Annotated[tuple[Change, ...], Field(min_length=1, max_length=10)]
    """Changes that need a clinical phase of their own."""

    @model_validator(mode="after")
    def _settles_each_once(self) -> ChangePlan:
        named = [one.change for one in self.permitted] + list(self.clinical_phase)
        if len(set(named)) != len(named):
            raise ValueError("a change is either permitted or needs a clinical phase, and is named once")
        return self
