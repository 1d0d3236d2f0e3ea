"""The encrypted records: whole or not at all, nobody's but this site's, and never older than they were."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from adapters.consent import store as module
from adapters.consent.store import ConsentStore, StoreBusyError, store_key
from adapters.home import Home, write_atomically
from adapters.sources.cohort import patient_key
from ledger.errors import CodedError, InputError
from policies.consent import ConsentRecord, ConsentRefusedError

SECRET = bytes(range(32))
KEY = store_key(SECRET)
NOW_S = 1_000


def record(patient: object = "p", *, granted: int = 100, version: str = "2026-1") -> ConsentRecord:
    return ConsentRecord(
        patient_key=sha256(str(patient).encode()).hexdigest(),
        policy_version=version,
        purposes=("research",),
        granted_at_s=granted,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "consent" / "records"


@pytest.fixture
def store(path: Path) -> ConsentStore:
    return ConsentStore(path, KEY)


def code(store: ConsentStore) -> str:
    with pytest.raises(CodedError) as refused:
        store.records()
    return refused.value.code


def test_what_was_added_is_there_for_whoever_opens_next(store: ConsentStore, path: Path) -> None:
    assert store.records() == () and store.revision() == 0
    assert store.add([record("p"), record("q")], now_s=NOW_S) == 2
    assert ConsentStore(path, KEY).records() == (record("p"), record("q"))
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o077 == 0


def test_a_home_has_one_store(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_atomically(tmp_path / "keys" / "patient.secret", SECRET, mode=0o600)
    ConsentStore.open(home).add([record()], now_s=NOW_S)
    assert ConsentStore(home.root / "consent" / "records", KEY).records() == (record(),)


def test_the_revision_grows_with_every_change_and_only_then(store: ConsentStore) -> None:
    store.add([record("p")], now_s=NOW_S)
    assert store.revision() == 1
    assert store.add([record("p")], now_s=NOW_S) == 0 and store.revision() == 1
    assert store.add([], now_s=NOW_S) == 0 and store.revision() == 1
    store.withdraw(record("p").patient_key, policy_version=None, now_s=NOW_S)
    assert store.revision() == 2


def test_one_bad_record_keeps_all_others_out(store: ConsentStore) -> None:
    store.add([record("p")], now_s=NOW_S)
    with pytest.raises(ConsentRefusedError) as refused:
        store.add([record("q"), record("r", granted=5_000), record("q")], now_s=NOW_S)
    assert "record 2" in str(refused.value) and "record 3" in str(refused.value)
    assert store.records() == (record("p"),) and store.revision() == 1


def test_a_withdrawal_ends_every_version_or_one(store: ConsentStore) -> None:
    both = [record("p"), record("p", version="2025-1"), record("q")]
    store.add(both, now_s=NOW_S)
    assert store.withdraw(both[0].patient_key, policy_version="2025-1", now_s=NOW_S) == 1
    assert [each.withdrawn_at_s for each in store.records()] == [None, NOW_S, None]
    assert store.withdraw(both[0].patient_key, policy_version=None, now_s=NOW_S + 5) == 1
    assert [each.withdrawn_at_s for each in store.records()] == [NOW_S + 5, NOW_S, None]


@pytest.mark.parametrize("version", [None, "2025-1"])
def test_a_withdrawal_that_ends_nothing_is_an_error(store: ConsentStore, version: str | None) -> None:
    """A mistyped identifier must not pass for a withdrawal."""
    store.add([record("p")], now_s=NOW_S)
    unknown = record("somebody-else" if version is None else "p").patient_key
    with pytest.raises(InputError) as refused:
        store.withdraw(unknown, policy_version=version, now_s=NOW_S)
    assert refused.value.code == "consent.unknown-patient"
    assert unknown not in str(refused.value) and store.revision() == 1


# Nobody reads it, nobody changes it


def test_no_identifier_and_no_key_of_a_patient_stands_in_any_file(store: ConsentStore, path: Path) -> None:
    identifier = "ZZCANARY^MARKER-4711"
    key = patient_key(identifier, site="hospital-a", secret=SECRET)
    marked = record().model_copy(update={"patient_key": key.hex(), "policy_version": "ZZVERSION"})
    store.add([marked], now_s=NOW_S)
    store.withdraw(key.hex(), policy_version=None, now_s=NOW_S)
    for file in path.parent.iterdir():
        data = file.read_bytes()
        for marker in (b"ZZCANARY", b"ZZVERSION", b"4711", key, key.hex().encode(), b"research"):
            assert marker not in data
    assert len(list(path.parent.iterdir())) == 3, (
        "nothing is left beside the records, their mark and the lock"
    )


def test_the_same_records_are_never_the_same_bytes(tmp_path: Path) -> None:
    files = []
    for name in ("a", "b"):
        ConsentStore(tmp_path / name / "records", KEY).add([record()], now_s=NOW_S)
        files.append((tmp_path / name / "records").read_bytes())
    assert files[0][13:] != files[1][13:]


def test_a_bit_flipped_anywhere_is_noticed(store: ConsentStore, path: Path) -> None:
    store.add([record()], now_s=NOW_S)
    whole = path.read_bytes()
    for place in [*range(0, len(whole), 11), 5, 12, len(whole) - 1]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert code(store) == "consent.store-tampered"
    path.write_bytes(whole)
    assert store.records() == (record(),)


@pytest.mark.parametrize("keep", [0, 1, 12, 13, 20, 25, 40, -1])
def test_a_file_cut_short_is_noticed(store: ConsentStore, path: Path, keep: int) -> None:
    store.add([record()], now_s=NOW_S)
    path.write_bytes(path.read_bytes()[:keep])
    assert code(store) == "consent.store-tampered"


def test_another_sites_key_opens_nothing_and_overwrites_nothing(store: ConsentStore, path: Path) -> None:
    store.add([record()], now_s=NOW_S)
    other = ConsentStore(path, store_key(SECRET[::-1]))
    assert code(other) == "consent.store-tampered"
    with pytest.raises(CodedError):
        other.add([record("q")], now_s=NOW_S)
    assert store.records() == (record(),)


# Nobody puts back an older copy


def test_an_older_copy_would_undo_a_withdrawal_and_is_refused(store: ConsentStore, path: Path) -> None:
    store.add([record()], now_s=NOW_S)
    backup = path.read_bytes()
    store.withdraw(record().patient_key, policy_version=None, now_s=NOW_S)
    path.write_bytes(backup)
    assert code(store) == "consent.store-rolled-back"
    with pytest.raises(CodedError):
        store.add([record("q")], now_s=NOW_S)
    assert path.read_bytes() == backup


def test_nor_without_its_mark_nor_with_a_forged_one(store: ConsentStore, path: Path) -> None:
    store.add([record()], now_s=NOW_S)
    backup, mark = path.read_bytes(), path.with_name("records.mark")
    store.withdraw(record().patient_key, policy_version=None, now_s=NOW_S)
    newest = mark.read_bytes()
    path.write_bytes(backup)
    mark.unlink()
    assert code(store) == "consent.store-rolled-back"
    mark.write_bytes((1).to_bytes(8, "big") + newest[8:])
    assert code(store) == "consent.store-tampered"
    mark.write_bytes(b"")
    assert code(store) == "consent.store-tampered"


def test_records_that_vanished_are_not_taken_for_none(store: ConsentStore, path: Path) -> None:
    store.add([record()], now_s=NOW_S)
    path.unlink()
    assert code(store) == "consent.store-rolled-back"


# Crashes and two at once


@pytest.mark.parametrize("crash_at", ["records", "records.mark"])
def test_a_crash_leaves_the_old_or_the_new_state(
    store: ConsentStore, path: Path, crash_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add([record("p")], now_s=NOW_S)

    def crash(target: Path, data: bytes, *, mode: int = 0o644) -> None:
        if target.name == crash_at:
            raise KeyboardInterrupt
        write_atomically(target, data, mode=mode)

    monkeypatch.setattr(module, "write_atomically", crash)
    with pytest.raises(KeyboardInterrupt):
        store.withdraw(record("p").patient_key, policy_version=None, now_s=NOW_S)
    monkeypatch.undo()

    withdrawn = [each.withdrawn_at_s for each in store.records()]
    assert withdrawn == [None if crash_at == "records" else NOW_S]
    assert store.add([record("q")], now_s=NOW_S) == 1 and len(store.records()) == 2


@pytest.mark.parametrize("crash_at", ["records", "records.mark"])
def test_a_crash_in_the_very_first_write_locks_nobody_out(
    store: ConsentStore, crash_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(target: Path, data: bytes, *, mode: int = 0o644) -> None:
        if target.name == crash_at:
            raise KeyboardInterrupt
        write_atomically(target, data, mode=mode)

    monkeypatch.setattr(module, "write_atomically", crash)
    with pytest.raises(KeyboardInterrupt):
        store.add([record("p")], now_s=NOW_S)
    monkeypatch.undo()
    assert store.records() == ()
    assert store.add([record("p")], now_s=NOW_S) == 1


_ADD_MANY = """
import sys
from pathlib import Path
from tests.adapters.consent.test_store import KEY, NOW_S, ConsentStore, record
store = ConsentStore(Path(sys.argv[1]), KEY)
for number in range(15):
    store.add([record(f"{sys.argv[2]}-{number}")], now_s=NOW_S)
"""


def test_two_writers_at_once_lose_nothing(store: ConsentStore, path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _ADD_MANY, str(path), name],
            cwd=Path(__file__).parents[3],
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    while any(writer.poll() is None for writer in writers):
        store.records()  # a reader beside them never sees half a state
    assert [writer.communicate()[1] for writer in writers] == ["", ""]
    assert len(store.records()) == 30 and store.revision() == 30


def test_a_writer_that_hangs_is_reported(
    store: ConsentStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOCK_TRIES", 2)
    store.add([record()], now_s=NOW_S)
    with store._locked():
        other = ConsentStore(path, KEY)
        with pytest.raises(StoreBusyError):
            other.add([record("q")], now_s=NOW_S)
        assert other.records() == (record(),)  # who reads waits for nobody
    assert other.add([record("q")], now_s=NOW_S) == 1


def test_who_reads_while_the_first_records_are_written_sees_none_or_all(
    store: ConsentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked, looked = ConsentStore._marked, []

    def late(self: ConsentStore) -> int | None:
        found = marked(self)
        if not looked:
            looked.append(found)
            store.add([record("p")], now_s=NOW_S)
        return found

    monkeypatch.setattr(ConsentStore, "_marked", late)
    assert store.records() == (record("p"),) and looked == [None]


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "consent").write_bytes(b"a file in the folder's place")
    store = ConsentStore(tmp_path / "consent" / "records", KEY)
    with pytest.raises(InputError) as refused:
        store.add([record()], now_s=NOW_S)
    assert refused.value.code == "consent.store-unusable"


def test_a_large_hospital_withdraws_one(store: ConsentStore) -> None:
    records = [record(number) for number in range(20_000)]
    store.add(records, now_s=NOW_S)
    assert store.withdraw(records[7].patient_key, policy_version=None, now_s=NOW_S) == 1
    after = store.records()
    assert [one for one in after if one.withdrawn_at_s is not None] == [records[7].withdrawn(NOW_S)]
    assert len(after) == 20_000 and store.revision() == 2
