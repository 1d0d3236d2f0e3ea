"""What a witness asks before it signs: may this entry be in the log?

A gate is a deterministic state machine over the entries, advanced one at a time in log order; it raises to
refuse. A witness forks it, advances the fork over all new entries, and keeps the fork only once the new state
is stored, so a refused batch leaves no trace. Which rules there are is for others to say.
"""

from __future__ import annotations

from typing import Protocol


class Gate(Protocol):
    def advance(self, index: int, entry: bytes) -> None:
        """Take one entry; raise to refuse it. A gate that raised is thrown away."""

    def replay(self, index: int, entry: bytes) -> None:
        """Take one entry again that was let pass before, without judging it. The caller holds all of the entries
        against a root that it signed itself, and throws the gate away if they differ."""

    def fork(self) -> Gate:
        """An independent copy of the state so far."""


class OpenGate:
    """Lets every event pass, for simulations of the ledger alone."""

    def advance(self, index: int, entry: bytes) -> None:
        """Refuses nothing."""

    def replay(self, index: int, entry: bytes) -> None:
        """Nothing to take."""

    def fork(self) -> OpenGate:
        return self
