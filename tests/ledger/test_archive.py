"""Archives: whatever packed them verifies, and none that is hostile is read."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import tarfile
import threading
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from ledger import archive_members
from ledger.archive import Archive, is_archive
from ledger.archive_writer import write_archive
from ledger.errors import CodedError
from ledger.export import export
from ledger.report import VerificationFailedError
from ledger.source import opened, static_files
from ledger.static_files import BUNDLE_BYTES, Folder, OversizedFileError
from ledger.verify import verify_static


@pytest.fixture(scope="module")
def built(make_federation, tmp_path_factory):
    federation, directory = make_federation(), tmp_path_factory.mktemp("built") / "ledger"
    federation.grow(20)
    export(federation.log, directory, federation.cosign(), policy=federation.policy)
    federation.grow(280)
    export(federation.log, directory, federation.cosign(), policy=federation.policy)
    return directory


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def tar_of(path: Path, files: dict[str, bytes], *members: tarfile.TarInfo, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in files.items():
            packed.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CodedError) as caught:
        Archive(path)
    assert caught.value.kind == "input" and str(path.parent) not in caught.value.public_message
    return caught.value.code.removeprefix("ledger.archive.")


# -- what is read ----------------------------------------------------------------------------------------------

TAR = ("tar", "--sort=name")


@pytest.mark.parametrize(
    "pack",
    [
        ("x.tar", *TAR, "-cf", "{out}", "-C", "{parent}", "{name}"),
        ("x.tar", *TAR, "-cf", "{out}", "-C", "{folder}", "."),
        ("x.tar", *TAR, "--format=posix", "-cf", "{out}", "-C", "{parent}", "{name}"),
        ("x.tar", *TAR, "--format=v7", "-cf", "{out}", "-C", "{parent}", "{name}"),
        ("x.tgz", *TAR, "-czf", "{out}", "-C", "{parent}", "{name}"),
        ("no-suffix", *TAR, "-czf", "{out}", "-C", "{folder}", "."),
    ],
    ids=("folder", "dot", "posix", "v7", "gzip", "by content"),
)
def test_what_other_peoples_tar_packed_verifies(built, tmp_path, pack):
    out = tmp_path / pack[0]
    named = {"out": out, "parent": built.parent, "folder": built, "name": built.name}
    subprocess.run([part.format(**named) for part in pack[1:]], check=True)
    assert is_archive(out)
    with static_files(out) as files:
        assert verify_static(files).size == 300
        assert opened(files).prove(299)[0].index == 299


def test_zips_verify_with_and_without_leading_folders(built, tmp_path):
    files = files_of(built)
    for prefix in ("", "ledger/", "run/exchange/ledger/", "./"):
        path = zip_of(tmp_path / "x.zip", {prefix + name: data for name, data in files.items()})
        with static_files(path) as found:
            report = verify_static(found)
        assert report.size == 300 and {check.outcome for check in report.checks} == {"passed"}


def test_our_archive_is_the_same_bytes_whatever_came_before(built, make_federation, tmp_path):
    with Folder(built) as files:
        write_archive(files, tmp_path / "a.tar.gz")
        write_archive(files, tmp_path / "a.tar.gz")
    shutil.copytree(built, tmp_path / "copy")
    (tmp_path / "copy/tile/entries/stray").write_bytes(b"not the checkpoint's")
    for path in (tmp_path / "copy").rglob("*"):
        os.utime(path, (1, 1))
    with Folder(tmp_path / "copy") as files:
        write_archive(files, tmp_path / "b.tar.gz")
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "b.tar.gz", "copy"]
    with Archive(tmp_path / "a.tar.gz") as files:
        assert verify_static(files).size == 300


def test_partial_tiles_of_older_sizes_and_strays_are_looked_for(built, tmp_path):
    files = files_of(built)
    path = zip_of(tmp_path / "x.zip", files | {"tile/0/xyz": b"?"})
    with Archive(path) as found, pytest.raises(VerificationFailedError) as caught:
        verify_static(found)
    assert caught.value.number == 6 and "tile/0/xyz" in str(caught.value)
    tar_of(tmp_path / "x.tar", files | {"tile/0/001.p/3": bytes(96)})
    with Archive(tmp_path / "x.tar") as found, pytest.raises(VerificationFailedError) as caught:
        verify_static(found)
    assert (caught.value.number, caught.value.index) == (6, 256)


@pytest.mark.parametrize("kind", ["x.tar", "x.tar.gz", "x.zip"])
def test_a_changed_byte_fails_the_check_that_it_would_in_a_folder(built, tmp_path, kind):
    files = files_of(built)
    entries = bytearray(files["tile/entries/000"])
    entries[-1] ^= 1
    files["tile/entries/000"] = bytes(entries)
    path = tmp_path / kind
    zip_of(path, files) if kind == "x.zip" else tar_of(path, files, mode="w:gz" if "gz" in kind else "w")
    with Archive(path) as found, pytest.raises(VerificationFailedError) as caught:
        verify_static(found)
    assert (caught.value.number, caught.value.index) == (5, 255)


def test_threads_may_read_at_once(built, tmp_path):
    files = files_of(built)
    with Archive(tar_of(tmp_path / "x.tar", files)) as found:
        wrong = []
        threads = [
            threading.Thread(
                target=lambda: wrong.extend(n for n in list(files) * 20 if found.read(n) != files[n])
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


# -- what is not -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../outside", "a/../../outside", "/etc/passwd", "a//b", "a\\b", "C:/x", "..", "a/./b",
        "line\nbreak", "bell\x07", "",
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_unsafe_names_are_refused(tmp_path, kind, name):
    files = {"checkpoint": b"x", name: b"x"}
    path = tmp_path / "x"
    if kind == "tar":
        tar_of(path, files)
    else:
        zip_of(path, files)
    assert refusal(path) == "path"


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    member = tarfile.TarInfo("policy")
    member.type, member.linkname = kind, "/etc/passwd"
    assert refusal(tar_of(tmp_path / "x.tar", {"checkpoint": b"x"}, member)) == "member"


def test_links_and_encrypted_or_strangely_compressed_members_of_a_zip_are_refused(tmp_path):
    path = tmp_path / "x.zip"
    for mode, method in ((0o120777, zipfile.ZIP_STORED), (0o100644, zipfile.ZIP_BZIP2)):
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("checkpoint", b"x")
            link = zipfile.ZipInfo("policy")
            link.external_attr, link.compress_type = mode << 16, method
            packed.writestr(link, b"/etc/passwd")
        assert refusal(path) == "member"
    data = bytearray(zip_of(path, {"checkpoint": b"x"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1  # the directory's "encrypted" bit
    path.write_bytes(data)
    assert refusal(path) == "member"


def test_a_sparse_member_is_refused(tmp_path):
    with (tmp_path / "policy").open("wb") as file:
        file.truncate(1 << 20)
    (tmp_path / "checkpoint").write_bytes(b"x")
    for kind in ("gnu", "posix"):
        command = ["tar", "-S", f"--format={kind}", "-cf", tmp_path / "x.tar", "-C", tmp_path]
        subprocess.run([*command, "checkpoint", "policy"], check=True)
        assert refusal(tmp_path / "x.tar") == "member"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_and_two_checkpoints_are_refused(tmp_path):
    again = tarfile.TarInfo("policy")
    again.size = 1
    assert refusal(tar_of(tmp_path / "x", {"checkpoint": b"x", "policy": b"1"}, again)) == "duplicate"
    assert refusal(tar_of(tmp_path / "x", {"checkpoint": b"x", "./checkpoint": b"1"})) == "duplicate"
    assert refusal(tar_of(tmp_path / "x", {"a/checkpoint": b"x", "b/checkpoint": b"1"})) == "duplicate"
    with zipfile.ZipFile(tmp_path / "x", "w") as packed:
        for data in (b"1", b"2"):
            packed.writestr("checkpoint", data)
    assert refusal(tmp_path / "x") == "duplicate"


def test_decompression_bombs_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "x"
    with gzip.open(path, "wb") as packed:
        for _ in range(64):
            packed.write(bytes(1 << 20))
    assert path.stat().st_size < 100_000
    assert refusal(path) == "bomb"
    zip_of(path, {"checkpoint": b"x", "tile/entries/000": bytes(64 << 20)})
    assert path.stat().st_size < 100_000
    assert refusal(path) == "bomb"
    monkeypatch.setattr(archive_members, "MAX_UNPACKED_BYTES", 1000)
    assert refusal(tar_of(path, {"checkpoint": b"x", "y": bytes(2000)})) == "bomb"


def test_a_bomb_is_refused_without_filling_the_memory(tmp_path):
    with gzip.open(tmp_path / "x", "wb") as packed:
        for _ in range(256):
            packed.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        assert refusal(tmp_path / "x") == "bomb"
        assert tracemalloc.get_traced_memory()[1] < 48 << 20
    finally:
        tracemalloc.stop()


def test_too_many_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive_members, "MAX_MEMBERS", 5)
    files = {"checkpoint": b"x"} | {f"f{number}": b"" for number in range(5)}
    assert refusal(tar_of(tmp_path / "x", files)) == "bomb"
    assert refusal(zip_of(tmp_path / "x", files)) == "bomb"


def test_endless_headers_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "x"
    tar_of(path, {"n" * (1 << 17): b"", "checkpoint": b"x"})  # a name of 128 KiB in an extended header
    assert refusal(path) == "bomb"
    header = tarfile.TarInfo("x")
    header.type = tarfile.XHDTYPE
    path.write_bytes(header.tobuf(tarfile.USTAR_FORMAT) * 5000)  # headers about headers about headers
    assert refusal(path) == "damaged"
    monkeypatch.setattr(archive_members, "DIRECTORY_BYTES", 200)
    assert refusal(zip_of(path, {"checkpoint": b"x"} | {f"f{n}": b"" for n in range(50)})) == "bomb"


def test_a_member_of_negative_size_ends_nowhere_else(tmp_path):
    path = tar_of(tmp_path / "x", {"checkpoint": b"x"})
    data = bytearray(path.read_bytes())
    data[124:136] = b"\xff" * 10 + b"\xfe\x00"  # base 256: -512, which leads back to the header itself
    data[148:156] = b"%06o\0 " % (sum(data[:148]) + sum(data[156:512]) + 8 * 32)
    path.write_bytes(data)
    assert refusal(path) == "member"


def test_a_member_larger_than_a_logs_file_can_be_is_not_read(built, tmp_path):
    files = files_of(built) | {"tile/0/000": bytes(1 << 20)}
    path = tar_of(tmp_path / "x", files)
    with Archive(path) as found:
        with pytest.raises(OversizedFileError):
            found.read("tile/0/000")
        with pytest.raises(VerificationFailedError) as caught:
            verify_static(found)
    assert (caught.value.number, caught.value.index) == (5, 0)
    (tmp_path / "tile").mkdir()
    (tmp_path / "tile/entries").mkdir()
    with (tmp_path / "tile/entries/000").open("wb") as file:
        file.truncate(BUNDLE_BYTES + 1)
    with pytest.raises(OversizedFileError):
        Folder(tmp_path).read("tile/entries/000")


@pytest.mark.parametrize("claimed", [10, 6000])
def test_a_zip_that_lies_about_a_members_size_is_refused(tmp_path, claimed):
    path = zip_of(tmp_path / "x.zip", {"checkpoint": b"x" * 5000, "policy": b"y"})
    directory = bytearray(path.read_bytes())
    at = directory.index(b"PK\x01\x02") + 24
    directory[at : at + 4] = claimed.to_bytes(4, "little")
    path.write_bytes(directory)
    with Archive(path) as found, pytest.raises(CodedError) as caught:
        found.read("checkpoint")
    assert caught.value.code == "ledger.archive.damaged"


@pytest.mark.parametrize("kind", ["x.tar", "x.tar.gz", "x.zip"])
def test_archives_cut_short_never_verify(built, tmp_path, kind):
    whole = tmp_path / kind
    files = files_of(built)
    if kind == "x.zip":
        zip_of(whole, files)
    else:
        tar_of(whole, files, mode="w:gz" if "gz" in kind else "w")
    data = whole.read_bytes()
    for at in (0, 1, 100, 513, len(data) // 2, len(data) * 9 // 10):
        whole.write_bytes(data[:at])
        with pytest.raises(CodedError) as caught, Archive(whole) as found:
            verify_static(found)
        assert caught.value.kind in ("input", "policy")


def test_every_changed_byte_of_an_archives_frame_is_refused_or_harmless(make_federation, tmp_path):
    """No exception but our own, and never another log than the one that was packed."""
    federation = make_federation()
    federation.grow(3)
    export(federation.log, tmp_path / "e", federation.cosign(), policy=federation.policy)
    for kind in ("x.tar.gz", "x.zip"):
        path, files = tmp_path / kind, files_of(tmp_path / "e")
        zip_of(path, files) if kind == "x.zip" else tar_of(path, files, mode="w:gz")
        data = path.read_bytes()
        for at in range(0, len(data), 7):
            path.write_bytes(data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :])
            try:
                with Archive(path) as found:
                    assert verify_static(found).root == federation.log.root
            except CodedError as error:
                assert error.kind in ("input", "policy")


def test_an_archive_without_a_log_and_no_archive_at_all(tmp_path):
    assert refusal(tar_of(tmp_path / "x", {"readme": b"x"})) == "damaged"
    (tmp_path / "x").write_bytes(b"{}")
    assert not is_archive(tmp_path / "x") and refusal(tmp_path / "x") == "damaged"
