"""Another implementation (Go's checksum database, `otherlog/main.go`): each verifies what the other wrote."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ledger import checkpoint, note, tiles, tree
from ledger.event import MAX_ENTRY_BYTES
from ledger.export import export
from ledger.keys import MemorySigner
from ledger.log import Log
from ledger.memory import MemoryStorage
from ledger.reader import TileReader
from ledger.report import VerificationFailedError
from ledger.verify import verify_directory
from tests.parts import need

pytestmark = pytest.mark.xdist_group("go")  # compiled once

SOURCES = Path("/usr/share/gocode")  # where the Debian package puts them
ORIGIN = "other.example/log"
SIZES = [1, 2, 255, 256, 257, 600, 65_537, 70_000]
SIGNER = MemorySigner("log", seed=b"log")


@pytest.fixture(scope="session")
def other(tmp_path_factory):
    """Runs a command of the Go program."""
    found = shutil.which("go") and (SOURCES / "src/golang.org/x/mod/sumdb/tlog").is_dir()
    need("go", found, package="golang-go golang-golang-x-mod-dev")
    folder = tmp_path_factory.mktemp("go")
    shutil.copytree(Path(__file__).parent / "otherlog", folder / "src/otherlog")
    offline = {
        "GO111MODULE": "off",
        "GOPATH": f"{folder}:{SOURCES}",
        "GOCACHE": str(folder / "cache"),
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
    }
    subprocess.run(
        ["go", "build", "-o", folder / "otherlog", "otherlog"],
        check=True, cwd=folder, env=os.environ | offline,
    )  # fmt: skip

    def run(*arguments, stdin=b"", fails=False):
        done = subprocess.run([folder / "otherlog", *arguments], input=stdin, capture_output=True)
        assert (done.returncode != 0) == fails, done.stderr.decode()
        return (done.stderr if fails else done.stdout).decode()

    return run


def entries_of(size):
    """Of any bytes and any length that an entry may have."""
    chosen = random.Random(size)
    edges = [b"", b"\0", b"x" * MAX_ENTRY_BYTES, "ü\n\n— x".encode()]
    return [
        edges[n] if 0 < n < len(edges) else chosen.randbytes(chosen.randrange(1, 40)) for n in range(size)
    ]


@pytest.fixture(scope="session")
def theirs(other, tmp_path_factory):
    """(folder, vkey) of a log that the other implementation wrote."""
    written = {}

    def write(size):
        if size not in written:
            folder = tmp_path_factory.mktemp("theirs")
            vkey = other("write", folder, ORIGIN, stdin=tiles.encode_bundle(entries_of(size))).strip()
            written[size] = folder, vkey
        return written[size]

    return write


@pytest.fixture(scope="session")
def ours(tmp_path_factory):
    """(log, folder) of a log that we wrote, in two exports."""
    written = {}

    def write(size):
        if size not in written:
            folder = tmp_path_factory.mktemp("ours") / "ledger"
            log = Log.create(MemoryStorage(), origin=ORIGIN, signer=SIGNER)
            entries = entries_of(size)
            log.append(entries[: size // 2])
            export(log, folder)
            log.append(entries[size // 2 :])
            export(log, folder)
            written[size] = log, folder
        return written[size]

    return write


# -- they write, we verify -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_their_log_verifies_here(theirs, size):
    folder, vkey = theirs(size)
    report = verify_directory(folder, log_vkey=vkey)
    assert (report.origin, report.size) == (ORIGIN, size)
    assert [check.name for check in report.checks if check.outcome == "passed"] == [
        "keys", "checkpoint", "signature", "entries", "tiles", "root",
    ]  # fmt: skip
    assert report.root == tree.root_of(tree.leaf_hashes(entries_of(size)))
    assert report.notices == []


def test_the_command_line_verifies_their_log(theirs):
    folder, vkey = theirs(257)
    command = [sys.executable, "-m", "ledger", "verify", folder, "--vkey"]
    assert subprocess.run([*command, vkey], capture_output=True).returncode == 0
    mine = str(note.vkey_of(ORIGIN, SIGNER))
    done = subprocess.run([*command, mine], capture_output=True, text=True)
    assert done.returncode == 3 and "check 3 (the log signed it) failed" in done.stderr


@pytest.mark.parametrize(
    ("path", "check", "number", "index"),
    [
        ("checkpoint", "signature", 3, None),
        ("tile/entries/000", "entries", 5, 255),
        ("tile/entries/001.p/1", "entries", 5, 256),
        ("tile/0/000", "entries", 5, 255),
        ("tile/1/000.p/1", "tiles", 6, 0),
    ],
)
def test_a_change_in_their_log_is_named(theirs, tmp_path, path, check, number, index):
    folder, vkey = theirs(257)
    changed = Path(shutil.copytree(folder, tmp_path / "changed"))
    data = bytearray((changed / path).read_bytes())
    data[data.index(b"257") if path == "checkpoint" else -1] ^= 1
    (changed / path).write_bytes(data)
    with pytest.raises(VerificationFailedError) as caught:
        verify_directory(changed, log_vkey=vkey)
    assert (caught.value.code, caught.value.number, caught.value.index) == (
        f"ledger.verify.{check}", number, index,
    )  # fmt: skip


def test_their_tiles_and_ours_are_the_same_bytes(theirs, ours):
    one, two = theirs(600)[0], ours(600)[1]
    for name in (name for level in (None, 0, 1) for name in tiles.names(600, level)):
        assert (one / name.path).read_bytes() == (two / name.path).read_bytes()


# -- we write, they verify -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_our_export_verifies_there(other, ours, size):
    log, folder = ours(size)
    assert other("read", folder, log.vkey).split() == [str(size), base64.b64encode(log.root).decode()]


def test_our_cosigned_federation_verifies_there(other, federation, tmp_path):
    """Their reader passes over witnesses' signatures, as the specification says."""
    federation.grow(9)
    export(federation.log, tmp_path / "x", federation.cosign(), policy=federation.policy)
    assert other("read", tmp_path / "x", federation.log.vkey).startswith("9 ")


@pytest.mark.parametrize("path", ["checkpoint", "tile/entries/000", "tile/0/001.p/1", "tile/1/000.p/1"])
def test_they_notice_a_change_in_our_export(other, ours, tmp_path, path):
    log, folder = ours(257)
    changed = Path(shutil.copytree(folder, tmp_path / "changed"))
    data = bytearray((changed / path).read_bytes())
    data[data.index(b"257") if path == "checkpoint" else -1] ^= 1
    (changed / path).write_bytes(data)
    other("read", changed, log.vkey, fails=True)


def test_they_refuse_another_key(other, ours):
    other("read", ours(2)[1], str(note.vkey_of(ORIGIN, MemorySigner("x"))), fails=True)
    other("read", ours(2)[1], ours(2)[0].vkey.replace("+A", "+B", 1), fails=True)


# -- proofs --------------------------------------------------------------------------------------------------

PLACES = [(1, 0, 1), (2, 1, 1), (255, 128, 254), (256, 255, 255), (257, 256, 256), (257, 0, 1), (600, 512, 300),
          (70_000, 65_536, 65_535), (70_000, 69_999, 70_000), (70_000, 12_345, 65_537)]  # fmt: skip


def test_their_proofs_verify_here(other, theirs):
    for size, index, old in PLACES:
        folder, vkey = theirs(size)
        head = checkpoint.verify((folder / "checkpoint").read_bytes(), vkey)
        (made,) = json.loads(
            other("prove", folder, stdin=json.dumps([{"Index": index, "Old": old}]).encode())
        )
        leaf, root, old_root = (base64.b64decode(made[name]) for name in ("Leaf", "Root", "OldRoot"))
        record, grown = ([base64.b64decode(node) for node in made[name] or []] for name in ("Record", "Tree"))
        assert root == head.root and leaf == tree.leaf_hash(entries_of(size)[index])
        tree.verify_inclusion(leaf, index, size, record, root)
        tree.verify_consistency(old, old_root, size, root, grown)
        reader = TileReader(lambda path, folder=folder: read(folder / path)).at_checkpoint(head)
        assert list(reader.inclusion_proof(index)) == record and list(reader.consistency_proof(old)) == grown


def read(path):
    return path.read_bytes() if path.is_file() else None


def test_our_proofs_verify_there(other, ours):
    made = []
    for size, index, old in PLACES:
        log = ours(size)[0]
        proofs = log.inclusion_proof(index, size), log.consistency_proof(old, size)
        hashes = tree.leaf_hash(log.entry(index)), log.root, log.root_at(old)
        leaf, root, old_root = (base64.b64encode(item).decode() for item in hashes)
        record, grown = ([base64.b64encode(node).decode() for node in proof] for proof in proofs)
        fields = {"Size": size, "Index": index, "Old": old, "Leaf": leaf, "Root": root, "OldRoot": old_root}
        made.append({**fields, "Record": record, "Tree": grown})
    assert other("check", stdin=json.dumps(made).encode()).split() == ["ok"] * len(PLACES)
    wrong = [
        made[-1] | {"Index": 1},
        made[-1] | {"OldRoot": made[0]["Root"]},
        made[-1] | {"Record": made[-2]["Record"]},
    ]
    answers = other("check", stdin=json.dumps(wrong).encode()).splitlines()
    assert [answer.partition(":")[0] for answer in answers] == ["record", "tree", "record"]
