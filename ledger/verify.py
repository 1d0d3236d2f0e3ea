"""Offline verification of a log in static files, ours or anybody's: every byte is checked, or named as not.

     1 keys          the log key and the policy parse; from the caller, or (trust on first use) the directory
     2 checkpoint    it parses
     3 signature     the log key signed it, for its own origin
     4 quorum        a quorum of the policy's witnesses cosigned it; every known witness's line verifies
     5 entries       every bundle holds exactly its entries, and they hash to their level-0 tile
     6 tiles         every tile equals what the entries hash to, the ones of older sizes included
     7 root          the entries lead to the checkpoint's root
     8 events        every entry is an event, signed by its institution, in sequence (`ledger.chain`)

Memory stays flat: one bundle and one tile per level. For a SQLite ledger see `verify_database`, whose checks
are alike. The report lives in `ledger.report`, the printing in `ledger.cli`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

from ledger import checkpoint, finality, note, reader, tiles, tree
from ledger.chain import EventChain
from ledger.checkpoint import Checkpoint
from ledger.encoding import HASH_BYTES
from ledger.errors import InputError
from ledger.event import MalformedEventError, parse_entry
from ledger.export import CHECKPOINT, POLICY, VKEY
from ledger.note import Note, VerifierKey
from ledger.policy import Policy, parse_policy, quorum_policy
from ledger.report import Checklist, Mismatch, Report
from ledger.tile_tree import TileTree
from ledger.tiles import TileName
from ledger.verify_database import verify_database

__all__ = ["Events", "Progress", "verify_database", "verify_directory"]

Events: TypeAlias = Literal["auto", "require", "skip"]
Progress: TypeAlias = Callable[[int, int], None]  # (entries done, entries in all)


class NoLedgerError(InputError):
    code = "ledger.verify.no-ledger"


def verify_directory(
    path: Path,
    *,
    log_vkey: VerifierKey | str | None = None,
    policy: Policy | None = None,
    progress: Progress | None = None,
    events: Events = "auto",
) -> Report:
    """Return the report if every check passed, else raise VerificationFailedError that carries it.

    `events`: "require" that entries are our events, "skip" looking, or "auto": only if entry 0 is one.
    """
    if not (path / CHECKPOINT).is_file():
        raise NoLedgerError("this folder holds no checkpoint", remedy="Name the folder of a static export.")
    run = Checklist()
    key, trusted = _keys(run, path, log_vkey, policy)
    head = _head(run, path, key, trusted, own=policy is None)
    _tree(run, path, head, progress, events)
    return run.report


def _keys(
    run: Checklist, path: Path, log_vkey: VerifierKey | str | None, policy: Policy | None
) -> tuple[VerifierKey, Policy | None]:
    with run.check("keys", "keys to trust") as details:
        taken = []
        if policy is None and (path / POLICY).is_file():
            policy = _own_policy((path / POLICY).read_bytes())
            taken.append(POLICY)
        key = note.parse_vkey(log_vkey) if isinstance(log_vkey, str) else log_vkey
        if key is None and (path / VKEY).is_file():
            key = note.parse_vkey(_line((path / VKEY).read_bytes()))
            taken.append(VKEY)
        if key is None and policy is not None and len(policy.logs) == 1:
            key = policy.logs[0].vkey
        if key is None:
            raise InputError("no log key was given and the folder holds none", code="ledger.verify.no-key")
        if policy is not None and policy.logs and all(log.vkey != key for log in policy.logs):
            raise Mismatch("the log key is not one of the policy's")
        if log_vkey is not None and (path / VKEY).is_file():
            found = _line((path / VKEY).read_bytes())
            if found != str(key):
                raise Mismatch("the folder names another log key than the one given")
        if taken:
            run.report.trusted_on_first_use = True
            run.report.notices.append(
                f"{' and '.join(taken)} came from the folder itself (trust on first use): compare them with "
                "what the members published"
            )
        details.append(f"log key {key}")
    return key, policy


def _own_policy(data: bytes) -> Policy:
    """The policy that an export holds, which must be exactly what a federation's is: nothing weaker."""
    policy = parse_policy(data)
    if len(policy.logs) != 1 or not policy.witnesses:
        raise Mismatch("the folder's policy is not one of a federation")
    expected = quorum_policy(policy.logs[0].vkey, [witness.vkey for witness in policy.witnesses])
    if expected.serialise() != data:
        raise Mismatch("the folder's policy is not the quorum rule over its witnesses")
    return policy


def _head(run: Checklist, path: Path, key: VerifierKey, policy: Policy | None, *, own: bool) -> Checkpoint:
    report = run.report
    data = (path / CHECKPOINT).read_bytes()
    with run.check("checkpoint", "checkpoint parses") as details:
        head, signed = checkpoint.parse(data)
        report.origin, report.size, report.root = head.origin, head.size, head.root
        details.append(f"{head.origin}, size {head.size}, root {head.root.hex()}")
    with run.check("signature", "the log signed it"):
        checkpoint.verify(data, key)
    if policy is None:
        run.skip("quorum", "a quorum of witnesses cosigned it", "no policy was given")
    else:
        with run.check("quorum", "a quorum of witnesses cosigned it") as details:
            finality.finalized(data, log_vkey=key, policy=policy)
            report.cosigners = tuple(item.vkey.name for item in finality.cosignatures(signed, policy))
            details.append(f"{', '.join(report.cosigners)}; needed {policy.describe()}")
            if own and _unknown(signed, key, policy):
                raise Mismatch("the checkpoint carries a signature of nobody whom the policy names")
    if not own or policy is None:
        unknown = len(signed.signatures) - 1 if policy is None else _unknown(signed, key, policy)
        if unknown:
            report.notices.append(f"{unknown} signatures of unknown keys were ignored")
    return head


def _unknown(signed: Note, key: VerifierKey, policy: Policy) -> int:
    known = (key, *(witness.vkey for witness in policy.witnesses), *(log.vkey for log in policy.logs))
    named = {(vkey.name, vkey.key_id) for vkey in known}
    return sum((item.name, item.key_id) not in named for item in signed.signatures)


def _tree(run: Checklist, path: Path, head: Checkpoint, progress: Progress | None, events: Events) -> None:
    def fetch(name: str) -> bytes | None:
        file = path / name
        return file.read_bytes() if file.is_file() else None

    grown, chain = TileTree(), EventChain(head.origin)
    wanted: bool | None = None if events == "auto" else events == "require"
    problem: Exception | None = None
    tile_problem: Mismatch | None = None
    with run.check("entries", "every entry hashes to its leaf") as details:
        for name in tiles.names(head.size, None):
            try:
                bundle = reader.read_bundle(fetch, name)
                data = reader.read_tile(fetch, TileName(0, name.n, name.width))
            except InputError as error:
                raise Mismatch(f"{name.path}: {error.public_message}", index=name.start) from error
            leaves = [tree.leaf_hash(entry) for entry in bundle]
            if b"".join(leaves) != data:
                raise Mismatch(
                    f"{name.path} does not hash to its tile", index=_first_difference(leaves, data, name)
                )
            changed = grown.extend(leaves)
            if tile_problem is None:
                tile_problem = _compare(fetch, changed)
            if wanted is None:
                wanted = _is_event(bundle[0])
            if wanted and problem is None:
                problem = _advance(chain, name.start, bundle)
            if progress is not None:
                progress(min(name.start + name.width, head.size), head.size)
        details.append(f"{head.size} entries")
    with run.check("tiles", "every tile equals the recomputed one"):
        if tile_problem is not None:
            raise tile_problem
        _edge(fetch, grown)
        _others(run.report, path, fetch, head.size)
    with run.check("root", "the entries lead to the root"):
        if grown.root() != head.root:
            raise Mismatch("the root of the entries is not the checkpoint's")
    title = "every event is signed by its institution, in sequence"
    if not wanted:
        run.skip("events", title, "asked to skip" if events == "skip" else "the entries are not events")
        return
    with run.check("events", title) as details:
        if problem is not None:
            raise problem
        details.append(f"{len(chain.members)} members")


def _compare(fetch: reader.Fetch, changed: dict[TileName, bytes]) -> Mismatch | None:
    """Completed tiles above level 0 as they complete; those of the right edge are compared at the end."""
    for name, expected in changed.items():
        if name.level == 0 or name.width < tiles.WIDTH:
            continue
        if fetch(name.path) != expected:
            return Mismatch(f"{name.path} is missing or is not what the entries hash to", index=name.start)
    return None


def _edge(fetch: reader.Fetch, grown: TileTree) -> None:
    """The rightmost, partial tiles above level 0."""
    for level, hashes in enumerate(grown.partial):
        if level == 0 or not hashes:
            continue
        name = TileName(level, tiles.level_size(grown.size, level) // tiles.WIDTH, len(hashes))
        try:
            data = reader.read_tile(fetch, name)
        except InputError as error:
            raise Mismatch(error.public_message, index=name.start) from None
        if data != b"".join(hashes):
            raise Mismatch(f"{name.path} is not what the entries hash to", index=name.start)


def _others(report: Report, path: Path, fetch: reader.Fetch, size: int) -> None:
    """Partial files of older sizes, and files that no check covers."""
    needed = {name.path for level in (None, *range(tiles.levels(size))) for name in tiles.names(size, level)}
    beyond = 0
    for file in sorted((path / "tile").rglob("*")):
        relative = file.relative_to(path).as_posix()
        if not file.is_file() or relative in needed:
            continue
        try:
            name = tiles.parse_path(relative)
        except tiles.TilePathError:
            raise Mismatch(f"{relative} is no tile of a log") from None
        total = tiles.level_size(size, name.level or 0)
        if name.start + name.width > total:
            beyond += 1
            continue
        _older(fetch, name, min(tiles.WIDTH, total - name.start))
    if beyond:
        report.notices.append(f"{beyond} files lie beyond the checkpoint's size and were not checked")


def _older(fetch: reader.Fetch, name: TileName, width: int) -> None:
    """A partial file of an older size is the beginning of the one in force."""
    data = fetch(name.path) or b""
    current = TileName(name.level, name.n, width)
    if name.level is None:
        entries = reader.read_bundle(fetch, current)[: name.width]
        matches = tiles.encode_bundle(entries) == data
    else:
        matches = reader.read_tile(fetch, current)[: name.width * HASH_BYTES] == data
    if not matches:
        raise Mismatch(f"{name.path} is not the beginning of the tile in force", index=name.start)


def _first_difference(leaves: list[bytes], data: bytes, name: TileName) -> int:
    for offset, leaf in enumerate(leaves):
        if data[offset * HASH_BYTES : (offset + 1) * HASH_BYTES] != leaf:
            return name.start + offset
    return name.start


def _is_event(entry: bytes) -> bool:
    try:
        parse_entry(entry)
    except MalformedEventError as error:
        return error.code != "ledger.event.payload-type"
    except InputError:
        return False
    return True


def _advance(chain: EventChain, start: int, bundle: list[bytes]) -> Exception | None:
    for index, entry in enumerate(bundle, start):
        try:
            chain.advance(index, entry)
        except Exception as error:
            return error
    return None


def _line(data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise note.MalformedVkeyError("the log key's file is not text") from None
    if not text.endswith("\n") or text.count("\n") != 1:
        raise note.MalformedVkeyError("the log key's file is one line")
    return text[:-1]
