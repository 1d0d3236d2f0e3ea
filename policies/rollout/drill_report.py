"""What a drill came to: a canonical document whose digest `drill.recorded` names, enclosed in the phase's evidence.

Every step that a drill has is in its report, in order, met or not: a drill that broke off has steps that are not met,
and passed only if all are. Words are fixed, all else is a code, a yes or no, or a whole number: a report has no room
for what somebody would like to say of it. How drills are played is `flows.rollout.drills`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from ledger.errors import CodedError
from policies.document import Digest, Document, Name, Origin
from policies.rollout.statements import Drill

Code = Annotated[str, Field(pattern=r"^[a-z][a-z0-9.-]{0,63}$")]
Count = Annotated[int, Field(ge=0, le=1_000_000_000)]
MAXIMUM_BYTES: Final = 16_384

STEPS: Final[Mapping[Drill, tuple[str, ...]]] = {
    "poisoning": (
        "attack-harms-the-plain-mean",
        "hostile-cluster-named",
        "nobody-else-named",
        "model-survives",
    ),
    "quarantine": (
        "hostile-cluster-named",
        "quarantined-with-the-evidence",
        "next-step-counts-without-them",
        "next-plan-waits-for-a-quorum",
    ),
    "key-rotation": (
        "round-counts-under-the-new-keys",
        "new-keys-in-force",
        "next-round-counts",
        "old-key-of-the-site-refused",
        "old-key-of-the-coordinator-refused",
    ),
    "consent-withdrawal": (
        "withdrawn-while-round-1-trains",
        "both-rounds-count",
        "round-2-trains-on-one-fewer",
        "all-sites-speak-alike",
        "all-roots-change-alike",
    ),
    "restore": (
        "homes-destroyed-and-restored",
        "run-goes-on-with-everybody",
        "nothing-drawn-twice",
        "older-home-releases-nothing-again",
        "older-log-appends-nothing",
    ),
    "rollback": (
        "first-champion-promoted",
        "second-champion-promoted",
        "never-a-champion-refused",
        "back-to-the-first",
        "alias-follows",
        "back-to-none",
    ),
    "drift": (
        "model-in-force",
        "drifted-site-took-itself-out",
        "nobody-else-is-out",
        "evaluation-counts-without-it",
        "night-ends-with-a-model",
    ),
}
"""Of every drill that can be played (`flows.rollout.drills.registry`)."""


class DrillStep(Document):
    name: Name
    met: bool
    code: Code | None = Field(default=None)
    """Of a refusal that the step is about, or of what the drill broke off with."""
    count: Count | None = None


class DrillFigure(Document):
    name: Name
    micro: Annotated[int, Field(ge=-1_000_000_000_000, le=1_000_000_000_000)]


class RehearsedLedger(Document):
    """The rehearsal's own log as it was at the end. It is thrown away; the root says which one it was."""

    origin: Origin
    size: Count
    root: Digest


class DrillReport(Document):
    schema_version: Literal[1]
    drill: Drill
    passed: bool
    sabotaged: bool
    """Its control was switched off on purpose: a rehearsal of the drill itself, which is never recorded."""
    steps: Annotated[tuple[DrillStep, ...], Field(min_length=1, max_length=16)]
    figures: Annotated[tuple[DrillFigure, ...], Field(max_length=16)] = ()
    ledger: RehearsedLedger | None
    """None of a drill that broke off before there was one."""
    code_digest: Digest
    policy_digest: Digest

    @model_validator(mode="after")
    def _whole(self) -> DrillReport:
        if tuple(step.name for step in self.steps) != STEPS.get(self.drill):
            raise ValueError(f"the steps of {self.drill} are others")
        if self.passed != all(step.met for step in self.steps):
            raise ValueError("a drill passed if every step was met, and else not")
        return self

    @property
    def unmet(self) -> tuple[DrillStep, ...]:
        return tuple(step for step in self.steps if not step.met)


def is_passed(data: bytes, drill: str) -> bool:
    """Whether these bytes are the report of that drill, passed with its control in place."""
    try:
        report = DrillReport.from_canonical(data, what="report")
    except CodedError:
        return False
    return report.drill == drill and report.passed and not report.sabotaged
