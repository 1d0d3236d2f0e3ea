"""A site's consent records on its disk: encrypted, all or nothing, one writer at a time.

    <home>/consent/records        offset size
                                       0    5  "WRCS" and the version, 1
                                       5    8  revision, big endian: 1 for the first write, one more a write
                                      13   12  nonce, drawn anew for every write
                                      25 n+16  AES-256-GCM of a JSON array of `ConsentRecord`, and its tag;
                                               the first 13 bytes are its associated data
    <home>/consent/records.mark   8 bytes revision, 32 bytes HMAC-SHA256: no older copy of the records is believed;
                                  made, with revision 0, before the first records are
    <home>/consent/records.lock   held with flock(2) while the records are written; reading needs no lock, since both
                                  files are replaced whole, and the mark, which is read first, is written last

The key comes from the secret that keys the site's patients (HKDF, own label) and not from a file of its own: without
that secret the patient keys in the records mean nothing, so that a second key could only be lost besides.

The mark is written after the records, so that a crash leaves it behind them and never ahead; records behind the mark
were rolled back, which would bring withdrawn consents back to life. Whoever puts back the whole folder is not noticed
here; the keyed root on the ledger (`policies.consent_tree`) shows it. No file format of others is read here.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import TypeAdapter, ValidationError

from adapters.home import Home, write_atomically
from ledger.allocation import without_collection
from ledger.errors import CodedError, InputError, VerificationError
from policies.consent import ConsentRecord, merged

_PREFIX: Final = b"WRCS\x01"
_HEADER_BYTES: Final = 13
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
_KEY_BYTES: Final = 32
_KEY_LABEL: Final = b"wardround/consent-store/v1"
_MARK_LABEL: Final = b"wardround/consent-mark/v1\x00"
_RECORDS: Final = TypeAdapter(tuple[ConsentRecord, ...])
_LOCK_TRIES: Final = 3000  # not seconds: a machine that stood still is not a writer that hangs
_LOCK_TRY_S: Final = 0.01


class StoreTamperedError(VerificationError):
    """Changed, truncated, or of another key: which of these is not to be known."""

    code = "consent.store-tampered"


class StoreRolledBackError(VerificationError):
    code = "consent.store-rolled-back"


class StoreUnusableError(InputError):
    code = "consent.store-unusable"


class StoreBusyError(CodedError):
    code = "consent.store-busy"


class UnknownPatientError(InputError):
    code = "consent.unknown-patient"


def store_key(secret: bytes) -> bytes:
    """The key of the records (32 bytes) under the site's patient secret."""
    return HKDF(algorithm=hashes.SHA256(), length=_KEY_BYTES, salt=None, info=_KEY_LABEL).derive(secret)


class ConsentStore:
    """Every method reads the disk anew, so that several processes see one truth."""

    def __init__(self, path: Path, key: bytes) -> None:
        """`key`: 32 bytes (`store_key`)."""
        self._path, self._key = path, key
        self._mark = path.with_name(f"{path.name}.mark")
        self._lock = path.with_name(f"{path.name}.lock")

    @classmethod
    def open(cls, home: Home) -> ConsentStore:
        """The site's own store. Nothing is read yet."""
        return cls(home.root / "consent" / "records", store_key(home.patient_secret()))

    def records(self) -> tuple[ConsentRecord, ...]:
        """All records, none if nothing was ever written.

        Raises StoreTamperedError and StoreRolledBackError; there is no consent to act on then.
        """
        return self._read()[1]

    def revision(self) -> int:
        """A number that grows with every write, 0 before the first; microseconds, so that every step may ask.

        It is not authenticated: it tells when to read the records again, which are.
        """
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise _unusable(self._path, error) from None
        try:
            return self._revision_of(os.read(handle, _HEADER_BYTES))
        finally:
            os.close(handle)

    def add(self, records: Iterable[ConsentRecord], *, now_s: int, where: Sequence[str] | None = None) -> int:
        """Take in all records or none (`policies.consent.merged`); returns how many were not on record before.

        `where` names the place of each record for the person who must correct it, "record 1" and so on otherwise.
        Raises ConsentRefusedError with every fault.
        """
        incoming = tuple(records)
        places = [f"record {number}" for number in range(1, len(incoming) + 1)] if where is None else where
        with self._locked():
            revision, known = self._read()
            after = merged(known, incoming, now_s=now_s, where=places)
            if after.added or after.withdrawn:
                self._write(revision + 1, after.records)
            return after.added

    def withdraw(self, patient_key: str, *, policy_version: str | None, now_s: int) -> int:
        """Withdraw every grant of the patient, or those under one version; returns how many that ended, at least 1.

        On the disk when this returns. Raises UnknownPatientError if there is none to end, so that a mistyped
        identifier is never taken for a withdrawal.
        """
        with self._locked():
            revision, known = self._read()
            after = tuple(
                record.withdrawn(now_s)
                if record.withdrawn_at_s is None
                and record.patient_key == patient_key
                and policy_version in (None, record.policy_version)
                else record
                for record in known
            )
            ended = sum(old is not new for old, new in zip(known, after, strict=True))
            if not ended:
                raise UnknownPatientError(
                    "no consent of this patient is on record that is not withdrawn already"
                    + (", under this version" if policy_version is not None else ""),
                    remedy="Check the identifier and the version; nothing was changed.",
                )
            self._write(revision + 1, after)
            return ended

    # -- within --------------------------------------------------------------------------------------------

    def _read(self) -> tuple[int, tuple[ConsentRecord, ...]]:
        """(revision, records), decrypted and not older than the mark."""
        marked = self._marked()
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            if marked:
                raise _rolled_back() from None
            return 0, ()
        except OSError as error:
            raise _unusable(self._path, error) from None
        revision = self._revision_of(data)
        sealed = data[_HEADER_BYTES:]
        try:
            text = AESGCM(self._key).decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], data[:_HEADER_BYTES]
            )
            with without_collection():
                records = _RECORDS.validate_json(text)
        except (InvalidTag, ValidationError, ValueError):
            raise _tampered() from None
        if marked is None:  # or the first write came after it was looked for
            marked = self._marked()
        if marked is None or revision < marked:
            raise _rolled_back()
        return revision, records

    def _write(self, revision: int, records: Sequence[ConsentRecord]) -> None:
        if not self._mark.exists():
            self._write_mark(0)
        header = _PREFIX + revision.to_bytes(8, "big")
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCM(self._key).encrypt(nonce, _RECORDS.dump_json(tuple(records)), header)
        write_atomically(self._path, header + nonce + sealed, mode=0o600)
        self._write_mark(revision)

    def _write_mark(self, revision: int) -> None:
        number = revision.to_bytes(8, "big")
        write_atomically(self._mark, number + self._tag(number), mode=0o600)

    def _marked(self) -> int | None:
        """The highest revision whose write was completed; None if nothing was ever written."""
        try:
            data = self._mark.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(self._mark, error) from None
        if not hmac.compare_digest(data[8:], self._tag(data[:8])):
            raise _tampered()
        return int.from_bytes(data[:8], "big")

    def _tag(self, number: bytes) -> bytes:
        return hmac.digest(self._key, _MARK_LABEL + number, "sha256")

    @staticmethod
    def _revision_of(data: bytes) -> int:
        if len(data) < _HEADER_BYTES or not data.startswith(_PREFIX):
            raise _tampered()
        return int.from_bytes(data[len(_PREFIX) : _HEADER_BYTES], "big")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Be the only writer; the kernel gives the lock up when the process ends, however it ends."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _unusable(self._lock, error) from None
        try:
            for _ in range(_LOCK_TRIES):
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(_LOCK_TRY_S)
            else:
                raise StoreBusyError(
                    "another process holds the consent records",
                    remedy="Wait until it is done, or end it.",
                )
            yield
        finally:
            os.close(handle)


def _tampered() -> StoreTamperedError:
    return StoreTamperedError(
        "the consent records were changed, are not whole, or belong to another key",
        remedy="Put back the newest copy of the folder `consent`; until then nobody counts as consenting.",
    )


def _rolled_back() -> StoreRolledBackError:
    return StoreRolledBackError(
        "the consent records are missing or older than those that were last written",
        remedy="Put back the newest copy of the folder `consent`; an older one would undo withdrawals.",
    )


def _unusable(path: Path, error: OSError) -> StoreUnusableError:
    return StoreUnusableError(
        f"cannot open {path.name} of the consent records: {os.strerror(error.errno or 0)}",
        remedy="Make the folder `consent` of the home readable and writable for this user.",
    )
