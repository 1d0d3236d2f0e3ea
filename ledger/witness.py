"""The witness: cosigns a checkpoint only after it re-checked everything that led to it.

    request    (c2sp.org/tlog-witness, add-checkpoint)      response    one cosignature/v1 note line
      old <size last cosigned>
      <base64 consistency proof hash> ...
      <empty line>
      <checkpoint, signed by the log key>

Beyond the specification it wants the new entries themselves, runs its gate over them one at a time, and
bounds log time, which is the latest time any entry claimed so far. It signs after its new state reached the
disk, refuses to start without a state, and refuses everything once it holds a proof of equivocation or of
its own rollback (`ledger.rollback`). How requests and entries travel, and what the gate's rules are, lives
elsewhere.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Self

from ledger import checkpoint, cosignature, equivocation, note, rollback, tree
from ledger.allocation import without_collection
from ledger.checkpoint import Checkpoint
from ledger.encoding import HASH_BYTES
from ledger.errors import CodedError, InputError, VerificationError
from ledger.event import parse_entry, read_judged
from ledger.gate import Gate
from ledger.keys import Signer
from ledger.note import Note, VerifierKey
from ledger.storage import StorageMissingError
from ledger.tree import EMPTY_ROOT, Frontier, Hash
from ledger.witness_request import parse_request
from ledger.witness_storage import WitnessState, WitnessStorage

FUTURE_S = 300
PAST_S = 7 * 86400


class WitnessRefusedError(VerificationError):
    code = "ledger.witness.refused"


class WitnessConflictError(WitnessRefusedError):
    """The request does not start where this witness stands (the specification's 409): `size` says where."""

    code = "ledger.witness.conflict"

    def __init__(self, size: int) -> None:
        super().__init__(f"this witness last cosigned size {size}")
        self.size = size


class EquivocationError(WitnessRefusedError):
    code = "ledger.witness.equivocation"


class GateRefusedError(WitnessRefusedError):
    """The gate refused the entry at `index`; its own error is the cause."""

    code = "ledger.witness.gate"

    def __init__(self, index: int, cause: Exception) -> None:
        reason = f"{cause.public_message} ({cause.code})" if isinstance(cause, CodedError) else "it failed"
        super().__init__(f"the gate refuses entry {index}: {reason}")
        self.index = index


class Witness:
    """One institution's witness of one log. Calls are serialised by a lock."""

    def __init__(
        self,
        storage: WitnessStorage,
        state: WitnessState,
        *,
        signer: Signer,
        gate: Gate,
        clock: Callable[[], int],
        future_s: int = FUTURE_S,
        past_s: int = PAST_S,
    ) -> None:
        self._storage, self._state, self._signer, self._gate = storage, state, signer, gate
        self._clock, self._future_s, self._past_s = clock, future_s, past_s
        self._log_vkey = note.parse_vkey(state.log_vkey)
        self._vkey = note.parse_vkey(state.witness_vkey)
        if signer.public != self._vkey.key:
            raise WitnessRefusedError("the signer is not this witness's key", code="ledger.witness.key")
        self._frontier = _frontier(state, self._log_vkey)
        self._resumed = state.size == 0
        self._lock = threading.Lock()

    @classmethod
    def create(
        cls,
        storage: WitnessStorage,
        *,
        log_vkey: str,
        signer: Signer,
        gate: Gate,
        clock: Callable[[], int],
        name: str | None = None,
        future_s: int = FUTURE_S,
        past_s: int = PAST_S,
    ) -> Self:
        """Begin witnessing a log from size 0, once. `name` is the cosigner's, by default the signer's."""
        vkey = cosignature.vkey_of(name or signer.name, signer)
        if note.parse_vkey(log_vkey).key == signer.public:
            raise WitnessRefusedError("a log cannot witness itself", code="ledger.witness.key")
        state = WitnessState(log_vkey, str(vkey), 0, EMPTY_ROOT, b"", 0, 0, b"")
        storage.create(state)
        return cls(storage, state, signer=signer, gate=gate, clock=clock, future_s=future_s, past_s=past_s)

    @classmethod
    def open(
        cls,
        storage: WitnessStorage,
        *,
        signer: Signer,
        gate: Gate,
        clock: Callable[[], int],
        future_s: int = FUTURE_S,
        past_s: int = PAST_S,
    ) -> Self:
        """Continue from the stored state; `resume` must follow before anything is cosigned.

        `gate` is in its initial state. Without a stored state this refuses: a witness that forgot what it
        signed could be made to sign another history.
        """
        state = storage.load()
        if state is None:
            raise StorageMissingError("this witness has no state", code="ledger.witness.no-state")
        return cls(storage, state, signer=signer, gate=gate, clock=clock, future_s=future_s, past_s=past_s)

    @property
    def size(self) -> int:
        """Size of the last checkpoint that was cosigned."""
        return self._state.size

    @property
    def root(self) -> Hash:
        return self._state.root

    @property
    def vkey(self) -> str:
        """The cosigner's vkey text, type 0x04."""
        return self._state.witness_vkey

    @property
    def gate(self) -> Gate:
        """The gate after all entries that were cosigned. Read it; never advance it."""
        return self._gate

    def evidence(self) -> tuple[bytes, ...]:
        """The proofs of equivocation that this witness holds (`ledger.equivocation`)."""
        return tuple(data for data in self._storage.evidence() if not rollback.is_rollback(data))

    def resume(self, entries: Iterable[bytes]) -> None:
        """Rebuild the gate from entries [0, size), which must hash to the root last cosigned."""
        with self._lock:
            gate, frontier, log_time_s = self._gate.fork(), Frontier(), 0
            other = WitnessRefusedError(
                "these entries are not what this witness cosigned", code="ledger.witness.resume"
            )
            with without_collection():
                for index, entry in enumerate(entries):
                    if index == self._state.size:
                        raise WitnessRefusedError("too many entries to resume", code="ledger.witness.resume")
                    frontier.append(tree.leaf_hash(entry))
                    try:
                        gate.replay(index, entry)
                        log_time_s = max(log_time_s, read_judged(entry).time_s)
                    except Exception:  # whatever an entry that this witness did not judge breaks
                        raise other from None
            if (frontier.size, frontier.root()) != (self._state.size, self._state.root):
                raise other
            if log_time_s != self._state.log_time_s:
                raise WitnessRefusedError(
                    "the witness's state contradicts itself", code="ledger.witness.state"
                )
            self._gate, self._resumed = gate, True

    def add_checkpoint(self, request: bytes, entries: Sequence[bytes]) -> bytes:
        """Return the cosignature line for the request's checkpoint, or raise and change nothing."""
        with self._lock:
            return self._add_checkpoint(request, entries)

    def _add_checkpoint(self, request: bytes, entries: Sequence[bytes]) -> bytes:
        state = self._state
        # 1. Parse.
        old_size, proof, data = parse_request(request)
        parsed, signed = checkpoint.parse(data)
        # 2. The origin is ours and the log key signed.
        if parsed.origin != self._log_vkey.name:
            raise WitnessRefusedError("the checkpoint's origin is unknown", code="ledger.witness.origin")
        note.verify(signed, [self._log_vkey])
        # 3. Nobody proved that this log equivocates, this checkpoint included; nor were we rolled back.
        nodes = [state.root, *proof] if state.size & (state.size - 1) == 0 else list(proof)
        self._refuse_equivocation(data, nodes)
        self._refuse_rollback(parsed, signed)
        if not self._resumed:
            raise WitnessRefusedError("the witness has not resumed", code="ledger.witness.not-resumed")
        # 4. It starts where we stand.
        if old_size > parsed.size:
            raise InputError("the old size is above the new one", code="ledger.witness.old-size")
        if old_size != state.size:
            raise WitnessConflictError(state.size)
        # 5. The consistency proof holds.
        tree.verify_consistency(state.size, state.root, parsed.size, parsed.root, proof)
        # 6. The entries are exactly the new ones.
        frontier = self._frontier.fork()
        for entry in entries:
            frontier.append(tree.leaf_hash(entry))
        if frontier.size != parsed.size or frontier.root() != parsed.root:
            raise WitnessRefusedError(
                "the entries do not lead to the checkpoint's root", code="ledger.witness.entries"
            )
        # 7. Every entry passes the gate, one at a time, on a copy.
        gate = self._gate.fork()
        for index, entry in enumerate(entries, state.size):
            _pass(gate, index, entry)
        # 8. Log time stays within bounds of our clock.
        now = self._clock()
        log_time_s = self._bounded_log_time(entries, now)
        # 9. Store, durably, before anything is signed.
        cosigned_at_s = max(now, state.cosigned_at_s)
        new = WitnessState(
            log_vkey=state.log_vkey,
            witness_vkey=state.witness_vkey,
            size=parsed.size,
            root=parsed.root,
            frontier=b"".join(frontier.nodes),
            log_time_s=log_time_s,
            cosigned_at_s=cosigned_at_s,
            checkpoint=Note(signed.text, tuple(_present(signed.by(self._log_vkey)))).encode(),
        )
        self._storage.swap(state, new)
        self._state, self._frontier, self._gate = new, frontier, gate
        # 10. Sign.
        return cosignature.sign(
            signed.text, name=self._vkey.name, signer=self._signer, time_s=cosigned_at_s
        ).line()

    def observe(self, checkpoint_note: bytes, nodes: Sequence[Hash] = ()) -> None:
        """Look at a checkpoint that was seen elsewhere; raise if it shows equivocation or our own rollback.

        For another size than ours, `nodes` are those of `ledger.equivocation`.
        """
        with self._lock:
            parsed, signed = checkpoint.parse(checkpoint_note)
            checkpoint.verify(checkpoint_note, self._log_vkey)
            self._refuse_equivocation(checkpoint_note, nodes)
            self._refuse_rollback(parsed, signed)

    def _refuse_equivocation(self, data: bytes, nodes: Sequence[Hash]) -> None:
        kept = self._storage.evidence()
        if any(rollback.is_rollback(item) for item in kept):
            raise _rolled_back("this witness cosigned more than it remembers")
        if not kept:
            if not self._state.checkpoint:
                return
            found = equivocation.find(self._state.checkpoint, data, nodes, self._log_vkey)
            if found is None:
                return
            self._storage.keep_evidence(found.encode())
        raise EquivocationError(
            "the log key signed two checkpoints that contradict each other",
            remedy="Show the kept evidence to the other members; nothing more is cosigned.",
        )

    def _refuse_rollback(self, parsed: Checkpoint, signed: Note) -> None:
        own = cosignature.find(signed, self._vkey)
        if own is None or parsed.size <= self._state.size:
            return
        # A process that another one overtook is behind too, but then the disk is not.
        stored = self._storage.load()
        if stored is None or stored.size < parsed.size:
            self._storage.keep_evidence(rollback.encode(signed.encode()))
        raise _rolled_back(f"this witness cosigned size {parsed.size} but remembers only {self._state.size}")

    def _bounded_log_time(self, entries: Sequence[bytes], now: int) -> int:
        log_time_s = self._state.log_time_s
        for index, entry in enumerate(entries, self._state.size):
            time_s = parse_entry(entry).event.time_s
            if time_s > now + self._future_s:
                raise WitnessRefusedError(
                    f"entry {index} claims a time too far ahead", code="ledger.witness.time-ahead"
                )
            log_time_s = max(log_time_s, time_s)
        if entries and log_time_s < now - self._past_s:
            raise WitnessRefusedError(
                "log time is too far behind",
                remedy="Append a fresh event, then ask again.",
                code="ledger.witness.time-behind",
            )
        return log_time_s


def _rolled_back(message: str) -> WitnessRefusedError:
    return WitnessRefusedError(
        message,
        remedy="Its state was rolled back: restore it, or found a new witness key.",
        code="ledger.witness.rolled-back",
    )


def _pass(gate: Gate, index: int, entry: bytes) -> None:
    try:
        gate.advance(index, entry)
    except Exception as error:
        raise GateRefusedError(index, error) from error  # any exception is a refusal


def _frontier(state: WitnessState, log_vkey: VerifierKey) -> Frontier:
    """The stored right edge, which must lead to the stored root, which the log key signed."""
    data = state.frontier
    nodes = tuple(data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES))
    try:
        frontier = Frontier(state.size, nodes)
        signed = checkpoint.verify(state.checkpoint, log_vkey) if state.size else None
    except CodedError as error:
        raise WitnessRefusedError(
            f"the witness's state is damaged: {error.public_message}", code="ledger.witness.state"
        ) from None
    agreed = signed is None or (signed.size, signed.root) == (state.size, state.root)
    if frontier.root() != state.root or not agreed:
        raise WitnessRefusedError("the witness's state contradicts itself", code="ledger.witness.state")
    return frontier


def _present(signature: note.NoteSignature | None) -> list[note.NoteSignature]:
    return [] if signature is None else [signature]
