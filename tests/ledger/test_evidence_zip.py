"""The file of an evidence package: one spelling, nothing hidden, no byte that does not count."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import evidence_zip, tree
from ledger.archive_members import ArchiveError
from ledger.cli import main
from ledger.errors import CodedError, InputError
from ledger.evidence_package import (
    is_package,
)
from ledger.evidence_verify import verify_package
from ledger.evidence_zip import PackedFiles, pack
from ledger.report import VerificationFailedError
from tests.ledger.packaging import (
    failure,
    with_manifest,
    written,
)

# -- the file itself -----------------------------------------------------------------------------------


def refused_as(path: Path) -> str:
    assert is_package(path)
    with pytest.raises(VerificationFailedError) as caught:
        verify_package(path).close()
    assert caught.value.number == 1
    return caught.value.cause_code


@given(st.dictionaries(st.text("abc/x.", min_size=1, max_size=9), st.binary(max_size=40), max_size=9))
def test_the_same_files_have_one_spelling(files):
    data = pack(files)
    assert data == pack(dict(reversed(files.items())))
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        assert {name: packed.read(name) for name in packed.namelist()} == files


def test_no_other_spelling_of_the_same_files_is_read(members, tmp_path):
    path = tmp_path / "package.zip"
    whole = pack(members)
    for spelt in (
        whole + b"x",
        b"x" + whole,
        whole[:-2] + b"\1\0x",
        whole.replace(b"\x21\x00", b"\x22\x00", 1),
    ):
        path.write_bytes(spelt)
        with pytest.raises(CodedError):
            PackedFiles(path).close()
    for options in ({"compression": zipfile.ZIP_DEFLATED}, {"compression": zipfile.ZIP_STORED}):
        with zipfile.ZipFile(path, "w", **options) as packed:
            for name, data in members.items():
                packed.writestr(name, data)
        assert refused_as(path) == "ledger.archive.member"


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("/etc/passwd", "ledger.archive.path"),
        ("payload/../../x", "ledger.archive.path"),
        ("payload\\x", "ledger.archive.path"),
        ("C:/x", "ledger.archive.path"),
        ("./payload/x", "ledger.archive.member"),
        ("payload/folder/", "ledger.archive.path"),
    ],
)
def test_names_that_mean_another_place_are_refused(members, tmp_path, name, code):
    assert refused_as(written(tmp_path, {**members, name: b""})) == code


def test_one_name_cannot_stand_for_two_files(members, tmp_path):
    path = tmp_path / "package.zip"
    with zipfile.ZipFile(path, "w") as packed, pytest.warns(UserWarning):
        for name in (*members, "payload/accounting.json"):
            packed.writestr(name, members[name])
    assert refused_as(path) == "ledger.archive.duplicate"


def test_a_bomb_is_not_unpacked(members, tmp_path):
    path = tmp_path / "package.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("payload/manifest.json", b"\0" * (256 << 20))
    assert path.stat().st_size < 1 << 20
    assert refused_as(path) == "ledger.archive.bomb"


def test_a_file_that_was_cut_short_is_no_package(members, tmp_path):
    path = written(tmp_path, members)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ArchiveError):
        PackedFiles(path).close()
    assert main(["verify", str(path)]) == 2


def test_more_files_than_a_zip_holds_are_not_packed(monkeypatch):
    monkeypatch.setattr(evidence_zip, "_MAX_MEMBERS", 2)
    with pytest.raises(InputError):
        pack({"a": b"", "b": b"", "c": b""})
    with pytest.raises(InputError):
        pack({"ä": b""})


# -- what is in it -------------------------------------------------------------------------------------


@settings(max_examples=120)
@given(data=st.data())
def test_no_byte_of_the_payload_can_be_changed(members, tmp_path_factory, data):
    """Whoever flips it fixes the zip's checksums too."""
    name = data.draw(st.sampled_from(sorted(name for name in members if name.startswith("payload/"))))
    content = bytearray(members[name] or b"?")
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255)) if members[name] else 0
    assert failure(written(tmp_path_factory.mktemp("flip"), {**members, name: bytes(content)}))


@settings(max_examples=60)
@given(data=st.data())
def test_no_byte_of_the_file_that_counts_can_be_changed(members, tmp_path_factory, data):
    """A raw flip anywhere but in what is told beside the evidence."""
    whole = bytearray(pack(members))
    beside = whole.index(b"detached/sbom.json")
    outside = [*range(beside), *range(beside + 40, len(whole))]
    place = data.draw(st.sampled_from(outside))
    whole[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("flip") / "package.zip"
    path.write_bytes(whole)
    with pytest.raises(CodedError):
        verify_package(path).close()


def test_every_single_file_counts(members, tmp_path):
    for name in members:
        if name == "detached/sbom.json":
            continue
        without = {other: data for other, data in members.items() if other != name}
        assert failure(written(tmp_path, without)) in ("manifest", "package"), name
        renamed = {**without, f"{name}x": members[name]}
        assert failure(written(tmp_path, renamed)) == "manifest", name


@pytest.mark.parametrize(
    "name", ["payload/extra.json", "detached/extra.json", "extra", "payload/ledger/tile/9/000"]
)
def test_nothing_travels_along_unlisted(members, tmp_path, name):
    assert failure(written(tmp_path, {**members, name: b"{}"})) == "manifest"


def test_files_of_no_ledger_are_not_listed_either(members, tmp_path):
    for name in ("payload/ledger/tile/9/000", "payload/ledger/tile/entries/000.p/3", "payload/ledger/notes"):
        assert failure(written(tmp_path, with_manifest({**members, name: b"x"}))) == "manifest"


def test_an_older_size_that_claims_no_entries_is_refused(members, tmp_path):
    empty = {name: data for name, data in members.items() if not name.startswith("payload/ledger/")}
    assert failure(written(tmp_path, with_manifest(empty, size=0, root=tree.EMPTY_ROOT))) == "manifest"
    assert failure(written(tmp_path, with_manifest(members, size=2**53 - 1))) == "manifest"
