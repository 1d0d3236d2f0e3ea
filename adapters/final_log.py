"""What is final on an exchange: the folded state, and proofs of single entries.

For commands that look at a federation's ledger from any institution's home, verified from the founding event on. The
running flows have their own views (`adapters.replica`, `adapters.sequencer`); nothing here signs or writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from adapters import mail
from adapters.exchange import Exchange
from adapters.institution_log import policy_of, unfolded
from ledger.finality import finalized
from ledger.proof import TlogProof
from ledger.reader import TileReader, VerifiedTree
from policies.federation import Federation
from policies.state import FederationState


@dataclass(frozen=True, slots=True)
class FinalLog:
    """`tree` and `note` are None while nothing is final yet."""

    state: FederationState
    tree: VerifiedTree | None
    note: bytes

    @classmethod
    def read(cls, federation: Federation, exchange: Exchange) -> FinalLog:
        state, note = unfolded(federation), exchange.get(mail.FINAL_CHECKPOINT)
        if note is None:
            return cls(state, None, b"")
        final = finalized(note, log_vkey=federation.log_vkey, policy=policy_of(federation))
        tree = TileReader(lambda path: exchange.get(f"ledger/{path}")).at_checkpoint(final)
        for index, entry in enumerate(tree.entries(0, final.size)):
            state.advance(index, entry)
        return cls(state, tree, note)

    def state_at(self, federation: Federation, size: int) -> FederationState | None:
        """The fold of the first `size` entries; None if fewer are final here."""
        if self.tree is None or size > self.tree.size:
            return None
        if size == self.tree.size:
            return self.state
        state = unfolded(federation)
        for index, entry in enumerate(self.tree.entries(0, size)):
            state.advance(index, entry)
        return state

    def entries(self) -> Iterator[tuple[int, bytes]]:
        """(index, entry), in order."""
        return enumerate(iter(()) if self.tree is None else self.tree.entries(0, self.tree.size))

    def prove(self, index: int) -> TlogProof:
        """For an index that `entries` gave."""
        if self.tree is None:
            raise ValueError("there is no entry to prove")
        return TlogProof(index, self.tree.inclusion_proof(index), self.note)
