"""The coordinator's side of the log: takes events in, appends what is admitted, has it witnessed.

One `turn` reads the inboxes, forks the state, admits and appends a batch, publishes tiles, writes each witness
its request, and merges cosignatures until a quorum makes the checkpoint final. It only carries: what is
allowed is the state's matter (`policies.state`), what is signed is `ledger`'s. Not safe for several threads;
`tasks.background` gives it one.
"""

from __future__ import annotations

import queue
import time
from dataclasses import dataclass

from adapters import mail
from adapters.exchange import Exchange
from ledger import tree
from ledger.allocation import without_collection
from ledger.errors import CodedError, PolicyViolation, Violation
from ledger.event import entry_digest, parse_entry
from ledger.export import static_files
from ledger.finality import QuorumError, finalized, merge_cosignatures
from ledger.log import Log
from ledger.policy import Policy
from ledger.tree import Frontier
from policies.federation import Federation
from policies.state import FederationState

_BATCH = 256
_CANDIDATE_S = 0.25


@dataclass(frozen=True, slots=True)
class RefusedEntry:
    """An entry that was not admitted: whose inbox it lay in, its type if it could be read, and why."""

    institution: str
    event_type: str | None
    violations: tuple[Violation, ...]


class Sequencer:
    def __init__(
        self, log: Log, state: FederationState, exchange: Exchange, federation: Federation, policy: Policy
    ) -> None:
        """`state` is the fold of the whole log. The final size is read from the exchange and verified."""
        self.state = state
        self.refused: dict[str, RefusedEntry] = {}
        self.final_size = 0
        self.final_root = b""
        self._log, self._exchange, self._policy = log, exchange, policy
        self._sites = tuple(site.name for site in federation.sites())
        self._own: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.turns = 0
        """How often it has looked into the inboxes."""
        self._witness_sizes = dict.fromkeys(self._sites, 0)
        self._asked: dict[str, bytes] = {}
        self._responses: dict[str, bytes | None] = {}
        self._candidate: bytes | None = None
        self._candidate_size = 0
        self._offered_at = 0.0
        self._published = 0
        self._resume_from_exchange()

    def submit(self, entry: bytes) -> None:
        """Queue an event of the coordinator's own; `state.indices` or `refused` answers. Any thread may call."""
        self._own.put(entry)

    def turn(self) -> bool:
        """Whether anything was appended, refused, heard of a witness or made final."""
        taken = self._take_in()
        self.turns += 1
        self._publish()
        return self._have_witnessed() or taken

    # -- 1. events in --------------------------------------------------------------------------------------

    def _take_in(self) -> bool:
        waiting = self._waiting()
        if not waiting:
            return False
        state, batch = self.state.fork(), []
        for institution, entry in waiting:
            trial = state.fork()
            try:
                trial.advance(trial.size, entry)
            except PolicyViolation as error:
                self._refuse(institution, entry, error.violations)
                continue
            state = trial
            batch.append(entry)
        if batch:
            self._log.append(batch)
            self.state = state
        return True

    def _waiting(self) -> list[tuple[str, bytes]]:
        found: list[tuple[str, bytes]] = []
        while not self._own.empty() and len(found) < _BATCH:
            found.append(("", self._own.get()))
        for site in self._sites:
            sequence, _ = self.state.chain.position(site)
            for name in self._exchange.names(mail.inbox(site, sequence)):
                entry = mail.fetch(self._exchange, name)
                if entry is not None and entry_digest(entry) not in self.refused:
                    found.append((site, entry))
        return found

    def _refuse(self, institution: str, entry: bytes, violations: tuple[Violation, ...]) -> None:
        try:
            event_type = parse_entry(entry).event.type
        except CodedError:
            event_type = None
        digest = entry_digest(entry)
        self.refused[digest] = RefusedEntry(institution, event_type, violations)
        self._exchange.replace(mail.refused(digest), mail.write_refusal(violations))

    # -- 2. tiles out --------------------------------------------------------------------------------------

    def _publish(self) -> None:
        if self._published == self._log.size:
            return
        for name, data in static_files(self._log, self._published, self._log.size):
            self._exchange.put(f"ledger/{name}", data)
        self._published = self._log.size

    # -- 3. cosignatures in --------------------------------------------------------------------------------

    def _have_witnessed(self) -> bool:
        chosen = self._choose_candidate()
        if self._candidate is None:
            return False
        # Signatures are checked when there are new ones, not at every turn.
        heard = [site for site in self._sites if self._heard_of(site) or chosen]
        if not heard:
            return False
        for site in heard:
            self._exchange_mail_with(site)
        try:
            final = finalized(self._candidate, log_vkey=self._log.vkey, policy=self._policy)
        except QuorumError:
            return True
        self._exchange.replace(mail.FINAL_CHECKPOINT, self._candidate)
        self.final_root, self.final_size, self._candidate = final.root, final.size, None
        return True

    def _choose_candidate(self) -> bool:
        """One checkpoint at a time gathers its quorum, so that witnesses do not split over sizes; one that
        fails to within a while gives way to the newest. Whether another was chosen."""
        if self._log.size <= max(self.final_size, self._candidate_size):
            return False
        if self._candidate is None or time.monotonic() - self._offered_at > _CANDIDATE_S:
            self._candidate, self._candidate_size = self._log.checkpoint(), self._log.size
            self._offered_at = time.monotonic()
            return True
        return False

    def _heard_of(self, site: str) -> bool:
        """Whether the site's witness says something else than at the last turn."""
        data = mail.fetch(self._exchange, mail.response(site))
        if data == self._responses.get(site):
            return False
        self._responses[site] = data
        return True

    def _exchange_mail_with(self, site: str) -> None:
        assert self._candidate is not None  # noqa: S101 - narrows for mypy
        answer = self._answer_of(site)
        if isinstance(answer, mail.Cosigned):
            self._witness_sizes[site] = answer.size
            if answer.size == self._candidate_size:
                self._candidate = merge_cosignatures(self._candidate, [answer.lines], policy=self._policy)
        elif isinstance(answer, mail.Conflict) and answer.size <= self._log.size:
            self._witness_sizes[site] = answer.size
        # A witness that started anew may have answered an old request in place of its cosignature: it gives it again.
        given = isinstance(answer, mail.Cosigned) and answer.size == self._candidate_size
        behind = not given and self._witness_sizes[site] <= self._candidate_size
        if behind and self._log.size == self._candidate_size:
            body = self._log.witness_request(self._witness_sizes[site])
            if self._asked.get(site) != body:
                self._exchange.replace(mail.request(site), body)
                self._asked[site] = body

    def _answer_of(self, site: str) -> mail.Cosigned | mail.Conflict | mail.Declined | None:
        data = self._responses.get(site)
        if data is None:
            return None
        try:
            return mail.read_response(data)
        except CodedError:
            return None

    def _resume_from_exchange(self) -> None:
        note = self._exchange.get(mail.FINAL_CHECKPOINT)
        if note is not None:
            final = finalized(note, log_vkey=self._log.vkey, policy=self._policy)
            self.final_root, self.final_size = final.root, final.size


class LogAlteredError(CodedError):
    code = "ledger.altered"


def folded(log: Log, state: FederationState) -> FederationState:
    """The fold of everything in the log, into a state that is still empty. Every entry was judged before it was
    appended, so that it is enough that they hash to the root which the log's key signed."""
    altered = LogAlteredError(
        "the stored entries are not those that the log's key signed", remedy="Restore a backup."
    )
    frontier = Frontier()
    with without_collection():
        for index, entry in enumerate(log.entries(0, log.size)):
            frontier.append(tree.leaf_hash(entry))
            try:
                state.replay(index, entry)
            except Exception:  # whatever an entry that nobody judged breaks
                raise altered from None
    if frontier.root() != log.root:
        raise altered
    return state
