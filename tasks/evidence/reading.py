"""The ledger read up to the end of one round: the folded state, the recount, and the events that concern the round.

Folding runs every rule and every accounting step once more, entry by entry; an entry that may not stand ends
the reading. What is written from it lives in `payload`.

    the end of a round      its `model.registered`, or the `gate.verdict` that it failed
    round 0                 the verdict on the plan itself; it has an end only if the plan was refused
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from ledger.errors import InputError, PolicyViolation, VerificationError
from ledger.event import entry_digest, parse_entry
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
from policies.state import FederationState

Kind = TypeVar("Kind", bound=Body)


class RoundNotOverError(InputError):
    code = "evidence.round-not-over"


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
class Reading:
    """Everything up to and including the end of round `round_number` of a plan."""

    origin: str
    plan_digest: str
    round_number: int
    state: FederationState
    recount: Recount = field(default_factory=Recount)
    told: list[Told] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Entries read: the last one ended the round."""
        return self.state.size

    @property
    def published(self) -> PlanPublished:
        """The plan, which stands before its round's end."""
        return self.state.plans[self.plan_digest]

    def all_of(self, kind: type[Kind]) -> list[tuple[Told, Kind]]:
        """The round's events of one kind, in the ledger's order."""
        return [(told, told.body) for told in self.told if isinstance(told.body, kind)]


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
    reading = Reading(
        origin, plan_digest, round_number, FederationState(origin, founding_digest=founding_digest)
    )
    for index, entry in enumerate(entries):
        try:
            reading.state.advance(index, entry)
        except PolicyViolation as refused:
            raise RuleBrokenError(refused.public_message, index=index) from None
        reading.recount.take(entry)
        event = parse_entry(entry).event
        body = parse_body(event.type, event.body)
        if _concerns(body, plan_digest, round_number):
            reading.told.append(Told(index, event.institution, entry_digest(entry), body))
            if _ends(body, round_number):
                return reading
    raise RoundNotOverError(
        f"round {round_number} of this plan has no end on the ledger",
        remedy="A round ends with its model's registration or a verdict that refuses it.",
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
