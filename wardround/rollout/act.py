"""What came of each phase of a walk, for people; kept in its folder, so that one that was cut off tells all of it.

Nothing is decided by it: where the walk stands is on the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from adapters.home import write_atomically
from ledger.canonical import JsonValue
from policies.federation import PHASES, Phase

FILE: Final = "acts.json"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was made to fail, and what the gate said to it."""

    told: str
    codes: tuple[str, ...]


@dataclass(slots=True)
class Act:
    phase: Phase
    refusals: list[Refusal] = field(default_factory=list)
    figures: str = ""
    """Of the newest model that counted: federated, noised, and on the ledger."""
    signed: tuple[str, ...] = ()
    """Officers."""
    evidence: str | None = None
    """Name of the package."""
    seconds: float = 0.0


_KEPT: Final = TypeAdapter(tuple[Act, ...])


def kept(root: Path) -> tuple[Act, ...]:
    """Of the walk in this folder, in the order of the phases; none where that cannot be read."""
    try:
        return _KEPT.validate_json((root / FILE).read_bytes())
    except (OSError, ValidationError):
        return ()


def keep(root: Path, act: Act) -> None:
    """In the place of what was told of the same phase before."""
    acts = [*(one for one in kept(root) if one.phase != act.phase), act]
    acts.sort(key=lambda one: PHASES.index(one.phase))
    write_atomically(root / FILE, _KEPT.dump_json(tuple(acts)))


def as_json(acts: tuple[Act, ...]) -> JsonValue:
    found: JsonValue = _KEPT.dump_python(acts, mode="json")
    return found
