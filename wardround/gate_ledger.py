"""The ledger that a gate judges by: opened wherever it lies, verified, and folded into the federation's state.

What of it is trusted is said and kept beside the state:

    keys          given (--vkey, --witness-policy), or those that lie beside the ledger (trust on first use)
    entries       every signature and hash, and for static files the quorum of witnesses (`ledger.verify`)
    rules         asked again for every entry that was judged under the policy that runs here. Entries that another
                  policy judged are taken in as they stand: these rules cannot say whether they were right
    the newest    nobody can see that a ledger is an old copy: its size and root are printed to be compared
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ledger.errors import CodedError, InputError, VerificationError

if TYPE_CHECKING:
    from pathlib import Path

    from ledger.report import Report
    from ledger.tree import Hash
    from policies.state import FederationState
    from wardround.ledger.sources import Serving


class EntryRefusedError(VerificationError):
    """An entry may not stand where it stands: by the rules that were in force nobody could have admitted it."""

    code = "gate.ledger-refused"


class LedgerKindError(InputError):
    code = "gate.ledger-kind"


@dataclass(frozen=True, slots=True)
class FoldedLedger:
    """The state that a ledger folds into, and what was taken on trust to get it."""

    where: str
    state: FederationState
    root: str
    cosigners: tuple[str, ...]
    notes: tuple[str, ...]


def fold_ledger(
    where: str, *, vkey: str | None, witness_policy: Path | None, serving: Serving | None
) -> FoldedLedger:
    """Verify and fold. VerificationError if anything does not hold, InputError if there is no ledger to read."""
    from wardround.ledger.sources import find

    places = find(where)
    if places.export is not None:
        return _from_files(where, places.export, vkey, witness_policy, serving)
    if places.database is not None:
        if witness_policy is not None:
            raise LedgerKindError(
                f"{where} is a database, which holds no cosignatures",
                remedy="Give a static export of it with --witness-policy.",
            )
        return _from_database(where, places.database, vkey)
    raise LedgerKindError(
        f"{where} is evidence about a ledger, not a ledger", remedy="Give an export or a database."
    )


def _from_files(
    where: str, export: str, vkey: str | None, witness_policy: Path | None, serving: Serving | None
) -> FoldedLedger:
    from ledger.commands import read_policy
    from ledger.reader import TileReader
    from ledger.verify import verify_static
    from wardround.ledger.sources import open_files

    trusted = read_policy(witness_policy)
    with open_files(export, serving) as files:
        report = verify_static(files, log_vkey=vkey, policy=trusted, events="require")
        # Under the very root that was verified: whoever serves the files may change them meanwhile.
        entries = TileReader(files.read).at(report.size, report.root).entries(0, report.size)
        state, foreign = _folded(report, entries)
    return _said(where, report, state, foreign, quorum=bool(report.cosigners))


def _from_database(where: str, database: str, vkey: str | None) -> FoldedLedger:
    from wardround.ledger.sources import open_log, verify_database

    report = verify_database(database, vkey)
    with open_log(database) as log:
        state, foreign = _folded(report, log.entries(0, report.size))
    return _said(where, report, state, foreign, quorum=False)


def _folded(report: Report, entries: Iterable[bytes]) -> tuple[FederationState, int]:
    """The state, and how many entries another policy than this installation's judged. Those are taken in unjudged, so
    that every pool is counted a second time from the raw events: no settlement of theirs makes room."""
    from ledger.tree import Frontier, leaf_hash
    from policies.code import running_policy_digest
    from policies.recount import Recount
    from policies.state import FederationState

    state, frontier, recount, foreign = FederationState(report.origin), Frontier(), Recount(), 0
    for index, entry in enumerate(entries):
        frontier.append(leaf_hash(entry))
        try:
            if index == 0 or state.policy_digest == running_policy_digest():
                state.advance(index, entry)
            else:
                state.replay(index, entry)
                foreign += 1
            recount.take(entry)
        except CodedError as error:
            raise EntryRefusedError(
                f"entry {index} of the ledger may not stand there: {error.public_message}"
            ) from None
        except (AttributeError, KeyError, TypeError, ValueError):  # what an entry breaks that nobody judged
            raise EntryRefusedError(f"entry {index} of the ledger cannot be taken in") from None
    _require_root(frontier.root(), report)
    for account in recount.accounts():
        if account.spent != state.spent_by(account.site):
            raise EntryRefusedError(f"the draws on the pool of {account.site} do not add up")
    return state, foreign


def _require_root(root: Hash, report: Report) -> None:
    if root != report.root:
        raise EntryRefusedError("the entries changed while they were read")


def _said(where: str, report: Report, state: FederationState, foreign: int, *, quorum: bool) -> FoldedLedger:
    notes = [f"the ledger is {report.origin} at size {report.size}, root {report.root.hex()}"]
    if report.trusted_on_first_use:
        notes.append(
            "the keys that lie beside the ledger were believed: give --vkey and --witness-policy, from the members"
        )
    if not quorum:
        notes.append("no quorum of witnesses vouches for the ledger: its log key alone does")
    if foreign:
        notes.append(
            f"{foreign} entries were judged under another policy than the one that runs here, and were taken in as "
            "they stand"
        )
    return FoldedLedger(where, state, report.root.hex(), report.cosigners, tuple(notes))
