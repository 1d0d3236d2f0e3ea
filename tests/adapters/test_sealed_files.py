"""Small secrets on a site's disk: what a thief of the file, a neighbour and a flipped bit make of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.home import Home
from adapters.sealed_files import SealedFileError, SealedFiles

SECRET = b"pair key of hospital-a and hospital-b"


def home_at(root: Path) -> Home:
    (root / "keys").mkdir(parents=True)
    (root / "keys" / "patient.secret").write_bytes(os.urandom(32))
    return Home(root)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return home_at(tmp_path / "site")


@pytest.fixture
def files(home: Home) -> SealedFiles:
    return SealedFiles(home, "masking/plan", purpose="masking/plan")


def test_what_is_written_is_read_and_replaced_and_gone(files: SealedFiles, home: Home) -> None:
    assert files.read("chains") is None
    files.remove("chains")  # which is not there
    for data in (SECRET, b"", b"newer"):
        files.write("chains", data)
        assert files.read("chains") == data
    (kept,) = (home.root / "masking" / "plan").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    files.write("key", SECRET)
    files.remove("chains")
    assert files.read("chains") is None and files.read("key") == SECRET
    files.remove_all()
    files.remove_all()
    assert files.read("key") is None and not (home.root / "masking" / "plan").exists()


def test_nothing_of_a_secret_is_readable_and_no_two_writes_look_alike(files: SealedFiles, home: Home) -> None:
    path = home.root / "masking" / "plan" / "key"
    seen = set()
    for _ in range(3):
        files.write("key", SECRET)
        data = path.read_bytes()
        assert data.startswith(b"WRSF\x01") and len(data) == 5 + 12 + len(SECRET) + 16
        assert not any(SECRET[at : at + 6] in data for at in range(len(SECRET) - 6))
        seen |= {data[5:17], data[17:]}
    assert len(seen) == 6


def test_a_file_under_another_name_purpose_or_home_does_not_open(
    files: SealedFiles, home: Home, tmp_path: Path
) -> None:
    """A thief who may rename files cannot bring back yesterday's keys as today's, or one plan's as another's."""
    files.write("1-training", SECRET)
    folder = home.root / "masking" / "plan"
    (folder / "2-training").write_bytes((folder / "1-training").read_bytes())
    neighbour = home_at(tmp_path / "neighbour")
    copied = neighbour.root / "masking" / "plan"
    copied.mkdir(parents=True)
    (copied / "1-training").write_bytes((folder / "1-training").read_bytes())
    for name, reader in [
        ("2-training", files),
        ("1-training", SealedFiles(home, "masking/plan", purpose="masking/other")),
        ("1-training", SealedFiles(neighbour, "masking/plan", purpose="masking/plan")),
    ]:
        with pytest.raises(SealedFileError) as refused:
            reader.read(name)
        assert refused.value.code == "home.sealed-file"
        assert str(home.root) not in refused.value.public_message


def test_a_purpose_and_a_name_cannot_be_moved_into_each_other(home: Home) -> None:
    """Purpose "a" with name "bc" and purpose "ab" with name "c" are two things."""
    SealedFiles(home, "one", purpose="a").write("bc", SECRET)
    (home.root / "one" / "c").write_bytes((home.root / "one" / "bc").read_bytes())
    with pytest.raises(SealedFileError):
        SealedFiles(home, "one", purpose="ab").read("c")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(at=st.integers(0, 5 + 12 + len(SECRET) + 15), bit=st.integers(0, 7))
def test_every_bit_counts(files: SealedFiles, home: Home, at: int, bit: int) -> None:
    files.write("key", SECRET)
    path = home.root / "masking" / "plan" / "key"
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(bytes(data))
    with pytest.raises(SealedFileError):
        files.read("key")


@pytest.mark.parametrize("kept", [0, 1, 5, 16, 17, 20, 32])
def test_a_file_that_was_cut_off_does_not_open(files: SealedFiles, home: Home, kept: int) -> None:
    files.write("key", SECRET)
    path = home.root / "masking" / "plan" / "key"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SealedFileError):
        files.read("key")


def test_a_disk_that_is_full_leaves_the_older_secret(
    files: SealedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write("chains", SECRET)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            files.write("chains", b"newer")
    assert files.read("chains") == SECRET
