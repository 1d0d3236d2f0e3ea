"""The outbox: a `Release` is kept whole before it is sent, so that it is resent and never recomputed.

    outbox/<plan digest>/<round>-<step>-<attempt>.update    the protected update
    outbox/<plan digest>/<round>-<step>-<attempt>.shares    what belongs to it under masks, else empty
    outbox/<plan digest>/<round>-<step>-<attempt>.entry     the signed receipt that names both

The entry is written last: it cannot exist without what it names. A release without an entry was never
sent. Building a release is `tasks.site.release`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adapters.home import write_atomically
from policies.receipt import Step


@dataclass(frozen=True, slots=True)
class Slot:
    """One step of one attempt at one round of one plan."""

    plan_digest: str
    round: int
    step: Step
    attempt: int


class Outbox:
    def __init__(self, root: Path) -> None:
        self._root = root

    def _path(self, slot: Slot, suffix: str) -> Path:
        return self._root / slot.plan_digest / f"{slot.round}-{slot.step}-{slot.attempt}.{suffix}"

    def keep(self, slot: Slot, *, update: bytes, shares: bytes, entry: bytes) -> None:
        """Durable when it returns. The entry's presence is what makes the release count as built."""
        write_atomically(self._path(slot, "update"), update, mode=0o600)
        write_atomically(self._path(slot, "shares"), shares, mode=0o600)
        write_atomically(self._path(slot, "entry"), entry, mode=0o600)

    def entries(self) -> Iterator[tuple[str, bytes]]:
        """(plan digest, entry) of every release that was built."""
        for path in self._root.glob("*/*.entry"):
            yield path.parent.name, path.read_bytes()

    def kept(self, slot: Slot) -> tuple[bytes, bytes, bytes] | None:
        """(update, shares, entry) of a release that was built, or None."""
        try:
            entry = self._path(slot, "entry").read_bytes()
            return self._path(slot, "update").read_bytes(), self._path(slot, "shares").read_bytes(), entry
        except FileNotFoundError:
            return None
