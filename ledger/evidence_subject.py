"""What an evidence package is about, and which event ends it: one round of a plan, or one phase of the rollout.

    {"plan_digest":"<64 hex>","round":1}            ends with its `model.registered`, or the `gate.verdict` it failed
    {"measured":"<64 hex>","phase":"pilot"}         ends with the `phase.measured` of that entry digest

Two spellings of three fields of events are all that is known of rounds and phases here; what they mean is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ledger.canonical import JsonValue
from ledger.errors import InputError
from ledger.event import entry_digest, parse_entry
from ledger.report import Mismatch

MAX_ROUND = 1000
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}", re.ASCII)
ENDS = ("gate.verdict", "model.registered")
MEASURED = "phase.measured"


class SubjectError(InputError):
    code = "ledger.package.subject"


@dataclass(frozen=True, slots=True)
class RoundSubject:
    plan_digest: str
    round_number: int
    """0 is the verdict on the plan itself."""

    def fields(self) -> dict[str, JsonValue]:
        return {"plan_digest": self.plan_digest, "round": self.round_number}

    def require_end(self, entry: bytes, index: int) -> None:
        """Raise Mismatch unless this entry, at `index`, ends the round."""
        event = parse_entry(entry).event
        if event.type not in ENDS:
            raise Mismatch(f"it is a {event.type}, which ends no round", index=index)
        if event.type == "gate.verdict" and event.body.get("passed") is not False:
            raise Mismatch(
                "it is no refusal: a round that passed ends with its model's registration", index=index
            )
        named = event.body.get("plan_digest"), event.body.get("round")
        if named != (self.plan_digest, self.round_number) or isinstance(named[1], bool):
            raise Mismatch("it is the end of another round", index=index)

    def __str__(self) -> str:
        return f"round {self.round_number} of plan {self.plan_digest}"


@dataclass(frozen=True, slots=True)
class PhaseSubject:
    phase: str
    measured: str
    """Entry digest of the measurement that the phase's evidence ends with."""

    def fields(self) -> dict[str, JsonValue]:
        return {"measured": self.measured, "phase": self.phase}

    def require_end(self, entry: bytes, index: int) -> None:
        """Raise Mismatch unless this entry, at `index`, is the measurement."""
        event = parse_entry(entry).event
        if event.type != MEASURED:
            raise Mismatch(f"it is a {event.type}, which ends no phase", index=index)
        if (event.body.get("phase"), entry_digest(entry)) != (self.phase, self.measured):
            raise Mismatch("it is the end of another phase", index=index)

    def __str__(self) -> str:
        return f"the phase {self.phase}, measured by entry {self.measured}"


Subject = RoundSubject | PhaseSubject
ROUND_FIELDS = frozenset(("plan_digest", "round"))
PHASE_FIELDS = frozenset(("measured", "phase"))


def parse_subject(value: Mapping[str, JsonValue]) -> Subject:
    """Read the fields of exactly one kind of subject; SubjectError."""
    if value.keys() == ROUND_FIELDS:
        return RoundSubject(_hex(value, "plan_digest"), _round(value["round"]))
    if value.keys() == PHASE_FIELDS:
        phase = value["phase"]
        if not isinstance(phase, str) or not _NAME.fullmatch(phase):
            raise SubjectError("phase in the manifest is not a name")
        return PhaseSubject(phase, _hex(value, "measured"))
    raise SubjectError("a manifest is about one round or one phase, and has the fields of its format")


def _hex(value: Mapping[str, JsonValue], what: str) -> str:
    found = value[what]
    if not isinstance(found, str) or not _HEX.fullmatch(found):
        raise SubjectError(f"{what} in the manifest is not 64 hex digits")
    return found


def _round(value: JsonValue) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_ROUND:
        raise SubjectError(f"round in the manifest is not a whole number of 0 to {MAX_ROUND}")
    return value
