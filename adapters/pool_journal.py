"""The journal of a hospital's register: everything ever drawn on its patients, by whichever federation.

A ledger knows the draws of one federation. A hospital in two of them has one register, so its own account of both is
kept here, and its own cap holds over both (`policies.site_policy`). Nothing is drawn before its line is on the disk:
a crash leaves it drawn. Reservations for a ledger live in `tasks.site.contribute`.

So are the releases that left, by the sum that each was for: a home that was restored from an image does not know of
them, and would mask another vector as it masked the first. This account does, unless it was restored with it. And so
are the evaluations that were begun: a site decides on their noise whether it drifted, and who could draw again after
a crash could crash until the noise is kind.

    <folder>/journal.jsonl     one line a draw, a beginning or a release, appended and fsynced (`adapters.pool_lines`)
    <folder>/journal.key       32 bytes: each mac is HMAC-SHA256 over the mac before it and this line's content and
                               number, so that no line can be edited, dropped from the middle or moved
    <folder>/journal.mark      how many lines there are and the register's Rényi order, under the same key:
                               lines cut off at the end are missed, and no change of the cap changes the order
    <folder>/journal.lock      held while a draw is judged and written: two runs at one instant come one after
                               the other

An old copy of the whole folder is found by holding the journal against the ledger of each federation
(`require_covers`).
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from adapters.home import write_atomically
from adapters.pool_lines import FIRST_MAC, Begun, Content, Draw, Leaving, Line, Sum, Use, departures, uses
from ledger import canonical
from ledger.canonical import JsonValue
from ledger.errors import CodedError, InputError, PolicyViolation, Violation
from policies.cost import round_mechanisms
from policies.federation import Pool
from policies.gates import epsilon_text
from policies.state import FederationState
from privacy import accounting
from privacy.accounting import MICRO, Curve
from privacy.mechanisms import Mechanism

_LONGEST_LINE: Final = 65_536


class JournalError(InputError):
    code = "budget.journal"


class JournalBehindError(CodedError):
    code = "budget.journal-behind"
    kind = "policy"


class ReleaseLostError(CodedError):
    code = "budget.release-lost"
    kind = "policy"


class PoolJournal:
    """One register's journal. Every call reads what others appended since, under the lock."""

    def __init__(self, folder: Path, pool: Pool, *, owner: str) -> None:
        """`pool` is the hospital's cap for the register; `owner` names the hospital in messages."""
        self._folder, self._pool, self._owner = folder, pool, owner
        self._read, self._lines, self._mac = 0, 0, FIRST_MAC
        self._spent = Curve.zero()
        self._drawn: dict[Use, tuple[Mechanism, ...]] = {}
        self._begun: set[Sum] = set()
        self._left: dict[Sum, str] = {}

    def reserve(self, use: Use, mechanisms: tuple[Mechanism, ...]) -> bool:
        """Draw durably, or raise PolicyViolation with the figures and draw nothing. False if this very use was drawn
        before: who is told so gives nothing back."""
        with self._locked():
            # A use whose ledger never took the reservation: it was drawn before a crash, and is not drawn twice.
            if self._drawn.get(use) == mechanisms:
                return False
            if self._drawn.get(use):
                raise JournalError(
                    f"{self._owner} has drawn otherwise for this attempt", code="budget.journal-twice"
                )
            if found := self._violations(accounting.total(mechanisms)):
                raise PolicyViolation(found)
            self._append(Draw(kind="reserved", use=use, mechanisms=mechanisms))
            return True

    def give_back(self, use: Use, mechanisms: tuple[Mechanism, ...]) -> None:
        """Mechanisms of a use that never ran. Those that are not drawn are refused."""
        with self._locked():
            self._append(Draw(kind="given-back", use=use, mechanisms=mechanisms))

    def begin(self, about: Sum) -> None:
        """Durably: noise for that sum is about to be drawn. ReleaseLostError if some may have been before: for a home
        that keeps no release of it, nor the word that there will be none."""
        with self._locked():
            if about in self._begun:
                raise ReleaseLostError(
                    f"{self._owner} was cut off as it drew for round {about.round} ({about.step}), and what it"
                    " drew is lost",
                    remedy="Nothing: it is not drawn a second time. The site takes part again from the next round.",
                )
            self._append(Begun(sum=about))

    def leave(self, about: Sum, *, release: str) -> None:
        """Durably: this release, which is kept, may leave for that sum, now and again. ReleaseLostError if another
        one may have left before."""
        with self._locked():
            if about not in self._left:
                self._append(Leaving(sum=about, release=release))
            elif self._left[about] != release:
                raise self._lost(about)

    def require_unsent(self, about: Sum) -> None:
        """ReleaseLostError if a release may have left for that sum. For a home that keeps none."""
        with self._locked():
            if about in self._left:
                raise self._lost(about)

    def violations(self, cost: Curve) -> list[Violation]:
        """Whether `cost` more would pass the hospital's cap; nothing is drawn."""
        with self._locked():
            return self._violations(cost)

    def epsilon_spent_micro(self) -> int:
        with self._locked():
            return self._pool.epsilon_micro(self._spent)

    def require_covers(self, state: FederationState, site: str) -> None:
        """JournalBehindError if a draw or a release that a ledger shows is not here: this journal was cut off or is
        an old copy."""
        with self._locked():
            if uses(state, site) - self._drawn.keys() or departures(state, site).keys() - self._left.keys():
                raise JournalBehindError(
                    f"the journal {self._path} lacks entries of {self._owner} that the ledger {state.origin} shows",
                    remedy="Bring back its newest copy, or run `wardround site restore-journal` for every home of "
                    "this hospital.",
                )

    def restore(self, state: FederationState, site: str) -> int:
        """Draw what a ledger shows and this journal lacks, whatever the cap, and note the releases; how many uses
        that were.

        A use of which a part was given back counts whole: too much rather than too little.
        """
        with self._locked():
            lacking = sorted(uses(state, site) - self._drawn.keys(), key=Use.canonical_bytes)
            for use in lacking:
                mechanisms = round_mechanisms(state.plan_of(use.plan_digest), use.round)
                self._append(Draw(kind="reserved", use=use, mechanisms=mechanisms))
            for about, release in departures(state, site).items():
                if about not in self._left:
                    self._append(Leaving(sum=about, release=release))
            return len(lacking)

    # -- the file ------------------------------------------------------------------------------------------

    @property
    def _path(self) -> Path:
        return self._folder / "journal.jsonl"

    @property
    def _mark(self) -> Path:
        return self._folder / "journal.mark"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self._folder / "journal.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._catch_up()
            yield

    def _key(self) -> bytes:
        path = self._folder / "journal.key"
        if not path.exists():
            if self._path.exists() or self._mark.exists():
                raise JournalError(f"{path} is gone, so that {self._path} cannot be checked")
            write_atomically(path, secrets.token_bytes(32), mode=0o600)
        return path.read_bytes()

    def _catch_up(self) -> None:
        """Take in the lines that were appended since the last call."""
        key = self._key()
        marked = self._read_mark(key)
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read)
                while line := file.readline(_LONGEST_LINE):
                    if not line.endswith(b"\n"):
                        break  # a line that a crash tore: never acknowledged, and the next one replaces it
                    self._take(self._checked(line, key))
                    self._read += len(line)
        # A mark behind the lines is that of a crash between the two; lines behind the mark are missing.
        if self._lines < marked or (self._read and _size(self._path) < self._read):
            raise JournalError(
                f"lines are missing at the end of {self._path}",
                remedy="Bring its folder back from a backup.",
                code="budget.journal-cut",
            )

    def _read_mark(self, key: bytes) -> int:
        """How many lines there must be; takes over the order that the register was begun with."""
        try:
            data = self._mark.read_bytes()
        except FileNotFoundError:
            return 0
        try:
            value = canonical.decode(data)
            if not isinstance(value, dict) or set(value) != {"lines", "order", "tag"}:
                raise JournalError("")
            lines, order = value["lines"], value["order"]
            if not isinstance(lines, int) or not isinstance(order, int):
                raise JournalError("")
            if not hmac.compare_digest(str(value["tag"]), _tag(key, lines, order)):
                raise JournalError("")
            self._pool = self._pool.with_fields({"order": order})
        except CodedError:
            raise JournalError(
                f"{self._mark} is not what was written there", code="budget.journal-tampered"
            ) from None
        return lines

    def _checked(self, data: bytes, key: bytes) -> Line:
        line = Line.from_bytes(data)
        if line is not None:
            right = Line.after(self._mac, self._lines, line.content, key=key)
            if line.sequence == right.sequence and hmac.compare_digest(line.mac, right.mac):
                return line
        raise JournalError(
            f"line {self._lines + 1} of {self._path} is not what was written there",
            remedy="Bring the file back from a backup; it is never edited.",
            code="budget.journal-tampered",
        )

    def _take(self, line: Line) -> None:
        self._lines, self._mac = self._lines + 1, line.mac
        match line.content:
            case Begun(sum=about):
                self._begun.add(about)
            case Leaving(sum=about, release=release):
                self._left[about] = release
            case Draw(kind="reserved", use=use, mechanisms=mechanisms):
                self._drawn[use] = mechanisms
                self._spent += accounting.total(mechanisms)
            case Draw() as back:
                self._drawn[back.use] = self._rest(back)
                self._spent -= accounting.total(back.mechanisms)

    def _rest(self, draw: Draw) -> tuple[Mechanism, ...]:
        left = list(self._drawn.get(draw.use, ()))
        for mechanism in draw.mechanisms:
            if mechanism not in left:
                raise JournalError(
                    f"{self._owner} gives back what it did not draw", code="budget.journal-not-drawn"
                )
            left.remove(mechanism)
        return tuple(left)

    def _append(self, content: Content) -> None:
        if isinstance(content, Draw) and content.kind == "given-back":
            self._rest(content)
        key = self._key()
        line = Line.after(self._mac, self._lines, content, key=key)
        data = line.to_bytes()
        new = not self._path.exists()
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(handle, self._read)
            os.pwrite(handle, data, self._read)
            os.fsync(handle)
        finally:
            os.close(handle)
        if new:
            _sync(self._folder)
        self._take(line)
        self._read += len(data)
        order = self._pool.order
        mark: dict[str, JsonValue] = {
            "lines": self._lines,
            "order": order,
            "tag": _tag(key, self._lines, order),
        }
        write_atomically(self._mark, canonical.encode(mark), mode=0o600)

    def _lost(self, about: Sum) -> ReleaseLostError:
        return ReleaseLostError(
            f"the journal {self._path} has a release of {self._owner} for round {about.round} ({about.step}) that its"
            " home does not have: the home is an old copy",
            remedy="Bring the newest copy of the home back, or stay out of this plan: another release under the same"
            " masks would show the first.",
        )

    def _violations(self, cost: Curve) -> list[Violation]:
        after = self._spent + cost
        if self._pool.rdp_micro(after) <= self._pool.rdp_cap_micro:
            return []
        return [Violation("budget.register-cap", self._over(after))]

    def _over(self, after: Curve) -> str:
        pool = self._pool
        return (
            f"the register of {self._owner} has spent ε={epsilon_text(pool.epsilon_micro(self._spent))} of its cap "
            f"{pool.epsilon_cap_micro / MICRO:g} at δ={pool.delta:g}, over all federations; "
            f"with this it would be {epsilon_text(pool.epsilon_micro(after))}"
        )


def _tag(key: bytes, lines: int, order: int) -> str:
    return hmac.new(key, f"mark\n{lines}\n{order}\n".encode(), hashlib.sha256).hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
