"""The events of a log as a table of rows: which event, whose, and which study and round it belongs to.

The ledger knows nothing of learning, so a study is found by shape alone:

    study     a text field of that name, at any depth of the body
    by plan   else, what an earlier event said that carries the same `plan_digest`, a field of that name at any
              depth: whoever publishes a plan names its study, and everybody after that names the plan
    round     an integer field of that name, at any depth; for display

Entries that are no events are rows too. Nothing is verified here; how rows are printed is the command lines'.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ledger.canonical import JsonValue
from ledger.errors import InputError
from ledger.event import Event, parse_entry


@dataclass(frozen=True, slots=True)
class Row:
    """One entry. `event` is None if the entry is none of ours."""

    index: int
    sha256: str
    event: Event | None
    studies: tuple[str, ...] = ()
    round: int | None = None

    @property
    def study(self) -> str:
        return ", ".join(self.studies)

    def cells(self) -> tuple[str, str, str, str, str, str, str]:
        """Index, claimed time, institution, sequence, type, study and round, safe to print."""
        number = "" if self.round is None else str(self.round)
        if self.event is None:
            return str(self.index), "", "", "", "(not an event)", "", ""
        when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(min(self.event.time_s, _LATEST_S)))
        whose, sequence = plain(self.event.institution), str(self.event.sequence)
        return str(self.index), when, whose, sequence, self.event.type, plain(self.study), number

    def to_json(self) -> dict[str, JsonValue]:
        found: dict[str, JsonValue] = {"index": self.index, "entry_sha256": self.sha256}
        if self.event is None:
            return found
        studies: list[JsonValue] = list(self.studies)
        return found | {"studies": studies, "round": self.round} | self.event.to_json()


HEADINGS = ("INDEX", "TIME (claimed)", "INSTITUTION", "SEQ", "TYPE", "STUDY", "ROUND")
RIGHT_ALIGNED = frozenset({"INDEX", "SEQ", "ROUND"})
_LATEST_S = 253_402_300_799  # the end of the year 9999, up to which every platform writes a date


@dataclass(slots=True)
class Listing:
    """Reads entries in order and lets through the rows that are asked for; None asks for all.

    `kind` is a type, or what types begin with before a dot.
    """

    kind: str | None = None
    institution: str | None = None
    study: str | None = None
    _by_plan: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def rows(self, entries: Iterable[bytes]) -> Iterator[Row]:
        """Entries from index 0 on: what comes later is told by what came before."""
        for index, entry in enumerate(entries):
            row = self._row(index, entry)
            if self._wanted(row):
                yield row

    def _row(self, index: int, entry: bytes) -> Row:
        digest = hashlib.sha256(entry).hexdigest()
        try:
            event = parse_entry(entry).event
        except InputError:
            return Row(index, digest, None)
        studies, plans, number = _named(event.body)
        if studies:
            for plan in plans:
                self._by_plan.setdefault(plan, studies)
        else:
            known = (study for plan in plans for study in self._by_plan.get(plan, ()))
            studies = tuple(dict.fromkeys(known))
        return Row(index, digest, event, studies, number)

    def _wanted(self, row: Row) -> bool:
        if row.event is None:
            return (self.kind, self.institution, self.study) == (None, None, None)
        kind = row.event.type
        return (
            (self.kind is None or kind == self.kind or kind.startswith(f"{self.kind}."))
            and self.institution in (None, row.event.institution)
            and (self.study is None or self.study in row.studies)
        )


def plain(text: str) -> str:
    """No control characters on the reader's terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _named(body: JsonValue) -> tuple[tuple[str, ...], tuple[str, ...], int | None]:
    """Studies, plan digests and the first round in a body, in the order in which they are written."""
    studies: dict[str, None] = {}
    plans: dict[str, None] = {}
    number: int | None = None
    waiting: list[JsonValue] = [body]
    while waiting:  # not recursive: a body is as deep as its author likes
        value = waiting.pop()
        if isinstance(value, list):
            waiting += reversed(value)
        elif isinstance(value, dict):
            for name, inner in value.items():
                if name == "study" and isinstance(inner, str):
                    studies[inner] = None
                elif name == "plan_digest" and isinstance(inner, str):
                    plans[inner] = None
                elif name == "round" and isinstance(inner, int) and number is None:
                    number = inner
            waiting += reversed([inner for inner in value.values() if isinstance(inner, dict | list)])
    return tuple(studies), tuple(plans), number
