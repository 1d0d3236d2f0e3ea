"""The ledger read up to the end of one round or phase: the folded state, the recount, and the events that concern it.

Folding runs every rule and every accounting step once more, entry by entry; an entry that may not stand ends
the reading. What is written from it lives in `payload`.

    the end of a round      its `model.registered`, or the `gate.verdict` that it failed
    round 0                 the verdict on the plan itself; it has an end only if the plan was refused
    the end of a phase      a `phase.measured`; there may be several, each with evidence of its own
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from ledger.errors import InputError, PolicyViolation, VerificationError
from ledger.event import entry_digest, parse_entry
from ledger.evidence_subject import PhaseSubject, RoundSubject
from policies.events import (
    Body,
    GateVerdict,
    ModelRegistered,
    PlanApproved,
    PlanPublished,
    TrainingReceipt,
    UpdateRefused,
    parse_body,
)
from policies.recount import Recount
from policies.rollout.statements import (
    AgreementRecorded,
    ConformanceRecorded,
    DrillRecorded,
    IncidentReported,
    ModelPromoted,
    ModelRolledBack,
    PhaseAdvanced,
    PhaseMeasured,
    PhaseOpened,
)
from policies.state import FederationState

Kind = TypeVar("Kind", bound=Body)
_OF_THE_ROLLOUT = (
    PhaseOpened,
    PhaseMeasured,
    PhaseAdvanced,
    AgreementRecorded,
    ConformanceRecorded,
    DrillRecorded,
    IncidentReported,
    ModelPromoted,
    ModelRolledBack,
)


class RoundNotOverError(InputError):
    code = "evidence.round-not-over"


class NotMeasuredError(InputError):
    code = "evidence.not-measured"


class RuleBrokenError(VerificationError):
    """An entry that the rules do not let stand where it stands; `index` is its place."""

    code = "evidence.rule-broken"

    def __init__(self, message: str, *, index: int) -> None:
        super().__init__(f"entry {index}: {message}")
        self.index = index


@dataclass(frozen=True, slots=True)
class Told:
    """An event that concerns the round: where it stands, who said it, and what."""

    index: int
    institution: str
    entry_digest: str
    body: Body


@dataclass(slots=True)
class LedgerReading:
    """Everything up to and including the end of what evidence is about."""

    origin: str
    state: FederationState
    recount: Recount = field(default_factory=Recount, kw_only=True)
    told: list[Told] = field(default_factory=list, kw_only=True)

    @property
    def size(self) -> int:
        """Entries read: the last one is the end."""
        return self.state.size

    def take(self, index: int, entry: bytes) -> Told:
        """Judge and count the next entry; RuleBrokenError, RecountError."""
        try:
            self.state.advance(index, entry)
        except PolicyViolation as refused:
            raise RuleBrokenError(refused.public_message, index=index) from None
        self.recount.take(entry)
        event = parse_entry(entry).event
        return Told(index, event.institution, entry_digest(entry), parse_body(event.type, event.body))

    def all_of(self, kind: type[Kind]) -> list[tuple[Told, Kind]]:
        """The events of one kind that concern it, in the ledger's order."""
        return [(told, told.body) for told in self.told if isinstance(told.body, kind)]


@dataclass(slots=True)
class Reading(LedgerReading):
    """Up to the end of round `round_number` of a plan."""

    plan_digest: str
    round_number: int

    @property
    def subject(self) -> RoundSubject:
        return RoundSubject(self.plan_digest, self.round_number)

    @property
    def published(self) -> PlanPublished:
        """The plan, which stands before its round's end."""
        return self.state.plans[self.plan_digest]


@dataclass(slots=True)
class PhaseReading(LedgerReading):
    """Up to the measurement of a phase; `told` is all that was ever said of the rollout."""

    @property
    def measured(self) -> Told:
        return self.told[-1]

    @property
    def subject(self) -> PhaseSubject:
        return PhaseSubject(self.state.phase, self.measured.entry_digest)


def read_round(
    entries: Iterable[bytes],
    *,
    origin: str,
    plan_digest: str,
    round_number: int,
    founding_digest: str | None = None,
) -> Reading:
    """Read until the round ends; RoundNotOverError if it does not, RuleBrokenError, RecountError.

    `founding_digest` pins the founding document, for whoever has it.
    """
    state = FederationState(origin, founding_digest=founding_digest)
    reading = Reading(origin, state, plan_digest, round_number)
    for index, entry in enumerate(entries):
        told = reading.take(index, entry)
        if _concerns(told.body, plan_digest, round_number):
            reading.told.append(told)
            if _ends(told.body, round_number):
                return reading
    raise RoundNotOverError(
        f"round {round_number} of this plan has no end on the ledger",
        remedy="A round ends with its model's registration or a verdict that refuses it.",
    )


def read_phase(
    entries: Iterable[bytes], *, origin: str, measured: str, founding_digest: str | None = None
) -> PhaseReading:
    """Read up to the measurement of that entry digest; NotMeasuredError if there is none, and as `read_round`."""
    reading = PhaseReading(origin, FederationState(origin, founding_digest=founding_digest))
    for index, entry in enumerate(entries):
        told = reading.take(index, entry)
        if isinstance(told.body, _OF_THE_ROLLOUT):
            reading.told.append(told)
            if told.entry_digest == measured and isinstance(told.body, PhaseMeasured):
                return reading
    raise NotMeasuredError(
        "no phase was measured by that entry of this ledger",
        remedy="Measure one with `wardround phase measure`.",
    )


def _concerns(body: Body, plan_digest: str, round_number: int) -> bool:
    if isinstance(body, TrainingReceipt):
        about = body.statement.predicate
        return (about.plan_digest, about.round) == (plan_digest, round_number)
    if getattr(body, "plan_digest", None) != plan_digest:
        return False
    if isinstance(body, PlanPublished | PlanApproved):
        return True
    # What was said of the whole plan (round 0) concerns every round of it.
    return getattr(body, "round", None) in (0, round_number)


def _ends(body: Body, round_number: int) -> bool:
    if isinstance(body, GateVerdict):
        return body.round == round_number and not body.passed
    return isinstance(body, ModelRegistered)


def refusals(reading: Reading) -> list[tuple[Told, UpdateRefused]]:
    """Contributions to the round that do not count."""
    return reading.all_of(UpdateRefused)
