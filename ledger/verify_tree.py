"""The part of `ledger.verify` that walks the entries: bundles, tiles, root and events, in one pass.

Memory stays flat: one bundle and one unfinished tile per level at a time. A file may be partial though the
full one exists, may belong to an older size, or lie beyond the checkpoint; each case is checked or named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

from ledger import reader, tiles, tree
from ledger.chain import EventChain
from ledger.checkpoint import Checkpoint
from ledger.encoding import HASH_BYTES
from ledger.errors import InputError
from ledger.event import MalformedEventError, parse_entry
from ledger.report import Checklist, Mismatch, Report
from ledger.static_files import StaticFiles
from ledger.tile_tree import TileTree
from ledger.tiles import TileName

Events: TypeAlias = Literal["auto", "require", "skip"]
Progress: TypeAlias = Callable[[int, int], None]  # (entries done, entries in all)


def walk(
    run: Checklist, files: StaticFiles, head: Checkpoint, *, progress: Progress | None, events: Events
) -> bytes | None:
    """Run the checks; the founding entry, if the entries are events that were checked."""
    fetch, grown, chain = files.read, TileTree(), EventChain(head.origin)
    files.expect(reader.reading_order(head.size))
    wanted: bool | None = None if events == "auto" else events == "require"
    problem: Exception | None = None
    tile_problem: Mismatch | None = None
    first: bytes | None = None
    with run.check("entries", "every entry hashes to its leaf") as details:
        for name in tiles.names(head.size, None):
            try:
                bundle = reader.read_bundle(fetch, name)
                data = reader.read_tile(fetch, TileName(0, name.n, name.width))
            except InputError as error:
                message = error.public_message
                named = message if name.path in message else f"{name.path}: {message}"
                raise Mismatch(named, index=_first_cut(fetch, name)) from error
            first = bundle[0] if first is None else first
            leaves = tree.leaf_hashes(bundle)
            if b"".join(leaves) != data:
                index = _first_difference(leaves, data, name)
                tile = TileName(0, name.n, name.width).path
                # Either may be the altered one: only the tiles above could tell, and they are not checked yet.
                raise Mismatch(f"{name.path}: entry {index} and its hash in {tile} do not agree", index=index)
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
    with run.check("tiles", "every tile equals the recomputed one") as details:
        if tile_problem is not None:
            raise tile_problem
        _edge(fetch, grown)
        listed = files.names("tile")
        if listed is None:
            details.append("without partial tiles of older sizes and stray files, which nobody can list here")
        else:
            _others(run.report, listed, fetch, head.size)
    with run.check("root", "the entries lead to the root"):
        if grown.root() != head.root:
            raise Mismatch("the root of the entries is not the checkpoint's")
    title = "every event is signed by its institution, in sequence"
    if not wanted:
        run.skip("events", title, "asked to skip" if events == "skip" else "the entries are not events")
        return None
    with run.check("events", title) as details:
        if problem is not None:
            raise problem
        details.append(f"{len(chain.members)} members")
    return first


def _compare(fetch: reader.Fetch, changed: dict[TileName, bytes]) -> Mismatch | None:
    """Completed tiles above level 0 as they complete; those of the right edge are compared at the end."""
    for name, expected in changed.items():
        if name.level == 0 or name.width < tiles.WIDTH:
            continue
        try:
            found = fetch(name.path)
        except InputError as error:
            return Mismatch(error.public_message, index=name.start)
        if found != expected:
            what = "is missing" if found is None else "is not what the entries hash to"
            return Mismatch(f"{name.path} {what}", index=name.start)
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


def _others(report: Report, listed: Iterator[str], fetch: reader.Fetch, size: int) -> None:
    """Partial files of older sizes, and files that no check covers."""
    needed = {name.path for level in (None, *range(tiles.levels(size))) for name in tiles.names(size, level)}
    beyond = 0
    for relative in listed:
        if relative in needed:
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


def _first_cut(fetch: reader.Fetch, name: TileName) -> int:
    """The first entry of a bundle that is not whole; the bundle's first where that is not what is wrong."""
    try:
        data = fetch(name.path) or b""
    except InputError:
        return name.start
    at = whole = 0
    while at + 2 <= len(data) and whole < name.width:
        at += 2 + int.from_bytes(data[at : at + 2])
        whole += at <= len(data)
    return name.start + (whole if whole < name.width else 0)


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
