"""A site's side of the log: its witness, and the state that it trusts because it verified it.

One `turn` answers the coordinator's witness request after fetching and checking the new entries, and reads the
final checkpoint. `state` is the fold of everything that this site's witness cosigned; `final_state` of what a
quorum stands behind too, and the only one to act on. When the witness refuses, the reason is kept in `halted`
and nothing that the site still does may rely on the log. Not safe for several threads; `tasks.background` gives
it one.
"""

from __future__ import annotations

from adapters import mail
from adapters.exchange import Exchange
from ledger import checkpoint, equivocation
from ledger.checkpoint import Checkpoint
from ledger.errors import CodedError, VerificationError
from ledger.finality import finalized
from ledger.policy import Policy
from ledger.reader import MissingFileError, TileReader
from ledger.witness import Witness, WitnessConflictError
from ledger.witness_request import parse_request
from policies.state import FederationState


class ForkError(VerificationError):
    code = "ledger.forked"


class Replica:
    def __init__(
        self,
        name: str,
        witness: Witness,
        exchange: Exchange,
        policy: Policy,
        log_vkey: str,
        unfolded: FederationState,
    ) -> None:
        """`unfolded` is the state before the first event."""
        self.halted: CodedError | None = None
        self.final_size = 0
        self.final_state = unfolded
        self._name, self._witness, self._exchange = name, witness, exchange
        self._policy, self._log_vkey = policy, log_vkey
        self._request: bytes | None = None
        self._note: bytes | None = None
        self._reader = TileReader(lambda path: exchange.get(f"ledger/{path}"))
        self._cosigned: list[tuple[int, FederationState]] = [(witness.size, self.state)]

    @property
    def state(self) -> FederationState:
        """The state after the last cosigned entry; a snapshot that no later turn changes."""
        gate = self._witness.gate
        assert isinstance(gate, FederationState)  # noqa: S101 - the gate it was made with
        return gate

    def turn(self) -> bool:
        """Whether there was anything new to read."""
        # What is final first: it may show that this witness was rolled back, or shown another history.
        news = self._read_final()
        news = self._answer_request() or news
        self._settle()
        return news

    def _answer_request(self) -> bool:
        request = self._exchange.get(mail.request(self._name))
        if request is None or request == self._request:
            return False
        answer: mail.Cosigned | mail.Conflict | mail.Declined
        try:
            if self.halted is not None:
                raise self.halted
            old_size, _, note = parse_request(request)
            offered, _ = checkpoint.parse(note)
            if old_size != self._witness.size:
                raise WitnessConflictError(self._witness.size)
            opened = self._reader.at_checkpoint(offered)
            self._compare(note, offered)
            entries = list(opened.entries(old_size, offered.size))
            answer = mail.Cosigned(offered.size, self._witness.add_checkpoint(request, entries))
            self._cosigned.append((offered.size, self.state))
        except WitnessConflictError as conflict:
            answer = mail.Conflict(conflict.size)
        except CodedError as error:
            self.halted = error
            answer = mail.Declined(error.code)
        self._request = request
        self._exchange.replace(mail.response(self._name), mail.write_response(answer))
        return True

    def _read_final(self) -> bool:
        note = self._exchange.get(mail.FINAL_CHECKPOINT)
        if note is None or note == self._note:
            return False
        try:
            final = finalized(note, log_vkey=self._log_vkey, policy=self._policy)
            self._compare(note, final)
        except MissingFileError:
            return True  # its tiles are still on their way
        except CodedError as error:
            self.halted = error
            return True
        self._note = note
        self.final_size = max(self.final_size, final.size)
        return True

    def _compare(self, note: bytes, other: Checkpoint) -> None:
        """Return None if this checkpoint and the last cosigned one are of one history, else keep what proves it.

        A larger checkpoint must begin with what was cosigned, a smaller one be its beginning. To accept one by its
        size alone would be to act on a fork that no quorum stands behind.
        """
        size, root = self._witness.size, self._witness.root
        if other.size < size:
            agrees = self._reader.at(size, root).root_at(other.size) == other.root
            nodes = [] if agrees else equivocation.nodes_within(self._reader.at(size, root), other.size)
        else:
            opened = self._reader.at_checkpoint(other)
            agrees = opened.root_at(size) == root
            nodes = [] if agrees else equivocation.nodes_within(opened, size)
        self._witness.observe(note, nodes)
        if not agrees:
            raise ForkError(
                f"a checkpoint of size {other.size} and this witness's of size {size} are of two histories",
                remedy="Show both to the other members; nothing more is cosigned.",
            )

    def _settle(self) -> None:
        """Move `final_state` to the newest cosigned state that a quorum stands behind."""
        while self._cosigned and self._cosigned[0][0] <= self.final_size:
            _, self.final_state = self._cosigned.pop(0)
