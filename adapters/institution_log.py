"""Opening an institution's part of the ledger: the log at the coordinator, the witness at a site.

Lives here: which files hold which state, and which keys sign what. The origin line ends in the term, so that a
later sequencer continues the same tree under another origin line (docs/adr/0002).
"""

from __future__ import annotations

from contextlib import suppress

from adapters import mail
from adapters.clock import Clock
from adapters.exchange import Exchange
from adapters.home import CoordinatorConfig, Home
from adapters.replica import Replica
from adapters.sequencer import Sequencer, folded
from ledger.checkpoint import parse
from ledger.checkpoint import verify as verify_checkpoint
from ledger.errors import CodedError
from ledger.log import Log
from ledger.note import parse_vkey
from ledger.policy import Policy, quorum_policy
from ledger.postgresql import PostgresqlStorage
from ledger.reader import TileReader
from ledger.sqlite import SqliteStorage
from ledger.storage import Storage
from ledger.transfer import transfer
from ledger.witness import Witness
from ledger.witness_request import parse_request
from ledger.witness_storage import SqliteWitnessStorage
from policies.federation import Federation
from policies.state import FederationState

_LEDGER_FILE = "ledger.sqlite"


class LogUnavailableError(CodedError):
    code = "ledger.unavailable"


def policy_of(federation: Federation) -> Policy:
    """The quorum of the federation's sites; see `ledger.policy.quorum`."""
    return quorum_policy(federation.log_vkey, [site.witness_vkey or "" for site in federation.sites()])


def unfolded(federation: Federation) -> FederationState:
    """The state before the first event, which admits no founding but this document's."""
    return FederationState(federation.origin, founding_digest=federation.content_digest())


def ledger_storage(home: Home) -> Storage:
    """Where the coordinator's configuration says that the log is: a PostgreSQL database, or a file here."""
    url = home.read(CoordinatorConfig).ledger
    return SqliteStorage(home.root / _LEDGER_FILE) if url is None else PostgresqlStorage(url)


def move_log(home: Home) -> None:
    """Move a log that began in the home's file into the database that the configuration names by now.

    The file is renamed first, so that no sequencer opens it again, and kept. After a failure call this again.
    """
    file, moved = home.root / _LEDGER_FILE, home.root / f"{_LEDGER_FILE}.moved"
    if home.read(CoordinatorConfig).ledger is None:
        raise LogUnavailableError(
            "the configuration names no database to move the ledger into",
            remedy="Write `ledger: postgresql://user@host/database` into institution.yaml.",
        )
    if file.exists():
        whole = SqliteStorage(file)
        whole.load()
        whole.close()  # the last to close it leaves one file alone
        if file.with_name(f"{_LEDGER_FILE}-wal").exists():
            raise LogUnavailableError(
                "another process has the ledger open", remedy="Stop the coordinator, then move the ledger."
            )
        file.rename(moved)
    source, target = SqliteStorage(moved), ledger_storage(home)
    try:
        transfer(source, target)
    finally:
        source.close()
        target.close()


def create_log(home: Home, federation: Federation, founding_entry: bytes) -> None:
    """Begin the log with its founding event."""
    signer = home.signer("log", federation.origin)
    storage = ledger_storage(home)
    try:
        log = Log.create(storage, origin=federation.origin, signer=signer)
        unfolded(federation).advance(0, founding_entry)
        log.append([founding_entry])
    finally:
        storage.close()


def create_witness(home: Home, federation: Federation, name: str) -> None:
    """Begin the site's witness state, once: a witness without its state refuses to start."""
    storage = SqliteWitnessStorage(home.root / "witness.sqlite")
    Witness.create(
        storage,
        log_vkey=federation.log_vkey,
        signer=home.signer("witness", name),
        gate=unfolded(federation),
        clock=lambda: 0,
    )
    storage.close()


def open_sequencer(home: Home, federation: Federation, exchange: Exchange) -> Sequencer:
    signer = home.signer("log", federation.origin)
    published = _published(exchange, federation)
    log = Log.open(ledger_storage(home), signer=signer, published=published)
    return Sequencer(log, folded(log, unfolded(federation)), exchange, federation, policy_of(federation))


def _published(exchange: Exchange, federation: Federation) -> bytes | None:
    """The largest checkpoint that this log's key signed and that others have seen: one that witnesses were asked
    about, or the final one. A database that lacks it was rolled back, and to append would fork the log."""
    vkey = parse_vkey(federation.log_vkey)
    seen: list[tuple[int, bytes]] = []
    final = exchange.get(mail.FINAL_CHECKPOINT)
    asked = [exchange.get(mail.request(site.name)) for site in federation.sites()]
    for note in (final, *map(_note_asked_about, asked)):
        if note is not None:
            with suppress(CodedError):  # what the log key did not sign says nothing of the log
                seen.append((verify_checkpoint(note, vkey).size, note))
    return max(seen)[1] if seen else None


def _note_asked_about(request: bytes | None) -> bytes | None:
    try:
        return None if request is None else parse_request(request)[2]
    except CodedError:
        return None


def open_replica(
    home: Home, federation: Federation, exchange: Exchange, *, name: str, clock: Clock
) -> Replica:
    """Continue the site's witness from its stored state, refolding the entries that it cosigned."""
    storage = SqliteWitnessStorage(home.root / "witness.sqlite")
    witness = Witness.open(
        storage,
        signer=home.signer("witness", name),
        gate=unfolded(federation),
        clock=clock.now_s,
    )
    if witness.size:
        state = storage.load()
        if state is None:
            raise LogUnavailableError("this witness has no state")
        cosigned, _ = parse(state.checkpoint)
        reader = TileReader(lambda path: exchange.get(f"ledger/{path}"))
        witness.resume(reader.at_checkpoint(cosigned).entries(0, cosigned.size))
    return Replica(name, witness, exchange, policy_of(federation), federation.log_vkey, unfolded(federation))


def read_state(home: Home) -> tuple[FederationState, str]:
    """The fold of a coordinator's stored log and its root in hex; the log is opened for reading only."""
    storage = ledger_storage(home)
    try:
        log = Log.open(storage)
        return folded(log, unfolded(home.federation)), log.root.hex()
    finally:
        storage.close()
