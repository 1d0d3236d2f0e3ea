"""Static export, the reader that believes nothing, and offline proofs."""

from __future__ import annotations

import pytest

from ledger import checkpoint, proof, tiles, tree
from ledger.errors import CodedError, InputError, VerificationError
from ledger.export import ExportDivergedError, ExportError, export, static_files
from ledger.finality import QuorumError
from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.memory import MemoryStorage
from ledger.proof import MalformedProofError, TlogProof
from ledger.reader import EntryMismatchError, MissingFileError, ReadRangeError, TileMismatchError, TileReader

SIGNER = MemorySigner("log", seed=b"log")


def plain_log(count, *, word="entry"):
    log = Log.create(MemoryStorage(), origin="ledger.example/plain", signer=SIGNER)
    log.append([f"{word} {number}".encode() for number in range(count)])
    return log


def files_of(log, *sizes):
    """What an object store holds after an export at each of these sizes."""
    stored, old = {}, 0
    for size in sizes:
        stored |= dict(static_files(log, old, size))
        old = size
    return stored


# -- files ---------------------------------------------------------------------------------------------------


def test_the_files_of_a_size_are_those_of_the_specification():
    log = plain_log(70_000)
    stored = files_of(log, 70_000)
    wanted = {name.path: name.width * 32 for level in range(3) for name in tiles.names(70_000, level)}
    assert {path: len(data) for path, data in stored.items() if "entries" not in path} == wanted
    assert {path for path in stored if "entries" in path} == {name.path for name in tiles.names(70_000, None)}
    assert len(stored["tile/2/000.p/1"]) == 32 and len(stored["tile/0/273.p/112"]) == 112 * 32
    assert stored["tile/1/000"][:32] == tree.perfect_root(tiles.split(stored["tile/0/000"], 256))


@pytest.mark.parametrize("sizes", [(1, 2, 3), (255, 256, 257), (200, 600, 601, 1024)])
def test_incremental_files_are_enough_at_every_size(sizes):
    log = plain_log(sizes[-1])
    stored = files_of(log, *sizes)
    for size in sizes:
        opened = TileReader(stored.get).at(size, log.root_at(size))
        assert list(opened.entries(0, size)) == list(log.entries(0, size))
        assert opened.inclusion_proof(size // 2) == log.inclusion_proof(size // 2, size)
        assert opened.consistency_proof(size // 2) == log.consistency_proof(size // 2, size)
        assert opened.root_at(size // 2) == log.root_at(size // 2)


def test_only_what_changed_is_written_again():
    log = plain_log(600)
    assert list(static_files(log, 600, 600)) == []
    assert [path for path, _ in static_files(log, 599, 600)] == ["tile/entries/002.p/88", "tile/0/002.p/88"]
    with pytest.raises(ExportError):
        list(static_files(log, 3, 601))


def test_an_export_follows_its_log(tmp_path):
    log = plain_log(300)
    export(log, tmp_path / "x")
    log.append([b"more"] * 300)
    export(log, tmp_path / "x")
    found = {
        path.relative_to(tmp_path / "x").as_posix() for path in (tmp_path / "x").rglob("*") if path.is_file()
    }
    needed = {name.path for level in (None, 0, 1) for name in tiles.names(600, level)}
    # The partial tiles of size 300 are gone where full ones replaced them, and kept where none did.
    assert found == needed | {"checkpoint", "log.vkey", "tile/1/000.p/1"}
    assert (tmp_path / "x" / "checkpoint").read_bytes() == log.checkpoint()


def test_an_export_never_follows_a_rewritten_log(tmp_path):
    log, other = plain_log(5), plain_log(9, word="other")
    older = log.checkpoint()
    log.append([b"entry 5"])
    export(log, tmp_path / "x")
    with pytest.raises(ExportDivergedError):
        export(log, tmp_path / "x", older)
    before = {path: path.read_bytes() for path in (tmp_path / "x").rglob("*") if path.is_file()}
    with pytest.raises(ExportDivergedError):
        export(other, tmp_path / "x")
    with pytest.raises(ExportDivergedError):
        export(plain_log(3), tmp_path / "x")
    with pytest.raises(ExportDivergedError):
        export(log, tmp_path / "x", other.checkpoint())
    assert {path: path.read_bytes() for path in (tmp_path / "x").rglob("*") if path.is_file()} == before


def test_an_export_does_not_mix_with_other_files(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ExportError):
        export(plain_log(1), tmp_path)


# -- reading -------------------------------------------------------------------------------------------------


def test_a_reader_refuses_what_is_not_under_the_root():
    log = plain_log(70_000)
    stored = files_of(log, 70_000)
    root = log.root

    def entry(index):
        return TileReader(stored.get).at(70_000, root).entry(index)

    assert entry(300) == b"entry 300" and entry(69_999) == b"entry 69999"

    def altered(path, change, index):
        original = stored[path]
        stored[path] = change(original)
        try:
            with pytest.raises(CodedError) as caught:
                entry(index)
        finally:
            stored[path] = original
        return type(caught.value)

    def flip(data):
        return data[:-1] + bytes([data[-1] ^ 1])

    assert altered("tile/0/001", flip, 300) is TileMismatchError
    assert altered("tile/1/000", flip, 300) is TileMismatchError
    for edge in ("tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"):
        assert altered(edge, flip, 300) is TileMismatchError
    assert altered("tile/entries/001", flip, 511) is EntryMismatchError
    assert altered("tile/entries/001", lambda data: data[:-1], 300) is tiles.MalformedBundleError
    assert altered("tile/0/001", lambda data: data[:-32], 300) is tiles.MalformedTileError
    assert altered("tile/entries/001", lambda data: stored["tile/entries/002"], 300) is EntryMismatchError
    assert altered("tile/0/001", lambda data: stored["tile/0/002"], 300) is TileMismatchError
    del stored["tile/entries/001"]
    with pytest.raises(MissingFileError):
        entry(300)


def test_a_full_tile_stands_in_for_a_partial_one():
    log = plain_log(600)
    stored = files_of(log, 300, 600)
    del stored["tile/0/001.p/44"], stored["tile/entries/001.p/44"]  # as the export prunes them
    opened = TileReader(stored.get).at(300, log.root_at(300))
    assert list(opened.entries(290, 300)) == [b"entry %d" % number for number in range(290, 300)]


def test_reading_outside_the_tree_is_refused():
    log = plain_log(5)
    opened = TileReader(files_of(log, 5).get).at(5, log.root)
    for call in (lambda: opened.entry(5), lambda: opened.root_at(6), lambda: opened.tile(0, 1)):
        with pytest.raises(ReadRangeError):
            call()
    with pytest.raises(TileMismatchError):
        TileReader(files_of(log, 5).get).at(5, bytes(32))
    with pytest.raises(InputError):
        TileReader({}.get).at(5, log.root)


def test_an_empty_tree_reads_as_empty():
    opened = TileReader({}.get).at(0, tree.EMPTY_ROOT)
    assert list(opened.entries(0, 0)) == []


# -- proofs --------------------------------------------------------------------------------------------------


@pytest.fixture
def proven(federation):
    federation.grow(9)
    note = federation.cosign(["site-a", "site-b", "site-c"])
    return TlogProof(4, federation.log.inclusion_proof(4, 9), note, b"where it came from"), federation


def test_a_proof_verifies_offline(proven):
    made, federation = proven
    data = made.encode()
    assert data.startswith(b"c2sp.org/tlog-proof@v1\nextra d2hlcmU")
    parsed = proof.parse(data)
    assert parsed == made and parsed.encode() == data
    entry = federation.log.entry(4)
    head = parsed.verify(entry, log_vkey=None, policy=federation.policy)
    assert head == checkpoint.parse(federation.log.checkpoint())[0]
    parsed.verify(entry, log_vkey=federation.log.vkey, policy=None)
    with pytest.raises(ValueError):
        parsed.verify(entry, log_vkey=None, policy=None)


def test_a_proof_of_something_else_is_refused(proven):
    made, federation = proven
    entry = federation.log.entry(4)
    for altered in (
        TlogProof(5, made.hashes, made.checkpoint),
        TlogProof(4, made.hashes[:-1], made.checkpoint),
        TlogProof(4, (bytes(32), *made.hashes[1:]), made.checkpoint),
    ):
        with pytest.raises(VerificationError):
            altered.verify(entry, log_vkey=None, policy=federation.policy)
    with pytest.raises(VerificationError):
        made.verify(federation.log.entry(5), log_vkey=None, policy=federation.policy)
    unwitnessed = TlogProof(4, made.hashes, federation.log.checkpoint())
    with pytest.raises(QuorumError):
        unwitnessed.verify(entry, log_vkey=None, policy=federation.policy)


HASH = b"A" * 43 + b"="


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda data: data.replace(b"@v1", b"@v2"), "header"),
        (lambda data: data.replace(b"extra ", b"extra  "), "extra"),
        (lambda data: data.replace(b"extra ", b"more "), "index"),
        (lambda data: data.replace(b"index 4", b"index 04"), "index"),
        (lambda data: data.replace(b"index 4\n", b""), "index"),
        (lambda data: data.replace(b"index 4\n", b"index 4\nAAAA\n"), "hash"),
        (lambda data: data.replace(b"index 4\n", b"index 4\n" + (HASH + b"\n") * 63), "too-long"),
        (lambda data: data.replace(b"index", "ïndex".encode()), "malformed"),
        (lambda data: data.replace(b"\n\n", b"\n"), "malformed"),
    ],
)
def test_malformed_proofs(proven, change, code):
    with pytest.raises(MalformedProofError) as caught:
        proof.parse(change(proven[0].encode()))
    assert caught.value.code == f"ledger.tlog-proof.{code}"
